"""How does a party talk to the server: one kept connection, patience while the server is down, errors told?"""

import http.client
import json
import time

PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.02
AGAIN = {429, 500, 502, 503, 504}


class Unanswered(Exception):
    """The connection broke: whether the request took effect is unknown."""


class Refused(Exception):
    """The server understood and said no; its problem document is the text."""


class Client:
    def __init__(self, port: int):
        self.port = port
        self.connection = None
        self.unanswered = 0

    def once(self, method: str, path: str, body=b"", content_type="application/json"):
        """One try: the decoded answer, Unanswered or Refused."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self.connection.request(method, path, body, {"Content-Type": content_type} if body else {})
            response = self.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.connection = None
            raise Unanswered(str(error)) from error
        if response.status in AGAIN:
            raise Unanswered(f"{response.status}: {text[:500]!r}")
        if response.status >= 300:
            raise Refused(f"{method} {path}: {response.status}: {text.decode(errors='replace')}")
        return json.loads(text) if text else {}

    def until_answered(self, method: str, path: str, body=b"", content_type="application/json"):
        """Repeats a request that may be repeated until an answer comes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.once(method, path, body, content_type)
            except Unanswered:
                self.unanswered += 1
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)
