"""Four services, one poisoned order: runs them against a server of their own, finds order 4711, mends it and lets it go on.

Exit code 0: every order was shipped, 4711 after it was mended. 1: something was not as the README says. 2: it could not run.
"""
import argparse
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "conformance"))
from ports import free_port  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
POISON, FIRST, COUNT = "4711", 4700, 20
PATIENCE_SECONDS = 60


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server-binary", type=pathlib.Path, default=ROOT / "target/release/waystation")
    parser.add_argument("--shipping-binary", type=pathlib.Path, required=True, help="what `cargo build` makes in shipping/")
    parser.add_argument("--data", type=pathlib.Path, default=HERE / "data", help="a folder for the server's data; emptied first")
    return parser.parse_args()


def until(what, check):
    """Asks until it is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.1)


class System:
    """The server and the services, each a process."""

    def __init__(self, options):
        shutil.rmtree(options.data, ignore_errors=True)
        options.data.mkdir(parents=True)
        self.options, self.processes, self.heard = options, [], []
        self.http, self.amqp, self.licences = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.amqp}/"

    def start(self, name, *command):
        with (self.options.data / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append((name, process))

    def said(self, name):
        return (self.options.data / f"{name}.log").read_text(errors="replace")

    def begin(self):
        self.start("licences", sys.executable, HERE / "licences/licences.py", "--port", self.licences)
        self.start(
            "server", self.options.server_binary, "serve", "--data", self.options.data / "data", "--http", f"127.0.0.1:{self.http}",
            "--amqp", f"127.0.0.1:{self.amqp}", "--amqp-management", "off", "--upstream-allow", "127.0.0.1",
        )
        until("the server is ready", lambda: " is ready at " in self.said("server"))
        topology = (HERE / "topology.toml").read_text().replace("LICENCES", f"http://127.0.0.1:{self.licences}/")
        (self.options.data / "topology.toml").write_text(topology)
        self.waystation("apply", self.options.data / "topology.toml")
        self.start("stock", "node", HERE / "stock/stock.js", self.url)
        self.start("shipping", self.options.shipping_binary, self.url + "%2f")
        until("the services are ready", lambda: all(f"{name} is ready" in self.said(name) for name in ("stock", "shipping")))

    def end(self):
        for _, process in reversed(self.processes):
            process.terminate()
        for _, process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()

    def waystation(self, *arguments):
        """One command, as one types it; gives the JSON that it writes."""
        command = [self.options.server_binary, "--server", f"http://127.0.0.1:{self.http}", "--json", *map(str, arguments)]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert ran.returncode == 0, f"{' '.join(map(str, arguments))} ended with {ran.returncode}: {ran.stderr or ran.stdout}"
        return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith(("{", "["))]

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{method} {path}: {answer.status}: {text}"
        return json.loads(text)

    def shipped(self):
        """The numbers of the orders whose shipping marketing has heard of by now: its subscription is worked off by HTTP."""
        events = self.ask("POST", "/v1/subscriptions/marketing/receive?max=100")["messages"]
        done = [{"tag": event["tag"], "attempt": event["attempt"], "outcome": "accept"} for event in events]
        if done:
            self.ask("POST", "/v1/subscriptions/marketing/settle", {"settlements": done})
        self.heard += [str(event["body"]["order"]) for event in events if event.get("type") == "order.shipped"]
        return sorted(self.heard)


def walk(system):
    subprocess.run(
        [sys.executable, HERE / "shop/shop.py", "--amqp", system.url + "%2f", "--first", str(FIRST), "--count", str(COUNT)], check=True,
    )
    others = sorted(str(number) for number in range(FIRST, FIRST + COUNT) if str(number) != POISON)
    until("all orders but one are shipped", lambda: system.shipped() == others)
    print(f"{len(others)} orders are shipped; where is {POISON}?")

    [journey] = system.waystation("trace", f"order:{POISON}")
    stops = journey["stops"]
    assert any("stock.dead" in json.dumps(stop) for stop in stops), f"it should have stopped at stock.dead: {stops}"
    print(f"it stopped: {json.dumps(stops[0])}")

    [dead] = system.waystation("dead", "list")
    [group] = dead["groups"]
    assert (group["messages"], group["queues"], group["origins"]) == (1, {"stock.dead": 1}, {"stock": 1}), group
    system.waystation("redrive", "start", "--group", group["id"], "--jq", ".quantity = 2", "--yes")
    until(f"{POISON} is shipped", lambda: system.shipped() == sorted([*others, POISON]))
    [journey] = system.waystation("trace", f"order:{POISON}")
    assert not any("stock.dead" in json.dumps(stop) for stop in journey["stops"]), journey["stops"]
    print(f"{POISON} is mended and shipped; every order was shipped once")


def main():
    options = arguments()
    system = System(options)
    try:
        system.begin()
        walk(system)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        for name, _ in system.processes:
            print(f"--- {name}: {system.said(name)[-1500:]}", file=sys.stderr)
        print(f"FAILED: {error}", file=sys.stderr)
        return 1 if isinstance(error, AssertionError) else 2
    finally:
        system.end()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
