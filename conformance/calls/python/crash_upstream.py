"""A slow HTTP service that knows nothing of calls. It writes down what it did before it says so, and may be killed at any moment."""
import argparse
import http.server
import json
import os
import time

# What it takes for one request.
WORK_SECONDS = 0.02


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", required=True)
    options = parser.parse_args()
    file = os.open(options.file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(WORK_SECONDS)
            # No two answers are alike, so that it is seen which became the outcome.
            answer = {"result": f"{os.getpid()}-{time.monotonic_ns()}"}
            os.write(file, json.dumps({"key": self.headers["idempotency-key"], "answer": answer}).encode() + b"\n")
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
