"""Which processes are killed besides the server? A receiver of callbacks, and an upstream: an HTTP service that knows nothing of calls."""
import json
import pathlib
import subprocess
import sys
import time

from server import SECRET
from ports import free_port

HERE = pathlib.Path(__file__).resolve().parent


class Process:
    """One of the scripts beside this file. What it takes it writes down, as lines, before it answers."""

    def __init__(self, script, data, *arguments):
        self.script, self.arguments, self.process, self.restarts = script, arguments, None, 0
        self.port, self.file = free_port(), data / f"{script.removesuffix('.py')}.ndjson"
        self.url = f"http://127.0.0.1:{self.port}/"
        self.file.touch()

    def start(self):
        command = [sys.executable, HERE / self.script, "--port", str(self.port), "--file", self.file, *self.arguments]
        # A killed server leaves its requests behind: that they break is no news.
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, pause):
        self.kill()
        time.sleep(pause)
        self.start()
        self.restarts += 1

    def is_alive(self):
        return self.process.poll() is None

    def lines(self):
        return [json.loads(line) for line in self.file.read_bytes().splitlines()]


def receiver(data):
    return Process("crash_receiver.py", data, "--secret", SECRET)


def upstream(data):
    return Process("crash_upstream.py", data)
