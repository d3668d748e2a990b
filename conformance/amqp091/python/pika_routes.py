"""Do routes with steps work for clients of this door: published by pika, routed by content, consumed by pika?"""
import json

import pika

from harness import equal, eventually, fresh, quoted, scenario
from with_pika import channel_of, put, refused, take_all


def queue(channel):
    name = fresh("routed")
    channel.queue_declare(name, durable=True)
    return name


def route(server, steps, **more):
    """Declares a route with steps; gives its name."""
    server.only_ours("RabbitMQ looks into no body")
    name = fresh("route")
    declaration = {"from": more.pop("source"), "steps": steps, **more}
    status, _, answer = server.request("PUT", f"/v1/routes/{quoted(name)}", declaration)
    equal(status, 201, answer.decode())
    return name


def taken(server, name, count):
    def has_taken():
        _, _, answer = server.request("GET", f"/v1/routes/{quoted(name)}")
        return json.loads(answer)["counts"]["taken"] == count
    eventually(has_taken)


@scenario
def a_message_is_routed_by_its_content_and_by_its_headers(server):
    with channel_of(server, confirm=True) as channel:
        inbox, big, eu, rest = (queue(channel) for _ in range(4))
        name = route(server, [{"choose": [
            {"when": {"jq": ".total >= 1000"}, "to": big},
            {"when": {"selector": "region = 'eu' AND JMSPriority > 3"}, "to": eu},
        ], "otherwise": rest}], source={"queue": inbox})
        for total, region, priority in [(5, "eu", 4), (5, "eu", 3), (1000, "us", 0)]:
            properties = pika.BasicProperties(
                content_type="application/json", headers={"region": region}, priority=priority, delivery_mode=2)
            channel.basic_publish("", inbox, json.dumps({"total": total}).encode(), properties)
        taken(server, name, 3)
        equal(take_all(channel, big), [b'{"total": 1000}'])
        equal(take_all(channel, eu), [b'{"total": 5}'])
        equal(take_all(channel, rest), [b'{"total": 5}'])


@scenario
def properties_survive_a_transformation_and_a_route_ends_at_an_exchange(server):
    with channel_of(server, confirm=True) as channel:
        inbox, out, exchange = queue(channel), queue(channel), fresh("exchange")
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_bind(out, exchange, "order.*.paid")
        name = route(server, [
            {"transform": {"body": "{id, by: $headers.who}", "headers": "{seen: true}"}},
            {"to": {"route": exchange, "key": "order.7.paid"}},
        ], source={"queue": inbox})
        properties = pika.BasicProperties(
            content_type="application/json", headers={"who": "me", "n": 7}, correlation_id="c-1", reply_to="somewhere",
            message_id="m-1", type="order", app_id="shop", priority=2, delivery_mode=2)
        channel.basic_publish("", inbox, b'{"id": 7, "secret": 1}', properties)
        taken(server, name, 1)
        method, got, body = channel.basic_get(out, auto_ack=True)
        equal((method.exchange, method.routing_key), (exchange, "order.7.paid"))
        equal(json.loads(body), {"id": 7, "by": "me"})
        equal((got.correlation_id, got.reply_to, got.message_id, got.type, got.app_id, got.priority, got.content_type),
              ("c-1", "somewhere", "m-1", "order", "shop", 2, "application/json"))
        equal((got.headers["who"], got.headers["n"], got.headers["seen"]), ("me", 7, True))


@scenario
def a_message_that_comes_by_an_exchange_is_routed_by_its_routing_key(server):
    with channel_of(server, confirm=True) as channel:
        inbox, paid, other, exchange = queue(channel), queue(channel), queue(channel), fresh("exchange")
        channel.exchange_declare(exchange, "fanout", durable=True)
        channel.queue_bind(inbox, exchange)
        name = route(server, [{"choose": [
            {"when": {"routing_key": "order.*.paid"}, "to": paid}], "otherwise": other}], source={"queue": inbox})
        put(channel, "order.7.paid", "1", exchange=exchange)
        put(channel, "order.7.open", "2", exchange=exchange)
        taken(server, name, 2)
        equal((take_all(channel, paid), take_all(channel, other)), ([b"1"], [b"2"]))


@scenario
def what_fails_is_among_the_dead_letters_with_error_and_input(server):
    with channel_of(server, confirm=True) as channel:
        inbox, out, dead = (queue(channel) for _ in range(3))
        name = route(server, [{"validate": ".id > 0"}, {"to": out}], source={"queue": inbox}, dead_letter=dead)
        for body in (b'{"id": 1}', b'{"id": 0}', b"no json", b'{"id": 2}'):
            put(channel, inbox, body)
        taken(server, name, 4)
        equal(take_all(channel, out), [b'{"id": 1}', b'{"id": 2}'])
        _, properties, body = channel.basic_get(dead, auto_ack=True)
        equal(body, b'{"id": 0}')
        equal((properties.headers["x-first-death-reason"], properties.headers["x-first-death-queue"]), ("route_error", inbox))
        equal((properties.headers["ws-death-route"], ".id > 0" in properties.headers["ws-death-error"]), (name, True))
        equal(properties.headers["ws-death-step"], "steps[0].validate")
        _, properties, body = channel.basic_get(dead, auto_ack=True)
        equal(body, b"no json")


@scenario
def an_exchange_and_a_route_with_steps_do_not_take_each_others_name(server):
    with channel_of(server) as channel:
        inbox, exchange = queue(channel), fresh("exchange")
        name = route(server, [{"to": []}], source={"queue": inbox})
        channel.exchange_declare(exchange, "topic", durable=True)
        def declared(**how):
            def declare():
                with channel_of(server) as other:
                    other.exchange_declare(name, **how)
            return declare
        refused(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", declared(passive=True))
        text = f"'{name}' exists as a route and differs in 'kind: it has steps'; change it explicitly or use another name"
        refused(406, f"PRECONDITION_FAILED - {text}", declared(exchange_type="topic", durable=True))
    declaration = {"from": {"queue": inbox}, "steps": [{"to": []}]}
    status, _, answer = server.request("PUT", f"/v1/routes/{quoted(exchange)}", declaration)
    equal((status, b"as one with bindings" in answer), (409, True))
