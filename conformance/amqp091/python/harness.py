"""Which scenarios does a client have, and how did each end? A line for each, the sum as the last line.

A scenario is a function whose name is a sentence. It takes the server and raises when something is not as it must be.
"""
import argparse
import asyncio
import base64
import inspect
import json
import signal
import ssl
import sys
import time
import traceback
import urllib.error
import urllib.parse
import urllib.request
import uuid

SCENARIOS = []
# A scenario that takes longer hangs: the slowest that is well takes some ten seconds, on a machine that is busy many times as long.
SCENARIO_SECONDS_MAX = 180


class Skip(Exception):
    """Raised by a scenario that cannot hold here, with the reason."""


def scenario(function):
    SCENARIOS.append(function)
    return function


def fresh(label):
    """A name that no other scenario has."""
    return f"{label}-{uuid.uuid4().hex[:10]}"


class Server:
    """Where the server listens, who may log in, and what it calls itself."""

    def __init__(self, options):
        self.host, self.port, self.http = options.host, options.port, options.http
        self.user, self.password = options.user, options.password
        self.management = options.management or options.http
        self.tls_port, self.certificate = options.tls_port, options.certificate
        self.is_reference = options.reference

    @property
    def url(self):
        return f"amqp://{self.user}:{self.password}@{self.host}:{self.port}/"

    def tls_context(self):
        return ssl.create_default_context(cafile=self.certificate)

    def only_ours(self, why):
        if self.is_reference:
            raise Skip(why)

    def request(self, method, path, body=None, headers=None, user=None, password=None, base=None):
        """One HTTP request; gives status, headers and body."""
        base = base or self.http
        if base is None:
            raise Skip("no HTTP address was given")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(base + path, data=data, method=method)
        login = f"{user or self.user}:{password or self.password}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(login).decode())
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            context = self.tls_context() if base.startswith("https") else None
            with urllib.request.urlopen(request, timeout=20, context=context) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def api(self, method, path, body=None, **login):
        """The management API: gives status and the JSON that came, or None."""
        status, _, data = self.request(method, "/api/" + path, body, base=self.management, **login)
        return status, json.loads(data) if data.strip().startswith((b"{", b"[")) else None


def quoted(name):
    return urllib.parse.quote(name, safe="")


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what + ': ' if what else ''}got {got!r}, wanted {wanted!r}")


def eventually(check, seconds=10.0, every=0.05):
    """Asks until `check` gives something true, and gives that."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not become true within {seconds} s: {inspect.getsource(check).strip()}")
        time.sleep(every)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--http", help="base address of the HTTP API, without a slash at the end")
    parser.add_argument("--management", help="the same of the management API, where it is another one")
    parser.add_argument("--user", default="guest")
    parser.add_argument("--password", default="guest")
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--certificate", help="the certificate that the TLS port shows")
    parser.add_argument("--reference", action="store_true", help="the server is RabbitMQ")
    parser.add_argument("--only", action="append", default=[], help="part of a scenario's name")
    parser.add_argument("--verbose", action="store_true", help="print where a failure came from")
    return parser.parse_args()


def run(one, server):
    """Runs one scenario to its end or its time limit."""
    if inspect.iscoroutinefunction(one):
        asyncio.run(asyncio.wait_for(one(server), SCENARIO_SECONDS_MAX))
        return

    def expired(*_):
        raise TimeoutError(f"took longer than {SCENARIO_SECONDS_MAX} s")

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(SCENARIO_SECONDS_MAX)
    try:
        one(server)
    finally:
        signal.alarm(0)


def main():
    chosen = options()
    server = Server(chosen)
    counts = {"ok": 0, "FAILED": 0, "skipped": 0}
    for one in SCENARIOS:
        if chosen.only and not any(part in one.__name__ for part in chosen.only):
            continue
        begun, detail = time.monotonic(), ""
        try:
            run(one, server)
            word = "ok"
        except Skip as why:
            word, detail = "skipped", str(why)
        except BaseException as error:  # noqa: a client's library may raise anything
            if isinstance(error, KeyboardInterrupt):
                raise
            word, detail = "FAILED", f"{type(error).__name__}: {error}".replace("\n", " ")
            if chosen.verbose:
                traceback.print_exc()
        counts[word] += 1
        name = one.__name__.replace("_", " ")
        print(f"{word:8}{time.monotonic() - begun:6.1f} s  {name}{': ' + detail if detail else ''}", flush=True)
    print(f"{counts['ok']} passed, {counts['FAILED']} failed, {counts['skipped']} skipped")
    sys.exit(1 if counts["FAILED"] else 0)
