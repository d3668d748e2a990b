"""How does the day look? Draws gridlock.svg from figures.json, which `gridlock.py --write` measured."""
import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
WIDTH, HEIGHT, LEFT, TOP, GAP = 460, 130, 70, 84, 46
WAYS = {"synchronous": "called synchronously", "waystation": "through Waystation"}
RED, BLUE, GREY, SHADE = "#c0392b", "#1f6fb2", "#6b7280", "#fdecea"
# What each strip shows: title, unit, the member of a second, the colour.
STRIPS = (
    ("users wait (9 of 10 less than this)", "s", "wait_p90", BLUE),
    ("without a good answer", "%", "errors", RED),
    ("good answers a second", "", "good", BLUE),
    ("an order is done after (median of those that ever are)", "s", "done_p50", BLUE),
)


def value(second, member):
    """The number to draw, or None where there is none."""
    seen = second[member]
    return seen * 100 if member == "errors" else seen


def nice(most):
    """A round number at or above."""
    for step in (1, 2, 5, 10, 20, 40, 50, 100, 200):
        if most <= step:
            return step
    return most


def strip(figures, way, row, column):
    title, unit, member, colour = STRIPS[row]
    x0, y0 = LEFT + column * (WIDTH + GAP), TOP + row * (HEIGHT + GAP)
    seconds = figures["seconds"]
    most = 100 if member == "errors" else nice(max(value(one, member) or 0 for lines in seconds.values() for one in lines))
    count = len(seconds[way])
    x = lambda second: x0 + WIDTH * second / count
    y = lambda number: y0 + HEIGHT * (1 - number / most)
    before, slow, _ = figures["phases"]
    parts = [
        f'<rect x="{x(before):.1f}" y="{y0}" width="{x(slow) - x0:.1f}" height="{HEIGHT}" fill="{SHADE}"/>',
        f'<path d="M{x0} {y0}V{y0 + HEIGHT}H{x0 + WIDTH}" fill="none" stroke="{GREY}"/>',
        text(x0, y0 - 8, title, weight="bold"),
    ]
    for number in (0, most / 2, most):
        parts.append(text(x0 - 8, y(number) + 4, f"{number:g}{' ' + unit if unit else ''}", anchor="end", fill=GREY))
    for second in range(0, count + 1, 10):
        parts.append(text(x(second), y0 + HEIGHT + 16, f"{second} s", anchor="middle", fill=GREY))
    pieces, pen = [], "M"
    for at, one in enumerate(seconds[way]):
        number = value(one, member)
        if number is not None:
            pieces.append(f"{pen}{x(at + 0.5):.1f} {y(number):.1f}")
        pen = "M" if number is None else "L"
    parts.append(f'<path d="{"".join(pieces)}" fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round"/>')
    return parts


def text(x, y, words, anchor="start", weight="normal", fill="#111827", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}" font-size="{size}">{words}</text>'


def draw(figures):
    width = LEFT + 2 * WIDTH + GAP + 30
    height = TOP + len(STRIPS) * (HEIGHT + GAP) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img" aria-label="The same day, called synchronously and through Waystation">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(LEFT, 24, f"shop asks orders asks stock; in the shaded time stock takes {figures['slow_ms']} ms instead of "
             f"{figures['good_ms']} ms", size=14),
    ]
    for column, (way, title) in enumerate(WAYS.items()):
        parts.append(text(LEFT + column * (WIDTH + GAP), 52, title, weight="bold", size=15))
        for row in range(len(STRIPS)):
            parts += strip(figures, way, row, column)
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    figures = json.loads((HERE / "figures.json").read_text())
    (HERE / "gridlock.svg").write_text(draw(figures))
