"""Do aio-pika's programs run: RabbitMQ's tutorials, and what services rely on beyond them?"""
import asyncio
import contextlib
import datetime
import decimal
import time

import aio_pika
import aio_pika.abc
import aio_pika.exceptions
import aiormq.exceptions
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.patterns import RPC, Master

from harness import equal, fresh, scenario
from proxy import through_proxy


@contextlib.asynccontextmanager
async def channel_of(server, url=None, **more):
    connection = await aio_pika.connect(url or server.url)
    async with connection:
        yield await connection.channel(**more)


class Collected:
    """What one consumer got."""

    def __init__(self):
        self.messages = []
        self.arrived = asyncio.Condition()

    async def keep(self, message):
        async with self.arrived:
            self.messages.append(message)
            self.arrived.notify_all()

    async def wait(self, count, seconds=10):
        async with self.arrived:
            waiting = self.arrived.wait_for(lambda: len(self.messages) >= count)
            await asyncio.wait_for(waiting, seconds)
        return self.bodies

    @property
    def bodies(self):
        return [message.body for message in self.messages]


async def collect(queue, **more):
    collected = Collected()
    collected.tag = await queue.consume(collected.keep, **more)
    return collected


async def ready(queue):
    """The bodies of everything that stands ready now."""
    bodies = []
    while message := await queue.get(no_ack=True, fail=False):
        bodies.append(message.body)
    return bodies


