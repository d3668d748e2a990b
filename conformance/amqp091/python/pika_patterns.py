"""Do the steps of routes that look beyond one message work for clients of this door: pika publishes, answers and consumes."""
import json

import pika

from harness import equal, eventually, fresh, scenario
from pika_routes import queue, route, taken
from with_pika import Consumer, channel_of, put, take_all


def publish(channel, to, *bodies, **properties):
    for body in bodies:
        with_properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, **properties)
        channel.basic_publish("", to, json.dumps(body).encode(), with_properties)


def waiting(channel, name):
    return channel.queue_declare(name, passive=True).method.message_count


@scenario
def an_aggregate_is_consumed_as_one_message_of_those_that_belong_together(server):
    with channel_of(server, confirm=True) as channel:
        inbox, out = queue(channel), queue(channel)
        route(server, [
            {"aggregate": {"key": ".order", "count": ".of", "body": "map(.sku)"}},
            # Clients of this door see no headers of ours; a step hands on what they want of them.
            {"transform": {"headers": "{size: $headers[\"ws-aggregate-size\"], end: $headers[\"ws-aggregate-end\"]}"}},
            {"to": out},
        ], source={"queue": inbox})
        publish(channel, inbox, {"order": 1, "of": 2, "sku": "a"}, correlation_id="c-1")
        publish(channel, inbox, {"order": 2, "of": 2, "sku": "b"}, {"order": 1, "of": 2, "sku": "c"}, correlation_id="c-2")
        eventually(lambda: waiting(channel, out) == 1)
        _, properties, body = channel.basic_get(out, auto_ack=True)
        equal(json.loads(body), ["a", "c"])
        equal((properties.correlation_id, properties.content_type), ("c-1", "application/json"))
        equal((properties.headers["size"], properties.headers["end"]), (2, "size"))


@scenario
def messages_are_consumed_in_the_order_of_their_numbers_and_a_late_one_is_a_dead_letter(server):
    with channel_of(server, confirm=True) as channel:
        inbox, out, dead = queue(channel), queue(channel), queue(channel)
        route(server, [{"resequence": {"number": "$headers.n"}}, {"to": out}], source={"queue": inbox}, dead_letter=dead)
        for number in [3, 2, 1, 2]:
            publish(channel, inbox, f"m{number}", headers={"n": number})
        eventually(lambda: waiting(channel, dead) == 1)
        equal(take_all(channel, out), [b'"m1"', b'"m2"', b'"m3"'])
        equal(take_all(channel, dead), [b'"m2"'])


@scenario
def servers_that_answer_by_reply_to_take_part_in_a_scatter_gather(server):
    with channel_of(server, confirm=True) as channel:
        inbox, first, second, replies, out = (queue(channel) for _ in range(5))
        route(server, [
            {"gather": {"to": [first, second], "replies": replies, "body": "{id: .request.id, best: (.replies | min)}"}},
            {"to": out},
        ], source={"queue": inbox})
        publish(channel, inbox, {"id": 7}, correlation_id="mine", reply_to="me")
        # What every RPC server with pika does.
        for bank, rate in [(first, 5), (second, 4)]:
            consumer = Consumer(channel, bank)
            consumer.wait(1)
            method, properties, body = consumer.got[0]
            equal(json.loads(body), {"id": 7})
            answer = pika.BasicProperties(correlation_id=properties.correlation_id, content_type="application/json")
            channel.basic_publish("", properties.reply_to, str(rate).encode(), answer)
            channel.basic_ack(method.delivery_tag)
        eventually(lambda: waiting(channel, out) == 1)
        _, properties, body = channel.basic_get(out, auto_ack=True)
        equal(json.loads(body), {"id": 7, "best": 4})
        equal((properties.correlation_id, properties.reply_to), ("mine", None))


@scenario
def a_worker_that_comes_says_by_a_message_where_it_is_to_be_found(server):
    with channel_of(server, confirm=True) as channel:
        inbox, rest, topic, worker = queue(channel), queue(channel), fresh("table"), "team." + fresh("worker")
        channel.queue_declare(worker, durable=True)
        status, _, answer = server.request("PUT", f"/v1/topics/{topic}", {"compact": True})
        equal(status, 201, answer.decode())
        name = route(server, [
            {"table": {"topic": topic, "key": ".kind", "allowed": ["team.*"]}, "else": rest},
        ], source={"queue": inbox})
        publish(channel, inbox, {"kind": "paint", "n": 1})
        taken(server, name, 1)
        entry = json.dumps(worker).encode()
        status, _, answer = server.request("POST", f"/v1/topics/{topic}/messages", entry, headers={"Ws-Key": "paint"})
        equal(status, 200, answer.decode())
        publish(channel, inbox, {"kind": "paint", "n": 2})
        taken(server, name, 2)
        equal(take_all(channel, rest), [b'{"kind": "paint", "n": 1}'])
        equal(take_all(channel, worker), [b'{"kind": "paint", "n": 2}'])
