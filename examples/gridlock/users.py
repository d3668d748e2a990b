"""What do users see? They come at a steady rate whatever happens, and each waits for an answer as long as a user does."""
import dataclasses
import random
import threading
import time

from services import ask

# Seconds after which a user goes away.
PATIENCE = 5.0
ORDERS_A_SECOND, VISITS_A_SECOND = 25, 10


@dataclasses.dataclass
class Seen:
    """One request of a user. Moments are seconds since the day began."""

    what: str
    at: float
    waited: float = 0.0
    status: int = 0
    follow: str = ""
    # When the order was done, in seconds after it was sent; None if it never was.
    done: float | None = None

    @property
    def is_good(self):
        return 200 <= self.status < 300


class Users:
    def __init__(self, shop, seconds, seed=1):
        self.shop, self.seen, self.threads = shop, [], []
        chance = random.Random(seed)
        moments = []
        for what, rate in (("order", ORDERS_A_SECOND), ("visit", VISITS_A_SECOND)):
            at = 0.0
            # Independent users: the gaps between them are exponential.
            while (at := at + chance.expovariate(rate)) < seconds:
                moments.append((at, what))
        self.moments = sorted(moments)

    def come(self, begun):
        for at, what in self.moments:
            time.sleep(max(0.0, begun + at - time.monotonic()))
            seen = Seen(what, at)
            self.seen.append(seen)
            thread = threading.Thread(target=self.use, args=(seen,), daemon=True)
            thread.start()
            self.threads.append(thread)
        for thread in self.threads:
            thread.join()
        return self.seen

    def use(self, seen):
        begun = time.monotonic()
        method, path = ("POST", "/order") if seen.what == "order" else ("GET", "/catalog")
        try:
            seen.status, document = ask(self.shop, method, path, {"item": "book"} if seen.what == "order" else None, PATIENCE)
            seen.follow = (document or {}).get("follow", "")
        except OSError:
            seen.status = 0
        seen.waited = time.monotonic() - begun
        if seen.is_good and not seen.follow:
            seen.done = seen.waited
