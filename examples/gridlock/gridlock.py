"""What does one slow service do to a chain of three, called synchronously and through Waystation? Runs both days and prints them side by side.

Exit code 0: measured, and every order that Waystation accepted was done. 1: an accepted order was not done. 2: it could not run.
"""
import argparse
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

import services
from users import ORDERS_A_SECOND, PATIENCE, VISITS_A_SECOND, Users

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
from ports import free_port  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
READY_SECONDS_MAX = 60
# How long after the day the last orders may take.
DRAIN_SECONDS_MAX = 120
GOOD_MS, SLOW_MS = 40, 1000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=float, nargs=3, default=[10, 20, 20], metavar="SECONDS",
                        help="stock is well, slow, well again (default: 10 20 20)")
    parser.add_argument("--server-binary", type=pathlib.Path, help="default: target/release/waystation")
    parser.add_argument("--data", type=pathlib.Path, help="a folder for the server's data; emptied first")
    parser.add_argument("--write", action="store_true", help="write figures.json, from which picture.py draws gridlock.svg")
    return parser.parse_args()


class Day:
    """The services of one way, each a process, from morning to evening."""

    def __init__(self, way, binary, folder, phases):
        self.way, self.phases, self.folder = way, phases, folder / way
        self.folder.mkdir(parents=True)
        self.slow = self.folder / "stock-ms"
        self.ports = {role: free_port() for role in services.THREADS}
        self.waystation = free_port() if way == "waystation" else None
        self.processes = []
        try:
            if self.waystation:
                self.start_waystation(binary)
            self.start_services()
        except BaseException:
            self.end()
            raise

    def start(self, command):
        with (self.folder / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def start_waystation(self, binary):
        config = self.folder / "waystation.toml"
        allow = 'allow = ["127.0.0.1"]\n'
        config.write_text(f'[upstreams]\n{allow}[webhooks]\n{allow}callback_secrets = ["{SECRET}"]\n')
        command = [binary, "serve", "--data", self.folder / "data", "--config", config]
        self.start([*command, "--http", f"127.0.0.1:{self.waystation}", "--amqp", "off", "--amqp-management", "off"])
        until("waystation is ready", lambda: services.ask(self.waystation, "GET", "/v1/operations")[0] == 200, self.last_words)
        callback = f"http://127.0.0.1:{self.ports['orders']}/reserved"
        # Stock is asked for as much at a time as it has threads.
        upstream = {"url": f"http://127.0.0.1:{self.ports['stock']}/reserve", "concurrency": services.THREADS["stock"]}
        for name, spec in (("order", {}), ("stock", {"callback_allow": [callback], "upstream": upstream})):
            status, said = services.ask(self.waystation, "PUT", f"/v1/operations/{name}", spec)
            assert status == 201, said

    def start_services(self):
        self.be(GOOD_MS)
        for role in self.ports:
            command = [sys.executable, HERE / "services.py", role, "--slow", self.slow]
            ports = {**self.ports, **({"waystation": self.waystation} if self.waystation else {})}
            self.start(command + [word for name, port in ports.items() for word in (f"--{name}", str(port))])
        for role in self.ports:
            until(f"{role} listens", lambda: listens(self.ports[role]), self.last_words)

    def be(self, milliseconds):
        """How long stock takes from now on."""
        fresh = self.slow.with_suffix(".new")
        fresh.write_text(str(milliseconds))
        fresh.replace(self.slow)

    def run(self):
        users = Users(self.ports["shop"], sum(self.phases))
        begun = time.monotonic()
        threading.Thread(target=self.change, args=(begun,), daemon=True).start()
        seen = users.come(begun)
        if self.waystation:
            self.outcomes(seen)
        return seen

    def change(self, begun):
        for at, milliseconds in ((self.phases[0], SLOW_MS), (sum(self.phases[:2]), GOOD_MS)):
            time.sleep(max(0.0, begun + at - time.monotonic()))
            self.be(milliseconds)

    def outcomes(self, seen):
        """Asks Waystation when each order was done, waiting for those that are not yet."""
        end = time.monotonic() + DRAIN_SECONDS_MAX
        for one in seen:
            if not one.follow:
                continue
            while True:
                _, call = services.ask(self.waystation, "GET", f"{one.follow}?follow=false")
                if call["state"] == "succeeded":
                    one.done = (call["finished"] - call["created"]) / 1000
                    break
                if time.monotonic() > end:
                    break
                time.sleep(0.1)

    def end(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def last_words(self):
        return (self.folder / "log").read_text(errors="replace")[-2000:]


def listens(port):
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def until(what, check, last_words):
    end = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < end:
        try:
            if check():
                return
        except OSError:
            pass
        time.sleep(0.02)
    print(f"waited too long until {what}; the processes said: {last_words()}", file=sys.stderr)
    sys.exit(2)


def quantile(values, part):
    ordered = sorted(values)
    return ordered[round((len(ordered) - 1) * part)] if ordered else None


def summary(seen, phases):
    """For each phase and kind of request: how many came, how long users waited, how many had no good answer, how many were done."""
    rows, begun = [], 0.0
    for phase, seconds in zip(("well", "slow", "well again"), phases):
        for what in ("order", "visit"):
            some = [one for one in seen if one.what == what and begun <= one.at < begun + seconds]
            done = [one.done for one in some if one.done is not None]
            good = sum(one.is_good for one in some)
            rows.append({
                "phase": phase, "what": what, "came": len(some), "wait_p50": quantile([one.waited for one in some], 0.5),
                "wait_p99": quantile([one.waited for one in some], 0.99), "errors": 1 - good / max(1, len(some)),
                "good_a_second": good / seconds, "done": len(done) / max(1, len(some)),
                "done_p50": quantile(done, 0.5), "done_p99": quantile(done, 0.99),
            })
        begun += seconds
    return rows


def show(value, form):
    return "-" if value is None else form.format(value)


def table(days):
    titles = ("", "", "", "came", "wait p50", "wait p99", "errors", "answered/s", "done", "done p50", "done p99")
    widths = (11, 7, 12, 6, 10, 10, 8, 12, 8, 10, 10)
    print("".join(title.rjust(width) for title, width in zip(titles, widths)))
    for index in range(len(next(iter(days.values())))):
        for way, rows in days.items():
            row = rows[index]
            cells = (
                row["phase"], row["what"], way, str(row["came"]), show(row["wait_p50"], "{:.2f} s"), show(row["wait_p99"], "{:.2f} s"),
                f"{row['errors']:.1%}", f"{row['good_a_second']:.1f}", f"{row['done']:.1%}",
                show(row["done_p50"], "{:.2f} s"), show(row["done_p99"], "{:.2f} s"),
            )
            print("".join(cell.rjust(width) for cell, width in zip(cells, widths)))


def seconds_of(seen, total):
    """For the picture: what each second's requests waited, how many had no good answer, and when its orders were done."""
    lines = []
    for second in range(int(total)):
        some = [one for one in seen if second <= one.at < second + 1]
        lines.append({
            "wait_p50": quantile([one.waited for one in some], 0.5), "wait_p90": quantile([one.waited for one in some], 0.9),
            "errors": 1 - sum(one.is_good for one in some) / max(1, len(some)), "good": sum(one.is_good for one in some),
            "done_p50": quantile([one.done for one in some if one.what == "order" and one.done is not None], 0.5),
        })
    return lines


def main():
    options = arguments()
    binary = options.server_binary or ROOT / "target/release/waystation"
    if not binary.exists():
        print(f"{binary} is not there: cargo build --release, or name it by --server-binary", file=sys.stderr)
        return 2
    folder = options.data or ROOT / "target/gridlock-data"
    shutil.rmtree(folder, ignore_errors=True)
    total, days, lines, lost = sum(options.phases), {}, {}, 0
    for way in ("synchronous", "waystation"):
        day = Day(way, binary, folder, options.phases)
        try:
            seen = day.run()
        finally:
            day.end()
        days[way], lines[way] = summary(seen, options.phases), seconds_of(seen, total)
        lost += sum(one.is_good and one.what == "order" and one.done is None for one in seen)
    table(days)
    if options.write:
        figures = {"phases": options.phases, "good_ms": GOOD_MS, "slow_ms": SLOW_MS, "threads": services.THREADS,
                   "service_patience": services.PATIENCE, "user_patience": PATIENCE, "orders_a_second": ORDERS_A_SECOND,
                   "visits_a_second": VISITS_A_SECOND, "days": days, "seconds": lines}
        (HERE / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"accepted orders that were not done: {lost}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
