"""What do the pika scenarios share: connections, names, and ways to collect what comes and what is refused."""
import contextlib
import time

import pika
import pika.exceptions

from harness import equal


def parameters(server, **changes):
    settings = dict(
        host=server.host,
        port=server.port,
        credentials=pika.PlainCredentials(server.user, server.password),
        heartbeat=60,
        blocked_connection_timeout=20,
        socket_timeout=10,
        stack_timeout=15,
    )
    settings.update(changes)
    return pika.ConnectionParameters(**settings)


@contextlib.contextmanager
def connected(server, **changes):
    connection = pika.BlockingConnection(parameters(server, **changes))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


@contextlib.contextmanager
def channel_of(server, confirm=False, **changes):
    with connected(server, **changes) as connection:
        channel = connection.channel()
        if confirm:
            channel.confirm_delivery()
        yield channel


class Consumer:
    """Keeps every delivery that one consumer gets."""

    def __init__(self, channel, queue, auto_ack=False, **more):
        self.channel, self.got, self.cancelled = channel, [], False
        self.tag = channel.basic_consume(queue, self.keep, auto_ack=auto_ack, **more)

    def keep(self, _channel, method, properties, body):
        self.got.append((method, properties, body))

    @property
    def bodies(self):
        return [body for _, _, body in self.got]

    def wait(self, count, seconds=10.0):
        """Waits for `count` deliveries in all, and gives their bodies."""
        end = time.monotonic() + seconds
        while len(self.got) < count and time.monotonic() < end:
            self.channel.connection.process_data_events(time_limit=0.05)
        if len(self.got) < count:
            raise AssertionError(f"{len(self.got)} of {count} deliveries came: {self.bodies[:5]!r}")
        return self.bodies

    def quiet(self, seconds=0.2):
        """Lets time go by; gives the bodies of everything that came so far."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.channel.connection.process_data_events(time_limit=0.05)
        return self.bodies


def take(channel, queue, seconds=5.0):
    """The next message by basic.get, acknowledged; waits for it."""
    end = time.monotonic() + seconds
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            return method, properties, body
        if time.monotonic() > end:
            raise AssertionError(f"no message came in {queue}")
        time.sleep(0.02)


def take_all(channel, queue):
    """The bodies of everything that stands ready now."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def depth(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def put(channel, queue, *bodies, exchange="", **properties):
    for body in bodies:
        channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties))


def refused(code, text, action, connection=False):
    """Runs `action`, which must close the channel (or the connection) with exactly this code and text."""
    kinds = pika.exceptions.ConnectionClosedByBroker if connection else pika.exceptions.ChannelClosedByBroker
    try:
        action()
    except kinds as closed:
        equal((closed.reply_code, closed.reply_text), (code, text))
        return
    raise AssertionError(f"was not refused; wanted {code} {text}")
