"""Who takes part: one publisher, competing workers, a subscriber that is away for a while?"""

import json
import threading
import time

from client import Client, Refused, Unanswered

TOPIC, QUEUE, SUBSCRIPTION = "flights", "late-flights", "board"
PARTITIONS = 4
CHUNK = 1000
LEASE_MS = 5_000
DEDUPLICATION_MS = 3_600_000
NDJSON = "application/x-ndjson"


def declare(client: Client):
    """Everything that the example needs; repeating it changes nothing."""
    put = lambda path, spec: client.until_answered("PUT", path, json.dumps(spec).encode())
    put(f"/v1/topics/{TOPIC}", {"partitions": PARTITIONS})
    put(f"/v1/queues/{QUEUE}", {"deduplication_ms": DEDUPLICATION_MS})
    put(f"/v1/subscriptions/{SUBSCRIPTION}", {"topic": TOPIC, "mode": "competing"})


class Tally:
    """What became of the messages of one address. Several threads write to it, under its lock."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = set()   # flights whose publish was answered
        self.duplicates = 0         # repetitions that the server recognised
        self.deliveries = 0
        self.marked = 0             # deliveries that the server called repeated
        self.delivered = set()
        self.tags = set()           # the places of what was delivered: a second tag for a flight is a second copy
        self.settled = set()        # flights whose acknowledgement was confirmed
        self.in_doubt = set()       # flights whose acknowledgement broke off or came too late: they may come again
        self.returned = 0           # delivered again after that: must not be

    def redelivered(self) -> int:
        return self.deliveries - len(self.tags)

    def stored_twice(self) -> int:
        return len(self.tags) - len(self.delivered)

    def lost(self) -> set:
        return self.acknowledged - self.delivered

    def is_settled(self) -> bool:
        """Nothing is missing, except perhaps second confirmations of what is in doubt."""
        return not self.acknowledged - self.settled - self.in_doubt

    def doubts(self) -> int:
        return len(self.in_doubt - self.settled)


class Publisher(threading.Thread):
    """Publishes each chunk to the topic and its late flights to the queue, and repeats what was not answered."""

    def __init__(self, port: int, flights, topic: Tally, queue: Tally):
        super().__init__(name="publisher", daemon=True)
        self.client, self.flights, self.topic, self.queue = Client(port), flights, topic, queue
        self.done = threading.Event()
        self.error = None

    def run(self):
        try:
            chunk = []
            for flight in self.flights:
                chunk.append(flight)
                if len(chunk) == CHUNK:
                    self.publish(chunk)
                    chunk = []
            self.publish(chunk)
        except Exception as error:  # told by the main thread, which waits for `done`
            self.error = error
        finally:
            self.done.set()

    def publish(self, chunk):
        self.send(f"/v1/topics/{TOPIC}/messages", chunk, self.topic)
        self.send(f"/v1/queues/{QUEUE}/messages", [flight for flight in chunk if flight[2]], self.queue)

    def send(self, path, chunk, tally: Tally):
        if not chunk:
            return
        answer = self.client.until_answered("POST", path, b"".join(flight[3] for flight in chunk), NDJSON)
        if answer["accepted"] + answer.get("duplicates", 0) != len(chunk):
            raise Refused(f"{path}: {len(chunk)} messages were sent, the answer is {answer}")
        with tally.lock:
            tally.acknowledged.update(flight[0] for flight in chunk)
            tally.duplicates += answer.get("duplicates", 0)


class Consumer(threading.Thread):
    """Receives with a lease and acknowledges; what it could not acknowledge comes again."""

    def __init__(self, name: str, port: int, path: str, tally: Tally, is_topic: bool):
        super().__init__(name=name, daemon=True)
        self.client, self.path, self.tally, self.is_topic = Client(port), path, tally, is_topic
        self.stop = threading.Event()
        self.error = None

    def run(self):
        failures_since = None
        while not self.stop.is_set():
            try:
                self.work()
                failures_since = None
            except Unanswered as error:
                self.client.unanswered += 1
                failures_since = failures_since or time.monotonic()
                if time.monotonic() - failures_since > 60:
                    self.error = error
                    return
                time.sleep(0.02)
            except Exception as error:
                self.error = error
                return

    def work(self):
        query = f"max=200&wait_ms=500&lease_ms={LEASE_MS}"
        messages = self.client.once("POST", f"{self.path}/receive?{query}")["messages"]
        if not messages:
            return
        numbers = [message["body"]["number"] for message in messages]
        self.note_delivery(messages, numbers)
        self.settle(list(zip(numbers, messages)))

    def settle(self, work):
        """Acknowledges all at once, or, when one of them is refused and with it all, one by one."""
        body = json.dumps({"settlements": [settlement(message) for _, message in work]}).encode()
        try:
            self.client.until_answered("POST", f"{self.path}/settle", body)
        except Refused:
            # Acknowledged before the answer broke off, or the lease ran out: in the second case it comes again.
            if len(work) > 1:
                for one in work:
                    self.settle([one])
                return
            with self.tally.lock:
                self.tally.in_doubt.add(work[0][0])
            return
        with self.tally.lock:
            self.tally.settled.update(number for number, _ in work)

    def note_delivery(self, messages, numbers):
        with self.tally.lock:
            self.tally.deliveries += len(messages)
            self.tally.tags.update(message["tag"] for message in messages)
            self.tally.marked += sum(1 for message in messages if message.get("redelivered"))
            self.tally.delivered.update(numbers)
            if not self.is_topic:
                # A topic holds a repeated publish twice; a queue with deduplication must not show a flight again.
                self.tally.returned += sum(1 for number in numbers if number in self.tally.settled)


def settlement(message) -> dict:
    return {"tag": message["tag"], "attempt": message["attempt"], "outcome": "accept"}
