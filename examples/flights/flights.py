"""Does every flight arrive? Publishes them all, kills the server on the way, and prints an account.

Exit code 0: nothing was lost. 1: something that was acknowledged is missing or came back. 2: it could not run.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import data
from client import Client
from parties import LEASE_MS, QUEUE, SUBSCRIPTION, TOPIC, Consumer, Publisher, Tally, declare
from server import Server

ROOT = Path(__file__).resolve().parents[2]
ALL_FLIGHTS = 336_776
# Longer than the lease with room to spare: what is not there after this does not come.
QUIET_SECONDS_MAX = 30


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="only the first N flights (default: all)")
    parser.add_argument("--write-ndjson", type=Path, metavar="FILE", help="only write the flights to a file, and stop")
    parser.add_argument("--kills", type=int, default=2, help="how often the server is killed (default: 2)")
    parser.add_argument("--server-binary", type=Path, help="default: target/release/waystation")
    parser.add_argument("--data", type=Path, help="a folder for the server's data; emptied first")
    return parser.parse_args()


def binary(chosen):
    path = chosen or ROOT / "target/release/waystation"
    if not path.exists():
        print(f"{path} is not there: cargo build --release, or name it by --server-binary", file=sys.stderr)
        sys.exit(2)
    return path


class Day:
    """One run: the parties, the kills, and the account."""

    def __init__(self, server, total, limit, kills):
        self.server, self.total, self.kills = server, total, kills
        self.topic, self.queue = Tally(), Tally()
        self.publisher = Publisher(server.port, data.flights(limit), self.topic, self.queue)
        path = f"/v1/queues/{QUEUE}"
        self.workers = [Consumer(f"worker {n}", server.port, path, self.queue, False) for n in (1, 2)]
        self.board = self.new_board()
        self.boards = []
        self.kills_done = 0

    def new_board(self):
        path = f"/v1/subscriptions/{SUBSCRIPTION}"
        return Consumer("board", self.server.port, path, self.topic, True)

    def progress(self) -> float:
        """From 0 to 1: half of it is publishing, half is the board's reading."""
        return (len(self.topic.acknowledged) + len(self.topic.delivered)) / (2 * self.total)

    def run(self):
        for thread in [self.publisher, *self.workers, self.board]:
            thread.start()
        last, moved = None, time.monotonic()
        while not self.is_over():
            time.sleep(0.02)
            self.send_board_away_and_back()
            if self.kills_done < self.kills and self.progress() >= (self.kills_done + 1) / (self.kills + 1):
                self.server.kill_and_restart()
                self.kills_done += 1
            now = (len(self.topic.acknowledged), self.topic.deliveries, self.queue.deliveries)
            if now != last:
                last, moved = now, time.monotonic()
            quiet = time.monotonic() - moved
            # What is in doubt comes again when its lease has run out, or not at all.
            if quiet > QUIET_SECONDS_MAX or (self.is_settled() and quiet > LEASE_MS / 1000 + 2):
                break
        self.finish()

    def send_board_away_and_back(self):
        """The board leaves when a third is published and returns when all is."""
        if self.board and not self.boards and len(self.topic.acknowledged) >= self.total // 3:
            self.board.stop.set()
            self.board.join()
            self.boards.append(self.board)
            self.board = None
        if self.board is None and self.publisher.done.is_set():
            self.board = self.new_board()
            self.board.start()

    def is_over(self) -> bool:
        failed = any(thread.error for thread in self.threads())
        return failed or (self.is_settled() and self.topic.doubts() + self.queue.doubts() == 0)

    def is_settled(self) -> bool:
        if not self.publisher.done.is_set() or self.board is None:
            return False
        with self.topic.lock, self.queue.lock:
            return self.topic.is_settled() and self.queue.is_settled()

    def threads(self):
        return [self.publisher, *self.workers, *self.boards, *([self.board] if self.board else [])]

    def finish(self):
        consumers = self.workers + ([self.board] if self.board else [])
        for thread in consumers:
            thread.stop.set()
        for thread in [self.publisher, *consumers]:
            thread.join()

    def faults(self):
        """What must not be, besides a loss: each as a sentence."""
        faults = [f"{thread.name}: {thread.error}" for thread in self.threads() if thread.error]
        if self.queue.returned:
            faults.append(f"{self.queue.returned} messages came again after their acknowledgement was confirmed")
        if self.queue.stored_twice() > 0:
            faults.append(f"the queue stored {self.queue.stored_twice()} messages twice in spite of their ids")
        if min(self.topic.stored_twice(), self.queue.stored_twice()) < 0:
            faults.append("one tag stood for two messages")
        if self.kills_done < self.kills:
            faults.append(f"only {self.kills_done} of {self.kills} kills came in time; take more flights")
        if len(self.topic.acknowledged) != self.total or not self.is_settled():
            faults.append("not everything was published, delivered and acknowledged")
        return faults


def row(name, tally) -> str:
    numbers = (
        len(tally.acknowledged), len(tally.settled), tally.deliveries, tally.redelivered(), tally.stored_twice(),
        len(tally.lost()),
    )
    return f"{name:14}" + "".join(f"{number:>14,}" for number in numbers)


def account(day, seconds) -> bool:
    titles = ("published", "acknowledged", "delivered", "redelivered", "stored twice", "lost")
    print(f"{'':14}" + "".join(f"{title:>14}" for title in titles))
    print(row(TOPIC, day.topic))
    print(row(QUEUE, day.queue))
    print()
    restarts = ", ".join(f"{restart:.2f}" for restart in day.server.restarts) or "none"
    tallies, threads = (day.topic, day.queue), day.threads()
    print(f"kills {day.kills_done}; seconds from each to ready again: {restarts}")
    print(f"requests without an answer, and repeated: {sum(thread.client.unanswered for thread in threads)}")
    print(f"publishes that the queue recognised as repeated: {day.queue.duplicates}")
    print(f"redeliveries that the server marked as such: {sum(tally.marked for tally in tallies)}")
    print(f"acknowledgements whose answer broke off, not seen again: {sum(tally.doubts() for tally in tallies)}")
    faults = day.faults()
    for fault in faults:
        print(f"error: {fault}")
    lost = sum(len(tally.lost()) for tally in tallies)
    rate = len(day.topic.acknowledged) / seconds
    print(f"{day.total:,} flights in {seconds:.1f} s ({rate:,.0f} a second), {day.kills_done} kills, lost {lost}")
    return not lost and not faults


def write_ndjson(path: Path, limit) -> int:
    """The flights as `waystation publish flights --ndjson FILE` takes them."""
    with path.open("wb") as file:
        for _, _, _, message in data.flights(limit):
            file.write(message)
    return 0


def main() -> int:
    options = arguments()
    if options.write_ndjson:
        return write_ndjson(options.write_ndjson, options.limit)
    total = min(options.limit or ALL_FLIGHTS, ALL_FLIGHTS)
    folder = options.data or ROOT / "target/flights-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = Server(binary(options.server_binary), folder / "data", folder / "server.log")
    server.start()
    try:
        declare(Client(server.port))
        day, begun = Day(server, total, options.limit, options.kills), time.monotonic()
        day.run()
        return 0 if account(day, time.monotonic() - begun) else 1
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
