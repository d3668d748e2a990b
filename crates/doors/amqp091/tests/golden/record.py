#!/usr/bin/env python3
"""Records what real clients and a real broker say to each other, frame by frame, for the tests beside this file.

    python3 -m venv env && env/bin/pip install pika aio-pika amqp pamqp && npm install amqplib
    env/bin/python record.py BROKER_HOST:PORT pika|aio-pika|py-amqp > pika.txt
    env/bin/python record.py BROKER_HOST:PORT "amqplib 1.0" node amqplib.js PORT > amqplib.txt

A proxy stands between client and broker. Each line is a direction (`>` from the client, `<` from the broker), the name that
pamqp, an independent decoder, gives the frame, and its bytes.
"""
import asyncio
import datetime
import decimal
import importlib.metadata
import re
import subprocess
import sys
import threading

import pamqp.frame

WHEN = datetime.datetime(2026, 11, 23, 9, 30, tzinfo=datetime.timezone.utc)
ARGUMENTS = {"x-message-ttl": 60000, "x-max-length": 10, "x-overflow": "drop-head", "x-single-active-consumer": False}
HEADERS = {
    "text": "grüße", "small": 1, "large": 2**40, "negative": -5, "truth": True, "nothing": None, "real": 0.5,
    "when": WHEN, "list": [1, "two", {"three": 3}], "map": {"a": {"b": "c"}}, "bytes": b"\x00\xff", "decimal": decimal.Decimal("1.25"),
}


class Recorder:
    """Keeps the frames of both directions in the order in which they came."""

    def __init__(self):
        self.lines = []

    async def pump(self, reader, writer, direction, greeting):
        data = b""
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
            data += chunk
            if greeting and len(data) >= 8:
                self.lines.append(f"{direction} greeting {data[:8].hex()}")
                data, greeting = data[8:], False
            while not greeting and len(data) >= 8 and len(data) >= 8 + int.from_bytes(data[3:7], "big"):
                size = 8 + int.from_bytes(data[3:7], "big")
                self.note(direction, data[:size])
                data = data[size:]
        writer.close()

    def note(self, direction, frame):
        if frame[0] == 1:
            # `Basic.GetOk` is `basic.get-ok` in the specification.
            name = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", pamqp.frame.unmarshal(frame)[2].name).lower()
        else:
            name = {2: "header", 3: "body", 8: "heartbeat"}[frame[0]]
        self.lines.append(f"{direction} {name} {frame.hex()}")


def proxy(recorder, broker):
    """Listens on a free port and returns it."""
    host, _, port = broker.partition(":")
    ready, found = threading.Event(), []

    async def accept(reader, writer):
        broker_reader, broker_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(
            recorder.pump(reader, broker_writer, ">", True),
            recorder.pump(broker_reader, writer, "<", False),
            return_exceptions=True,
        )

    async def serve():
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return found[0]


def with_pika(port):
    import pika

    # It has no floats.
    headers = {name: value for name, value in HEADERS.items() if name != "real"}
    properties = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers=headers, delivery_mode=2, priority=3,
        correlation_id="c1", reply_to="replies", expiration="60000", message_id="m1", timestamp=1700000000,
        type="kind", user_id="guest", app_id="recorder", cluster_id="cluster",
    )
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, frame_max=8192))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("golden.x", "topic", auto_delete=True, arguments={"alternate-exchange": "amq.fanout"})
    channel.queue_declare("golden.q", durable=True, arguments=ARGUMENTS)
    channel.queue_bind("golden.q", "golden.x", "a.#", arguments={"x-match": "all"})
    channel.basic_publish("golden.x", "a.b", b"hello", properties, mandatory=True)
    try:
        channel.basic_publish("golden.x", "nowhere", b"", pika.BasicProperties(), mandatory=True)
    except pika.exceptions.UnroutableError:
        pass
    channel.basic_publish("", "golden.q", b"x" * 10000)
    channel.basic_qos(prefetch_count=10)
    method, _, _ = channel.basic_get("golden.q")
    channel.basic_nack(method.delivery_tag, requeue=True)
    for method, _, _ in channel.consume("golden.q", inactivity_timeout=2):
        if method is None:
            break
        channel.basic_ack(method.delivery_tag)
        if method.routing_key == "golden.q":
            break
    channel.cancel()
    channel.basic_get("golden.q")
    channel.queue_purge("golden.q")
    channel.queue_unbind("golden.q", "golden.x", "a.#", arguments={"x-match": "all"})
    channel.queue_delete("golden.q")
    try:
        channel.queue_declare("golden.missing", passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        pass
    other = connection.channel()
    other.tx_select()
    other.tx_commit()
    other.tx_rollback()
    other.close()
    connection.close()


def with_aio_pika(port):
    import aio_pika

    async def talk():
        connection = await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{port}/")
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=5)
        exchange = await channel.declare_exchange("golden.h", aio_pika.ExchangeType.HEADERS, auto_delete=True)
        queue = await channel.declare_queue("", exclusive=True, arguments=ARGUMENTS)
        await queue.bind(exchange, arguments={"x-match": "any", "color": "red"})
        headers = HEADERS | {"bytes": bytearray(HEADERS["bytes"]), "color": "red"}
        message = aio_pika.Message(
            b"hello", headers=headers, content_type="text/plain", delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            priority=3, correlation_id="c1", reply_to="replies", expiration=60, message_id="m1", timestamp=WHEN,
            type="kind", user_id="guest", app_id="recorder",
        )
        await exchange.publish(message, routing_key="")
        async with queue.iterator() as iterator:
            async for incoming in iterator:
                await incoming.ack()
                break
        await queue.delete()
        await connection.close()

    asyncio.run(talk())


def with_py_amqp(port):
    import amqp

    with amqp.Connection(f"127.0.0.1:{port}", confirm_publish=True) as connection:
        channel = connection.channel()
        channel.exchange_declare("golden.d", "direct", auto_delete=True)
        channel.queue_declare("golden.p", durable=True, auto_delete=False, arguments=ARGUMENTS)
        channel.queue_bind("golden.p", "golden.d", "key")
        message = amqp.Message(
            "hello", application_headers={k: v for k, v in HEADERS.items() if k != "bytes"}, content_type="text/plain",
            delivery_mode=2, priority=3, correlation_id="c1", reply_to="replies", message_id="m1", type="kind",
        )
        channel.basic_publish(message, "golden.d", "key")
        got = channel.basic_get("golden.p")
        channel.basic_reject(got.delivery_tag, requeue=True)
        channel.basic_consume("golden.p", callback=lambda it: channel.basic_ack(it.delivery_tag), consumer_tag="tag")
        connection.drain_events(timeout=2)
        channel.basic_recover(requeue=True)
        channel.basic_cancel("tag")
        channel.flow(True)
        channel.queue_delete("golden.p")
        channel.close()


CLIENTS = {
    "pika": (with_pika, ["pika"]),
    "aio-pika": (with_aio_pika, ["aio-pika", "aiormq"]),
    "py-amqp": (with_py_amqp, ["amqp"]),
}


def main():
    broker, name, *command = sys.argv[1:]
    recorder = Recorder()
    port = proxy(recorder, broker)
    if name not in CLIENTS:
        print(f"# {name}; peer: RabbitMQ 3.10.8; recorded by record.py")
        subprocess.run([word.replace("PORT", str(port)) for word in command], check=True)
    else:
        talk, packages = CLIENTS[name]
        versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
        print(f"# {versions}; peer: RabbitMQ 3.10.8; recorded by record.py")
        talk(port)
    print("\n".join(recorder.lines))


main()
