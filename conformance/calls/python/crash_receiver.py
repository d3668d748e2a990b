"""A receiver of callbacks that writes down what it takes before it says so, and may be killed at any moment."""
import argparse
import base64
import hashlib
import hmac
import http.server
import json
import os


def signed(secret, headers, body):
    """Whether one of the signatures is that of Standard Webhooks' v1 by this secret."""
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    good = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{good}" in headers["webhook-signature"].split()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()
    # One write for each line: a kill leaves whole lines, and none that was answered is missing.
    file = os.open(options.file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            event = json.loads(body)
            line = {
                "webhook": self.headers["webhook-id"], "signed": signed(options.secret, self.headers, body),
                "type": event["type"], "data": event["data"],
            }
            os.write(file, json.dumps(line).encode() + b"\n")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
