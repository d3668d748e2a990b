"""Does a message that enters by AMQP leave by HTTP with everything it had, and the other way round?"""
import base64
import datetime
import decimal
import json
import time

import pika

from harness import equal, fresh, quoted, scenario
from with_pika import channel_of, put, take

STAMP = 1_700_000_000


def receive(server, queue):
    """One message by HTTP, accepted."""
    path = f"/v1/queues/{quoted(queue)}"
    status, _, data = server.request("POST", f"{path}/receive?max=1&wait_ms=5000&lease_ms=30000")
    equal(status, 200, data)
    (message,) = json.loads(data)["messages"]
    settlement = {"tag": message["tag"], "attempt": message["attempt"], "outcome": "accept"}
    status, _, data = server.request("POST", f"{path}/settle", {"settlements": [settlement]})
    equal(status, 200, data)
    return message


@scenario
def what_amqp_publishes_http_reads_with_every_property(server):
    server.only_ours("HTTP is a door of Waystation")
    queue = fresh("amqp-to-http")
    with channel_of(server, confirm=True) as channel:
        channel.queue_declare(queue, durable=True)
        properties = dict(
            content_type="application/json", content_encoding="identity", correlation_id="c-1", reply_to="answers",
            message_id="m-1", timestamp=STAMP, type="order.created", priority=4, user_id=server.user, app_id="shop",
            delivery_mode=2,
            headers={"colour": "blue", "weight": 7, "big": 2**40, "yes": True, "nothing": None,
                     "list": [1, "two"], "table": {"a": 1}, "bytes": b"\x00\xff",
                     "price": decimal.Decimal("12.50"),
                     "when": datetime.datetime.fromtimestamp(STAMP, datetime.timezone.utc)})
        channel.basic_publish("", queue, '{"order": 4711}', pika.BasicProperties(**properties))
        message = receive(server, queue)
        equal(message["body"], {"order": 4711})
        wanted = {"content_type": "application/json", "correlation_id": "c-1", "reply_to": "answers", "id": "m-1",
                  "timestamp": STAMP * 1000, "type": "order.created", "priority": 4}
        equal({name: message.get(name) for name in wanted}, wanted)
        headers = message["headers"]
        told = {"colour": "blue", "weight": 7, "big": 2**40, "yes": True, "nothing": None,
                "list": [1, "two"], "table": {"a": 1}, "bytes": {"$base64": base64.b64encode(b"\x00\xff").decode()},
                "price": {"$decimal": "125e-1"}, "when": {"$time_ms": STAMP * 1000}}
        equal({name: headers.get(name) for name in told}, told)
        equal((headers.get("user-id"), headers.get("app-id")), (server.user, "shop"))
        equal((headers.get("ws-exchange"), headers.get("ws-routing-key")), ("", queue))
        # A body that is not what its content type says is bytes.
        put(channel, queue, b"\x00\xfe")
        equal(base64.b64decode(receive(server, queue)["body_base64"]), b"\x00\xfe")
        channel.queue_delete(queue)


@scenario
def what_http_publishes_amqp_reads_with_every_property(server):
    server.only_ours("HTTP is a door of Waystation")
    queue = fresh("http-to-amqp")
    status, _, data = server.request("PUT", f"/v1/queues/{queue}", {})
    equal(status, 201, data)
    line = {"body_text": "plain", "content_type": "text/plain", "correlation_id": "c-2", "reply_to": "answers",
            "id": "m-2", "type": "parcel.sent", "priority": 9, "timestamp": STAMP * 1000,
            "headers": {"colour": "red", "weight": 7, "yes": False, "list": [1, "two"],
                        "bytes": {"$base64": "AP8="}, "when": {"$time_ms": STAMP * 1000}}}
    status, _, data = server.request("POST", f"/v1/queues/{queue}/messages", json.dumps(line).encode(),
                                     {"Content-Type": "application/x-ndjson"})
    equal(status, 200, data)
    with channel_of(server) as channel:
        method, properties, body = take(channel, queue)
        equal((method.exchange, method.routing_key, method.redelivered, body), ("", queue, False, b"plain"))
        got = {name: getattr(properties, name) for name in (
            "content_type", "correlation_id", "reply_to", "message_id", "type", "priority", "timestamp",
            "delivery_mode")}
        equal(got, {"content_type": "text/plain", "correlation_id": "c-2", "reply_to": "answers", "message_id": "m-2",
                    "type": "parcel.sent", "priority": 9, "timestamp": STAMP, "delivery_mode": 2})
        when = datetime.datetime.fromtimestamp(STAMP, datetime.timezone.utc)
        equal(properties.headers, {"colour": "red", "weight": 7, "yes": False, "list": [1, "two"],
                                   "bytes": b"\x00\xff", "when": when})
        channel.queue_delete(queue)


@scenario
def http_and_amqp_consumers_share_a_queue(server):
    server.only_ours("HTTP is a door of Waystation")
    queue = fresh("shared")
    with channel_of(server, confirm=True) as channel:
        channel.queue_declare(queue, durable=True)
        put(channel, queue, "one", "two", content_type="text/plain")
        equal(receive(server, queue)["body_text"], "one")
        equal(take(channel, queue)[2], b"two")
        # Rejected by HTTP, dead-lettered by the queue's AMQP arguments, with the history AMQP shows.
        dead = channel.queue_declare("", exclusive=True).method.queue
        work = fresh("work")
        channel.queue_declare(work, durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        put(channel, work, "bad")
        _, _, data = server.request("POST", f"/v1/queues/{work}/receive?max=1&wait_ms=5000")
        (message,) = json.loads(data)["messages"]
        settlement = {"tag": message["tag"], "attempt": message["attempt"], "outcome": "reject", "error": "no use"}
        status, _, data = server.request("POST", f"/v1/queues/{work}/settle", {"settlements": [settlement]})
        equal(status, 200, data)
        _, properties, body = take(channel, dead)
        (death,) = properties.headers["x-death"]
        equal((body, death["queue"], death["reason"], death["count"]), (b"bad", work, "rejected", 1))
        for name in (queue, work):
            channel.queue_delete(name)


@scenario
def a_stream_is_a_topic_that_http_subscribes_to(server):
    server.only_ours("HTTP is a door of Waystation")
    name = fresh("stream")
    with channel_of(server, confirm=True) as channel:
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
        status, _, data = server.request("PUT", f"/v1/subscriptions/{name}-board", {"topic": name, "start": "earliest"})
        equal(status, 201, data)
        put(channel, name, "first", content_type="text/plain")
        path = f"/v1/subscriptions/{name}-board/receive?max=1&wait_ms=5000"
        status, _, data = server.request("POST", path)
        (message,) = json.loads(data)["messages"]
        equal((message["body_text"], message["offset"]), ("first", 0))
        server.request("DELETE", f"/v1/subscriptions/{name}-board")
        channel.queue_delete(name)


@scenario
def ttl_and_delay_set_by_http_hold_for_amqp_consumers(server):
    server.only_ours("HTTP is a door of Waystation")
    queue = fresh("timed")
    server.request("PUT", f"/v1/queues/{queue}", {})
    for body, headers in ((b"short-lived", {"Ws-Ttl-Ms": "100"}), (b"late", {"Ws-Delay-Ms": "300"})):
        status, _, data = server.request("POST", f"/v1/queues/{queue}/messages", body,
                                         {"Content-Type": "text/plain", **headers})
        equal(status, 200, data)
    time.sleep(0.15)
    with channel_of(server) as channel:
        equal(channel.basic_get(queue)[2], None)
        equal(take(channel, queue)[2], b"late")
        channel.queue_delete(queue)
