"""The licences: an HTTP service as it always was. It knows nothing of queues, and is asked like by anybody else."""
import argparse
import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Licences(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        line = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = hashlib.sha256(f"{line['order']} {line['item']}".encode()).hexdigest()[:12]
        answer = {"order": line["order"], "lines": line["lines"], "address": line["address"], "item": f"licence {key}"}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7480)
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Licences)
    print("licences are ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
