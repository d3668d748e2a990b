"""Is anything lost or repeated while the server is killed under its clients, again and again?

Publishers count a message when its confirm has come. Consumers count an acknowledgement as durable when they know it
to be: one kind acknowledges in a transaction and waits for tx.commit-ok; the other acknowledges and then publishes a
marker on the same channel, whose confirm can only come when everything before it is durable. At the end every
confirmed message must have come, and none must have come again after its acknowledgement was known to be durable.
"""
import argparse
import asyncio
import collections
import logging
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import aio_pika
from aio_pika import DeliveryMode, Message

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "conformance"))
from ports import free_port  # noqa: E402

QUEUE, MARKERS = "crash", "crash-markers"
PUBLISHERS, BATCH = 2, 40
DRAIN_SECONDS_MAX = 20
# What the clients said when their connections broke, for the report of a failure.
BROKEN = collections.Counter()


class Server:
    """The real binary, killed without warning and started again on the same data."""

    def __init__(self, binary, data):
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        self.binary, self.data, self.process = binary, data, None
        self.port = free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def start(self):
        command = [str(self.binary), "serve", "--data", str(self.data / "data"), "--http", "127.0.0.1:0",
                   "--amqp", f"127.0.0.1:{self.port}", "--amqp-management", "off"]
        with (self.data / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                if self.process.poll() is not None:
                    break
                await asyncio.sleep(0.02)
        sys.exit(f"the server does not start; it said: {(self.data / 'log').read_text()[-2000:]}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Ledger:
    """What the clients know."""

    def __init__(self):
        self.next = 0
        self.confirmed, self.seen, self.durable, self.repeated = set(), set(), set(), []
        self.unconfirmed_acknowledgements_repeated = 0
        self.acknowledged = set()
        self.left = 0

    def came(self, number):
        if number in self.durable:
            self.repeated.append(number)
        elif number in self.acknowledged:
            self.unconfirmed_acknowledgements_repeated += 1
        self.seen.add(number)


async def again_and_again(server, stop, use):
    """Connects and runs `use` until it is told to stop; what breaks is begun anew."""
    while not stop.is_set():
        try:
            connection = await aio_pika.connect(server.url, timeout=5)
            try:
                await use(connection, stop)
            finally:
                await asyncio.wait_for(connection.close(), 5)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
            # The library cancels what waits on a channel that breaks.
        except Exception as error:  # noqa: whatever a library makes of a broken connection
            BROKEN[type(error).__name__] += 1
        await asyncio.sleep(0.05)


def publisher(ledger):
    async def use(connection, stop):
        channel = await connection.channel(publisher_confirms=True)
        while not stop.is_set():
            numbers = range(ledger.next, ledger.next + BATCH)
            ledger.next += BATCH

            async def publish(number):
                message = Message(str(number).encode(), delivery_mode=DeliveryMode.PERSISTENT)
                await channel.default_exchange.publish(message, QUEUE, mandatory=True)
                ledger.confirmed.add(number)

            for ended in await asyncio.gather(*[publish(number) for number in numbers], return_exceptions=True):
                if isinstance(ended, BaseException):
                    raise ended
            # Consumers should keep up: the end of the test waits for them.
            await asyncio.sleep(0.01)

    return use


async def batches(queue, stop):
    """Deliveries, as many as come within a moment, up to a batch."""
    arrived = asyncio.Queue()
    await queue.consume(arrived.put)
    while not stop.is_set():
        try:
            batch = [await asyncio.wait_for(arrived.get(), 0.2)]
        except asyncio.TimeoutError:
            if queue.channel.is_closed:
                return
            continue
        while len(batch) < BATCH and not arrived.empty():
            batch.append(arrived.get_nowait())
        yield batch


def in_transactions(ledger):
    async def use(connection, stop):
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=2 * BATCH)
        transaction = channel.transaction()
        await transaction.select()
        async for batch in batches(await channel.get_queue(QUEUE), stop):
            numbers = [int(message.body) for message in batch]
            for number, message in zip(numbers, batch):
                ledger.came(number)
                await message.ack()
            ledger.acknowledged.update(numbers)
            await transaction.commit()
            ledger.durable.update(numbers)

    return use


def with_markers(ledger):
    async def use(connection, stop):
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=2 * BATCH)
        async for batch in batches(await channel.get_queue(QUEUE), stop):
            numbers = [int(message.body) for message in batch]
            for number, message in zip(numbers, batch):
                ledger.came(number)
                await message.ack()
            ledger.acknowledged.update(numbers)
            marker = Message(b"so far", delivery_mode=DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(marker, MARKERS)
            ledger.durable.update(numbers)

    return use


async def run(server, kills):
    random.seed(kills)
    ledger, publishing, consuming = Ledger(), asyncio.Event(), asyncio.Event()
    await server.start()
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(QUEUE, durable=True)
        await channel.declare_queue(MARKERS, durable=True, arguments={"x-max-length": 10})
    tasks = [asyncio.create_task(again_and_again(server, publishing, publisher(ledger))) for _ in range(PUBLISHERS)]
    for consumer in (in_transactions(ledger), with_markers(ledger)):
        tasks.append(asyncio.create_task(again_and_again(server, consuming, consumer)))
    for _ in range(kills):
        await asyncio.sleep(random.uniform(0.3, 0.9))
        server.kill()
        await server.start()
    await asyncio.sleep(0.5)
    publishing.set()
    end = time.monotonic() + DRAIN_SECONDS_MAX
    while not ledger.confirmed <= ledger.seen and time.monotonic() < end:
        await asyncio.sleep(0.1)
    # Whatever would come again has time to.
    await asyncio.sleep(1)
    consuming.set()
    await asyncio.wait(tasks, timeout=10)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await take_the_rest(server, ledger)
    return ledger


async def take_the_rest(server, ledger):
    """What the consumers left: there must be little, but lost is only what is not there either."""
    async with await aio_pika.connect(server.url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(QUEUE)
        while message := await queue.get(no_ack=True, fail=False):
            ledger.came(int(message.body))
            ledger.left += 1


def report(ledger, kills, seconds):
    lost = ledger.confirmed - ledger.seen
    checks = [
        (f"nothing confirmed is lost through {kills} kills", not lost and len(ledger.confirmed) > kills,
         f"{len(ledger.confirmed)} confirmed, {len(lost)} lost {sorted(lost)[:5] or ''}"),
        ("consumers come back after every kill and take everything", ledger.left == 0,
         f"{ledger.left} left over; the clients met {dict(BROKEN)}"),
        ("nothing comes again after its acknowledgement was durable",
         not ledger.repeated and len(ledger.durable) > kills,
         f"{len(ledger.durable)} durable, {len(ledger.repeated)} came again {ledger.repeated[:5] or ''}; of those "
         f"acknowledged without knowing, {ledger.unconfirmed_acknowledgements_repeated} came again"),
    ]
    for name, good, detail in checks:
        print(f"{'ok' if good else 'FAILED':8}{seconds:6.1f} s  {name}: {detail}")
    failed = sum(not good for _, good, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-binary", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--kills", type=int, default=6)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    server, begun = Server(options.server_binary, options.data), time.monotonic()
    try:
        ledger = asyncio.run(run(server, options.kills))
    finally:
        server.kill()
    sys.exit(1 if report(ledger, options.kills, time.monotonic() - begun) else 0)


if __name__ == "__main__":
    main()
