"""How is the real server started, killed without warning, and started again on the same data and the same ports?"""
import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "conformance"))
from ports import free_port  # noqa: E402

READY_SECONDS_MAX = 60
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = f'''[webhooks]
allow = ["127.0.0.1"]
callback_secrets = ["{SECRET}"]
[upstreams]
allow = ["127.0.0.1"]
'''


class Server:
    def __init__(self, binary, data):
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        self.binary, self.data, self.process = binary, data, None
        self.http, self.amqp = free_port(), free_port()
        (data / "waystation.toml").write_text(CONFIG)

    def start(self):
        command = [self.binary, "serve", "--data", self.data / "data", "--config", self.data / "waystation.toml"]
        command += ["--http", f"127.0.0.1:{self.http}", "--amqp", f"127.0.0.1:{self.amqp}", "--amqp-management", "off"]
        with (self.data / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + READY_SECONDS_MAX
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the server does not start; it said: {(self.data / 'log').read_text()[-2000:]}")
            time.sleep(0.01)

    def is_ready(self):
        try:
            return Client(self.http).once("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Client:
    """One kept connection. What breaks is an OSError, and begun anew."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def once(self, method, path, body=None, headers=None):
        """One try: status, headers, body."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self.connection.request(method, path, body, headers or {})
            answer = self.connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            raise ConnectionError(str(error)) from error

    def json(self, method, path, body=None):
        """Repeats what may be repeated until it is answered well."""
        headers = {"content-type": "application/json"} if body is not None else {}
        data = json.dumps(body) if body is not None else None
        end = time.monotonic() + READY_SECONDS_MAX
        while True:
            try:
                status, _, text = self.once(method, path, data, headers)
                if status < 300:
                    return json.loads(text)
                if status < 429:
                    raise AssertionError(f"{method} {path}: {status}: {text.decode(errors='replace')}")
            except OSError:
                pass
            if time.monotonic() > end:
                raise AssertionError(f"{method} {path} was not answered in {READY_SECONDS_MAX} s")
            time.sleep(0.05)


class Party(threading.Thread):
    """A thread of the test. What it raises is kept for the account."""

    def __init__(self, run, *arguments):
        super().__init__(daemon=True)
        self.work, self.arguments, self.error = run, arguments, None

    def run(self):
        try:
            self.work(*self.arguments)
        except BaseException as error:  # noqa: told in the account
            self.error = f"{self.work.__name__}: {type(error).__name__}: {error}"
