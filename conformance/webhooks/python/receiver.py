"""A receiver of webhooks, and the means to declare pushes to it."""
import http.server
import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "amqp091" / "python"))
import harness  # noqa: E402

FORMATS = ["binary", "structured", "batch", "raw"]


class Receiver:
    """Keeps what comes and answers 204."""

    def __init__(self):
        self.seen = seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook?x=1"

    def wait(self, count):
        harness.eventually(lambda: len(self.seen) >= count)
        harness.equal(len(self.seen), count, "requests")
        return self.seen

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Push:
    """A queue of its own that is pushed to a receiver of its own."""

    def __init__(self, server, secrets, format="binary", **more):
        self.server, self.receiver = server, Receiver()
        self.queue = harness.fresh("pushed")
        dead = harness.fresh("dead")
        self.ask("PUT", f"/v1/queues/{dead}", {})
        self.ask("PUT", f"/v1/queues/{self.queue}", {"dead_letter": dead})
        declared = {"queue": self.queue, "url": self.receiver.url, "secrets": secrets, "format": format, **more}
        self.ask("PUT", f"/v1/pushes/{self.queue}", declared)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ask("DELETE", f"/v1/pushes/{self.queue}")
        self.receiver.close()

    def ask(self, method, path, body=None, headers=None):
        status, _, data = self.server.request(method, path, body, headers)
        assert 200 <= status < 300, f"{method} {path} gave {status}: {data}"
        return json.loads(data) if data else None

    def publish(self, body, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.ask("POST", f"/v1/queues/{self.queue}/messages", body, {"content-type": "application/json", **named})

    def one(self):
        return self.receiver.wait(1)[0]
