"""Does the record tell what became of messages that pika sent and took: by each of their ids, to the dead letters, and of what nothing took?"""
import json
import urllib.parse
import uuid

import pika
import pika.exceptions

from harness import equal, eventually, fresh, scenario
from with_pika import channel_of, connected, put, take


def journey(server, **query):
    status, _, data = server.request("GET", "/v1/journeys?" + urllib.parse.urlencode(query))
    equal(status, 200, data)
    return json.loads(data)


def steps(stay):
    return [step["what"] for copy in stay["copies"] for step in copy["steps"]]


@scenario
def a_rejected_message_is_found_by_each_of_its_ids_with_who_sent_it_and_who_rejected_it(server):
    server.only_ours("the record is Waystation's")
    orders, dead = fresh("orders"), fresh("dead")
    trace, message, correlation, order = uuid.uuid4().hex, fresh("m"), fresh("c"), fresh("o")
    with channel_of(server, confirm=True, client_properties={"connection_name": "shop"}) as shop:
        shop.queue_declare(dead, durable=True)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        shop.queue_declare(orders, durable=True, arguments=arguments)
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "ws-business-order": order}
        put(shop, orders, "beans", message_id=message, correlation_id=correlation, headers=headers)
        with connected(server, client_properties={"connection_name": "billing"}) as connection:
            billing = connection.channel()
            method, _, _ = eventually(lambda: next((it for it in [billing.basic_get(orders)] if it[0]), None))
            billing.basic_reject(method.delivery_tag, requeue=False)
            eventually(lambda: shop.queue_declare(dead, passive=True).method.message_count == 1)
        for query in ({"message_id": message}, {"correlation_id": correlation}, {"trace_id": trace},
                      {"business": f"order:{order}"}, {"id": message}, {"id": correlation}, {"id": trace}, {"id": order}):
            told = journey(server, **query)
            equal([it["message_id"] for it in told["messages"]], [message], query)
            sent, buried = told["messages"][0]["stays"]
            equal((sent["address"], sent["how"], buried["address"], buried["how"]),
                  (orders, "published", dead, "dead_lettered"))
            equal(steps(sent), ["delivered", "rejected", "dead_lettered"])
            equal((sent["by"]["door"], sent["by"]["user"], sent["by"]["name"]), ("amqp", server.user, "shop"))
            handed = sent["copies"][0]["steps"][0]
            equal((handed["by"]["door"], handed["by"]["name"]), ("amqp", "billing"))
            (stop,) = told["stops"]
            equal((stop["at"], stop["standing"], told.get("under_way", [])), (dead, "stopped", []))
        take(shop, dead)
        eventually(lambda: journey(server, message_id=message)["stops"] == [])


@scenario
def a_reply_is_told_with_the_request_that_it_answers(server):
    server.only_ours("the record is Waystation's")
    requests, replies, request, correlation = fresh("requests"), fresh("replies"), fresh("m"), fresh("c")
    with channel_of(server, confirm=True) as channel:
        channel.queue_declare(requests)
        channel.queue_declare(replies)
        put(channel, requests, "?", message_id=request, correlation_id=correlation, reply_to=replies)
        _, properties, _ = take(channel, requests)
        put(channel, properties.reply_to, "!", message_id=request + "-reply", headers={"ws-cause": properties.message_id})
        take(channel, replies)
        asked, answered = journey(server, correlation_id=correlation)["messages"]
        equal((answered["message_id"], answered["parent"]), (request + "-reply", asked["id"]))
        equal(journey(server, message_id=request + "-reply")["messages"][0]["message_id"], request)


@scenario
def what_is_published_to_an_exchange_is_found_by_the_keys_that_the_exchange_declares(server):
    server.only_ours("the record is Waystation's")
    exchange, first, second, plain = fresh("sales"), fresh("audit"), fresh("own"), fresh("plain")

    def declare(what, name, spec, change=""):
        status, _, data = server.request("PUT", f"/v1/{what}/{name}{change}", spec)
        equal(status in (200, 201), True, data)

    def found(key, value):
        return sorted(it["message_id"] for it in journey(server, business=f"{key}:{value}")["messages"])

    with channel_of(server, confirm=True) as channel:
        channel.exchange_declare(exchange, "topic", durable=True)
        for queue in (first, plain):
            channel.queue_declare(queue, durable=True)
        # The queue's own key of the name comes before the exchange's.
        declare("queues", second, {"business": {"order": {"jq": ".number"}}})
        channel.queue_bind(first, exchange, "order.#")
        channel.queue_bind(second, exchange, "own.#")

        order = fresh("o")
        put(channel, "order.new", json.dumps({"order": order}), exchange=exchange, message_id=order + "-before")
        keys = {"order": {"jq": ".order"}, "customer": {"header": "x-customer"}}
        declare("routes", exchange, {"kind": "topic", "business": keys}, "?change=true")
        # Whoever declares it by AMQP need not know of them, and does not take them away.
        channel.exchange_declare(exchange, "topic", durable=True)
        put(channel, "order.new", json.dumps({"order": order}), exchange=exchange, message_id=order + "-1",
            headers={"x-customer": order + "-c"})
        put(channel, "own.new", json.dumps({"number": order, "order": "no"}), exchange=exchange, message_id=order + "-2")
        put(channel, "elsewhere", json.dumps({"order": order}), exchange=exchange, message_id=order + "-lost")
        put(channel, plain, json.dumps({"order": order}), message_id=order + "-plain")
        eventually(lambda: found("order", order) == [order + "-1", order + "-2", order + "-lost"])
        equal(found("customer", order + "-c"), [order + "-1"])
        equal(found("order", "no"), [])

        declare("routes", exchange, {"kind": "topic"}, "?change=true")
        put(channel, "order.new", json.dumps({"order": order}), exchange=exchange, message_id=order + "-after")
        eventually(lambda: journey(server, message_id=order + "-after")["messages"] != [])
        equal(found("order", order), [order + "-1", order + "-2", order + "-lost"])


@scenario
def what_no_binding_takes_is_told_as_returned_or_dropped(server):
    server.only_ours("the record is Waystation's")
    exchange = fresh("events")

    def told(message):
        journeys = journey(server, message_id=message)
        (stay,) = journeys["messages"][0]["stays"]
        (stop,) = journeys["stops"]
        equal((stay["how"], stay["copies"], stop["state"], stay["by"]["door"]), ("unrouted", [], "unrouted", "amqp"))
        return stay

    with channel_of(server, confirm=True) as channel:
        channel.exchange_declare(exchange, "direct", durable=True)
        put(channel, "nobody", "x", exchange=exchange, message_id=exchange + "-dropped")
        stay = told(exchange + "-dropped")
        equal((stay["kind"], stay["address"], stay["routing_key"], stay["told"]), ("route", exchange, "nobody", False))
        properties = pika.BasicProperties(message_id=exchange + "-returned")
        try:
            channel.basic_publish(exchange, "nobody", b"x", properties, mandatory=True)
            raise AssertionError("it was not returned")
        except pika.exceptions.UnroutableError:
            pass
        equal(told(exchange + "-returned")["told"], True)
        nowhere = fresh("nowhere")
        put(channel, nowhere, "x", message_id=nowhere)
        stay = told(nowhere)
        equal((stay["kind"], stay["address"], stay["told"]), ("queue", nowhere, False))
