"""What are the three services? `shop` takes orders from users and asks `orders`, which asks `stock`. Each is a process with a bounded pool.

Synchronously each waits in one of its threads for the next. Through Waystation each hands its call over and goes on: `orders` takes its
calls from Waystation and hears of stock's outcome by callback; `stock` is the same HTTP service as ever, asked by Waystation.
"""
import argparse
import concurrent.futures
import http.client
import http.server
import json
import pathlib
import socketserver
import threading
import time

# Threads of each service's pool, as application servers have them. Stock's are few: it is a small service.
THREADS = {"shop": 16, "orders": 16, "stock": 4}
# Connections that wait for a thread; one more is turned away with 503.
BACKLOG = 64
# Seconds that each gives the next before it gives up.
PATIENCE = {"shop": 3.0, "orders": 2.0}
# Seconds that a call may stay with a worker, who is done with an order when stock is done with its part.
LEASE_MS = 600_000


class Pool(socketserver.TCPServer):
    """A server that answers from a bounded pool of threads, with a bounded line of connections in front of it."""

    allow_reuse_address, request_queue_size = True, 128

    def __init__(self, port, threads, routes):
        self.pool = concurrent.futures.ThreadPoolExecutor(threads)
        self.room = threading.BoundedSemaphore(threads + BACKLOG)
        super().__init__(("127.0.0.1", port), handler(routes))

    def process_request(self, request, address):
        if not self.room.acquire(blocking=False):
            request.sendall(b"HTTP/1.0 503 Busy\r\ncontent-length: 0\r\n\r\n")
            return self.shutdown_request(request)
        self.pool.submit(self.attend, request, address)

    def attend(self, request, address):
        try:
            self.finish_request(request, address)
        except OSError:
            # The caller has given up. That it was worked for in vain is part of the picture.
            pass
        finally:
            self.shutdown_request(request)
            self.room.release()


def handler(routes):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.answer(*routes[self.path](json.loads(body) if body else None))

        def do_GET(self):
            self.answer(*routes[self.path](None))

        def answer(self, status, document):
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def ask(port, method, path, document=None, patience=60.0, headers=None):
    """One request; status and JSON. A time-out or a broken connection is an OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()


class Stock:
    """Reserves; how long that takes is written in a file, so that the day can go bad."""

    def __init__(self, slow):
        self.slow = slow

    def reserve(self, order):
        time.sleep(float(self.slow.read_text()) / 1000)
        return 200, {"order": order, "reserved": True}


def asked(next_port, path, patience):
    """A service that waits for the next one, with its patience."""

    def run(order):
        try:
            status, document = ask(next_port, "POST", path, order, patience)
            return (200, document) if status == 200 else (502, {"error": f"the next service answered {status}"})
        except OSError as error:
            return 504, {"error": str(error) or "the next service took too long"}

    return run


def synchronous(role, options):
    routes = {
        "shop": lambda: {"/order": asked(options.orders, "/order", PATIENCE["shop"]), "/catalog": catalog},
        "orders": lambda: {"/order": asked(options.stock, "/reserve", PATIENCE["orders"])},
        "stock": lambda: {"/reserve": Stock(options.slow).reserve},
    }[role]()
    serve(role, options, routes)


def catalog(_):
    """What needs no other service."""
    return 200, {"items": ["book", "lamp"]}


def through_waystation(role, options):
    server = options.waystation
    if role == "shop":
        serve(role, options, {"/order": lambda order: called(server, "order", order), "/catalog": catalog})
    elif role == "orders":
        # The two calls that orders makes for one order: stock's is made when the order comes, its own is done when stock's is.
        url = f"http://127.0.0.1:{options.orders}/reserved"

        def begin(call):
            part = {"order": call["id"], "attempt": call["attempt"]}
            key = {"idempotency-key": f'"{call["id"]}"', "ws-callback-url": url}
            status, said = called(server, "stock", part, key)
            assert status == 202, said

        def reserved(event):
            part = event["data"]["result"]["body"]["order"]
            complete(server, part["order"], part["attempt"], {"ordered": True})
            return 200, {}

        work(server, "order", THREADS["orders"] // 4, begin)
        serve(role, options, {"/reserved": reserved})
    else:
        synchronous(role, options)


def called(server, operation, document, headers=None):
    """Hands a call over: it is durable when the answer comes, and the address is where its outcome will be."""
    status, call = ask(server, "POST", f"/v1/calls/{operation}", document, PATIENCE["shop"], headers)
    return (202, {"follow": call["links"]["self"]}) if status == 202 else (502, call)


def complete(server, id, attempt, document):
    status, said = ask(server, "POST", f"/v1/calls/{id}/complete?attempt={attempt}", document)
    # A callback may come twice: then the call has its outcome.
    assert status in (200, 409), said


def work(server, operation, threads, run):
    """Workers that take a call, do it, and take the next."""

    def loop():
        while True:
            path = f"/v1/operations/{operation}/receive?wait_ms=5000&lease_ms={LEASE_MS}"
            try:
                _, page = ask(server, "POST", path)
                for call in page["calls"]:
                    run(call)
            except OSError:
                # What was not completed comes again when its lease has run out.
                time.sleep(0.1)

    for _ in range(threads):
        threading.Thread(target=loop, daemon=True).start()


def serve(role, options, routes):
    Pool(getattr(options, role), THREADS[role], routes).serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=THREADS)
    for name in (*THREADS, "waystation"):
        parser.add_argument(f"--{name}", type=int, metavar="PORT", help=f"where {name} listens")
    parser.add_argument("--slow", type=pathlib.Path, help="the file with the milliseconds that stock takes")
    options = parser.parse_args()
    (through_waystation if options.waystation else synchronous)(options.role, options)


if __name__ == "__main__":
    main()