async def take(queue, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if message := await queue.get(no_ack=True, fail=False):
            return message
        await asyncio.sleep(0.02)
    raise AssertionError(f"no message came in {queue.name}")


async def put(channel, key, *bodies, exchange=None, **properties):
    target = exchange or channel.default_exchange
    for body in bodies:
        await target.publish(Message(body.encode(), **properties), routing_key=key)


async def refused(kind, text, action):
    try:
        await action
    except kind as error:
        assert text in str(error), (text, str(error))
        return
    raise AssertionError(f"was not refused; wanted {text}")


@scenario
async def tutorial_1_hello_world(server):
    async with channel_of(server) as channel:
        queue = await channel.declare_queue(fresh("hello"), exclusive=True)
        await put(channel, queue.name, "Hello World!")
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    equal((message.body, message.routing_key, message.redelivered), (b"Hello World!", queue.name, False))
                break


@scenario
async def tutorial_2_work_queues_share_by_prefetch(server):
    name = fresh("tasks")
    async with channel_of(server) as publisher, channel_of(server) as one, channel_of(server) as two:
        queue = await publisher.declare_queue(name, durable=True)
        workers = []
        for channel in (one, two):
            await channel.set_qos(prefetch_count=1)
            workers.append(await collect(await channel.get_queue(name)))
        await put(publisher, name, *"abcd", delivery_mode=DeliveryMode.PERSISTENT)
        for worker in workers:
            await worker.wait(1)
        equal(sorted(workers[0].bodies + workers[1].bodies), [b"a", b"b"])
        await workers[0].messages[0].ack()
        await workers[0].wait(2)
        await one.close()
        await workers[1].messages[0].ack()
        await workers[1].wait(2)
        # What the closed worker held comes first again, as it came.
        equal((workers[1].messages[1].body, workers[1].messages[1].redelivered), (b"c", True))
        await queue.delete(if_unused=False, if_empty=False)


@scenario
async def tutorial_3_publish_subscribe(server):
    async with channel_of(server) as channel, channel_of(server) as other:
        logs = await channel.declare_exchange(fresh("logs"), ExchangeType.FANOUT)
        collected = []
        for side in (channel, other):
            queue = await side.declare_queue(exclusive=True)
            await queue.bind(logs.name)
            collected.append(await collect(queue, no_ack=True))
        await put(channel, "", "info", exchange=logs)
        for one in collected:
            equal(await one.wait(1), [b"info"])
        await logs.delete()


@scenario
async def tutorial_4_routing(server):
    async with channel_of(server) as channel:
        logs = await channel.declare_exchange(fresh("logs"), ExchangeType.DIRECT)
        errors, rest = [await channel.declare_queue(exclusive=True) for _ in range(2)]
        await errors.bind(logs, "error")
        for severity in ("info", "warning"):
            await rest.bind(logs, severity)
        for severity in ("info", "error", "warning"):
            await put(channel, severity, severity, exchange=logs)
        equal((await ready(errors), await ready(rest)), ([b"error"], [b"info", b"warning"]))
        await logs.delete()


@scenario
async def tutorial_5_topics(server):
    async with channel_of(server) as channel:
        logs = await channel.declare_exchange(fresh("logs"), ExchangeType.TOPIC)
        kern, critical, every = [await channel.declare_queue(exclusive=True) for _ in range(3)]
        await kern.bind(logs, "kern.*")
        await critical.bind(logs, "*.critical")
        await every.bind(logs, "#")
        for key in ("kern.critical", "kern.info", "cron.critical", "cron.info.more"):
            await put(channel, key, key, exchange=logs)
        equal(await ready(kern), [b"kern.critical", b"kern.info"])
        equal(await ready(critical), [b"kern.critical", b"cron.critical"])
        equal(len(await ready(every)), 4)
        await logs.delete()


@scenario
async def tutorial_6_remote_procedure_call(server):
    async with channel_of(server) as client, channel_of(server) as worker:
        async def multiply(*, x, y):
            return x * y

        async def fail():
            raise ValueError("no")

        service = await RPC.create(worker)
        name = fresh("multiply")
        await service.register(name, multiply, auto_delete=True)
        await service.register(name + "-fail", fail, auto_delete=True)
        rpc = await RPC.create(client)
        answers = await asyncio.gather(*[rpc.call(name, kwargs={"x": n, "y": 2}) for n in range(50)])
        equal(answers, [n * 2 for n in range(50)])
        await refused(ValueError, "no", rpc.call(name + "-fail"))


@scenario
async def tutorial_7_publisher_confirms(server):
    async with channel_of(server) as channel:
        queue = await channel.declare_queue(exclusive=True)
        confirmations = await asyncio.gather(*[
            channel.default_exchange.publish(Message(str(n).encode()), queue.name) for n in range(100)])
        equal({type(confirmation).__name__ for confirmation in confirmations}, {"Ack"})
        equal(len(await ready(queue)), 100)
    async with channel_of(server, on_return_raises=True) as channel:
        await refused(aio_pika.exceptions.DeliveryError, "", put(channel, fresh("nowhere"), "lost"))


@scenario
async def a_robust_connection_restores_queues_bindings_and_consumers(server):
    name = fresh("robust")
    with through_proxy(server) as proxy:
        url = f"amqp://{server.user}:{server.password}@127.0.0.1:{proxy.port}/?reconnect_interval=0.1"
        connection = await aio_pika.connect_robust(url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=10)
            exchange = await channel.declare_exchange(name, ExchangeType.FANOUT, auto_delete=True)
            queue = await channel.declare_queue("", exclusive=True)
            await queue.bind(exchange)
            collected = await collect(queue)
            await put(channel, "", "before", exchange=exchange)
            await collected.wait(1)
            await collected.messages[0].ack()
            for round_number in range(3):
                restored = asyncio.Event()
                connection.reconnect_callbacks.add(lambda *_: restored.set())
                proxy.cut()
                await asyncio.wait_for(restored.wait(), 10)
                await put(channel, "", f"after {round_number}", exchange=exchange)
                await collected.wait(round_number + 2)
                await collected.messages[-1].ack()
            equal(collected.bodies, [b"before", b"after 0", b"after 1", b"after 2"])


@scenario
async def confirms_under_load_from_several_channels(server):
    name, count = fresh("load"), 2_000
    async with channel_of(server) as setup:
        queue = await setup.declare_queue(name, durable=True)

        async def publish(worker):
            async with channel_of(server) as channel:
                for start in range(0, count, 100):
                    await asyncio.gather(*[
                        channel.default_exchange.publish(
                            Message(f"{worker} {n}".encode(), delivery_mode=DeliveryMode.PERSISTENT), name)
                        for n in range(start, start + 100)])

        await asyncio.gather(*[publish(worker) for worker in range(4)])
        collected = await collect(queue, no_ack=True)
        bodies = await collected.wait(4 * count, 30)
        for worker in range(4):
            mine = [int(body.split()[1]) for body in bodies if body.startswith(b"%d " % worker)]
            equal(mine, list(range(count)), f"publisher {worker}")
        await queue.delete(if_unused=False, if_empty=False)


@scenario
async def a_dead_letter_cycle_counts_its_rounds(server):
    async with channel_of(server) as channel:
        wait = fresh("wait")
        work = await channel.declare_queue(fresh("work"), exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
        await channel.declare_queue(wait, exclusive=True, arguments={
            "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work.name})
        await put(channel, work.name, "stubborn")
        collected = await collect(work)
        for round_number in range(1, 4):
            await collected.wait(round_number)
            await collected.messages[-1].reject(requeue=False)
        await collected.wait(4)
        deaths = collected.messages[3].headers["x-death"]
        equal([(death["queue"], death["reason"], death["count"]) for death in deaths],
              [(wait, "expired", 3), (work.name, "rejected", 3)])


@scenario
async def priorities_times_to_live_and_expiry_hold(server):
    async with channel_of(server) as channel:
        queue = await channel.declare_queue("", exclusive=True, arguments={"x-max-priority": 10})
        for body, priority in (("low", 1), ("high", 9), ("none", None), ("high too", 9)):
            await put(channel, queue.name, body, priority=priority)
        equal(await ready(queue), [b"high", b"high too", b"low", b"none"])
        await put(channel, queue.name, "short", expiration=0.1)
        await put(channel, queue.name, "lasting", expiration=60)
        limited = await channel.declare_queue("", exclusive=True, arguments={"x-message-ttl": 100})
        await put(channel, limited.name, "gone soon")
        await asyncio.sleep(0.3)
        message = await take(queue)
        equal((message.body, message.expiration), (b"lasting", 60.0))
        equal((await ready(queue), await ready(limited)), ([], []))


@scenario
async def direct_reply_to_answers_without_a_queue(server):
    async with channel_of(server) as client, channel_of(server) as worker:
        requests = await worker.declare_queue("", exclusive=True)

        async def answer(message):
            async with message.process():
                await worker.default_exchange.publish(
                    Message(message.body.upper(), correlation_id=message.correlation_id), message.reply_to)

        await requests.consume(answer)
        replies = Collected()
        reply_to = await client.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await reply_to.consume(replies.keep, no_ack=True)
        for n in range(10):
            await put(client, requests.name, f"ask {n}", reply_to="amq.rabbitmq.reply-to", correlation_id=str(n))
        await replies.wait(10)
        equal([(m.body, m.correlation_id) for m in replies.messages],
              [(f"ASK {n}".encode(), str(n)) for n in range(10)])


@scenario
async def prefetch_is_fair_between_consumers(server):
    name = fresh("fair")
    async with channel_of(server) as publisher, channel_of(server) as fast, channel_of(server) as slow:
        queue = await publisher.declare_queue(name)
        done = {"fast": [], "slow": []}

        def worker(kind, seconds):
            async def work(message):
                await asyncio.sleep(seconds)
                done[kind].append(message.body)
                await message.ack()
            return work

        for kind, channel, seconds in (("fast", fast, 0), ("slow", slow, 0.25)):
            await channel.set_qos(prefetch_count=1)
            await (await channel.get_queue(name)).consume(worker(kind, seconds))
        await put(publisher, name, *[str(n) for n in range(60)])
        end = time.monotonic() + 60
        while len(done["fast"]) + len(done["slow"]) < 60 and time.monotonic() < end:
            await asyncio.sleep(0.02)
        equal(sorted(done["fast"] + done["slow"]), sorted(str(n).encode() for n in range(60)))
        assert 1 <= len(done["slow"]) <= 20 <= len(done["fast"]), {kind: len(all_) for kind, all_ in done.items()}
        await queue.delete(if_unused=False)


@scenario
async def exclusive_and_passive_errors_close_the_channel_with_their_words(server):
    name = fresh("mine")
    async with channel_of(server) as owner:
        await owner.declare_queue(name, exclusive=True)
        locked = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'"
        async with channel_of(server) as stranger:
            await refused(aiormq.exceptions.ChannelLockedResource, locked, stranger.declare_queue(name))
        async with channel_of(server) as stranger:
            await refused(aiormq.exceptions.ChannelLockedResource, locked,
                          stranger.declare_queue(name, passive=True))
        absent = fresh("absent")
        async with channel_of(server) as stranger:
            await refused(aiormq.exceptions.ChannelNotFoundEntity, f"NOT_FOUND - no queue '{absent}' in vhost '/'",
                          stranger.declare_queue(absent, passive=True))
        async with channel_of(server) as stranger:
            await refused(aiormq.exceptions.ChannelNotFoundEntity, f"NOT_FOUND - no exchange '{absent}' in vhost '/'",
                          stranger.get_exchange(absent, ensure=True))
        async with channel_of(server) as stranger:
            await refused(aiormq.exceptions.ChannelPreconditionFailed,
                          "inequivalent arg 'type' for exchange 'amq.fanout' in vhost '/'",
                          stranger.declare_exchange("amq.fanout", ExchangeType.DIRECT, durable=True))


@scenario
async def a_transaction_commits_as_one_or_not_at_all(server):
    async with channel_of(server, publisher_confirms=False) as channel, channel_of(server) as witness:
        queue = await witness.declare_queue("", exclusive=False, auto_delete=True)
        async with channel.transaction():
            await put(channel, queue.name, "a", "b")
            equal(await ready(queue), [])
        equal(await ready(queue), [b"a", b"b"])
        with contextlib.suppress(ZeroDivisionError):
            async with channel.transaction():
                await put(channel, queue.name, "never")
                1 / 0
        await asyncio.sleep(0.1)
        equal(await ready(queue), [])
        await queue.delete(if_unused=False, if_empty=False)


@scenario
async def headers_of_every_type_come_back(server):
    headers = {"text": "zażółć", "int": -5, "long": 2**40, "yes": True, "float": 0.25,
               "nothing": None, "list": [1, "two", [False]], "table": {"a": {"b": 1}},
               "price": decimal.Decimal("12.5"),
               "when": datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)}
    async with channel_of(server) as channel:
        queue = await channel.declare_queue("", exclusive=True)
        await put(channel, queue.name, "x", headers=headers, content_type="text/plain", message_id="m", app_id="a",
                  type="t", correlation_id="c", reply_to="r", priority=3, timestamp=1_700_000_000)
        message = await take(queue)
        got = dict(message.headers)
        for name in headers:
            equal(got[name], headers[name], name)
        equal((message.content_type, message.message_id, message.app_id, message.type, message.correlation_id,
               message.reply_to, message.priority, int(message.timestamp.timestamp())),
              ("text/plain", "m", "a", "t", "c", "r", 3, 1_700_000_000))


@scenario
async def master_and_workers_share_tasks(server):
    async with channel_of(server) as boss, channel_of(server) as hand:
        name, done = fresh("tasks"), []
        everything = asyncio.Event()

        async def work(*, number):
            done.append(number)
            if len(done) == 20:
                everything.set()

        await hand.set_qos(prefetch_count=1)
        worker = await Master(hand).create_worker(name, work, auto_delete=True)
        master = Master(boss)
        for number in range(20):
            await master.create_task(name, kwargs={"number": number})
        await asyncio.wait_for(everything.wait(), 10)
        equal(done, list(range(20)))
        await worker.close()
