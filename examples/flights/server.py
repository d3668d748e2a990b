"""How is the server started, asked whether it is ready, killed, and started again on the same data?"""

import http.client
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "conformance"))
from ports import free_port  # noqa: E402

READY_SECONDS_MAX = 60


class Server:
    def __init__(self, binary: Path, data: Path, log: Path):
        self.binary, self.data, self.log = binary, data, log
        self.port = free_port()
        self.process = None
        self.restarts = []
        self.lock = threading.Lock()

    def start(self):
        """Starts the server and returns when it is ready."""
        begun = time.monotonic()
        command = [str(self.binary), "serve", "--data", str(self.data), "--http", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        while not self.is_ready():
            if self.process.poll() is not None:
                sys.exit(f"the server ended with {self.process.returncode}; it said: {self.last_words()}")
            if time.monotonic() - begun > READY_SECONDS_MAX:
                self.stop()
                sys.exit(f"the server is not ready after {READY_SECONDS_MAX} s; it said: {self.last_words()}")
            time.sleep(0.005)
        return time.monotonic() - begun

    def is_ready(self) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def kill_and_restart(self):
        """SIGKILL: no handler runs, nothing is flushed."""
        with self.lock:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.restarts.append(self.start())

    def stop(self):
        """The polite end; a server that does not drain is killed."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "nothing"
