"""Who is asked by HTTP: notes the trace context of each request, and answers as it is told to."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Service:
    """`answers` are statuses of the next requests, 200 when there are none left."""

    def __init__(self):
        self.asked, self.answers, self.lock = [], [], threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                with service.lock:
                    service.asked.append((self.path, self.headers.get("traceparent", "")))
                    status = service.answers.pop(0) if service.answers else 200
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def parents(self, path):
        """The spans that requests to a path came from, as each says."""
        with self.lock:
            return [trace.split("-")[2] for asked, trace in self.asked if asked.split("?")[0] == path]
