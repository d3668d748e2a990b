"""Does the management API tell and do what tools and test suites ask of it: overview, lists, definitions?"""
import json

import pika

from harness import equal, eventually, fresh, quoted, scenario
from with_pika import Consumer, channel_of, connected, put, take_all


@scenario
def the_overview_and_the_health_checks_answer(server):
    status, overview = server.api("GET", "overview")
    equal(status, 200)
    for name in ("management_version", "rabbitmq_version", "cluster_name", "node", "object_totals", "queue_totals",
                 "listeners", "message_stats"):
        assert name in overview, name
    equal(server.api("GET", "whoami")[1]["name"], server.user)
    nodes = server.api("GET", "nodes")[1]
    equal((len(nodes), nodes[0]["name"], nodes[0]["running"]), (1, overview["node"], True))
    for check in ("health/checks/alarms", "health/checks/local-alarms", "health/checks/virtual-hosts",
                  f"health/checks/port-listener/{server.port}", "aliveness-test/%2F"):
        status, answer = server.api("GET", check)
        equal((status, answer["status"]), (200, "ok"), check)


@scenario
def a_wrong_login_is_refused(server):
    equal(server.api("GET", "overview", user="guest", password="wrong")[0], 401)
    equal(server.api("GET", "overview", user="nobody", password="guest")[0], 401)


@scenario
def queues_exchanges_and_bindings_made_by_amqp_are_shown(server):
    queue, exchange = fresh("shown queue"), fresh("shown")
    with channel_of(server, confirm=True) as channel:
        channel.queue_declare(queue, durable=True, arguments={"x-max-length": 10})
        channel.exchange_declare(exchange, "topic", durable=True)
        channel.queue_bind(queue, exchange, "a.*", {"note": "x"})
        put(channel, queue, "1", "2")
        status, told = server.api("GET", f"queues/%2F/{quoted(queue)}")
        equal(status, 200)
        equal({name: told[name] for name in ("name", "vhost", "durable", "auto_delete", "exclusive", "arguments")},
              {"name": queue, "vhost": "/", "durable": True, "auto_delete": False, "exclusive": False,
               "arguments": {"x-max-length": 10}})
        ready = eventually(lambda: server.api("GET", f"queues/%2F/{quoted(queue)}")[1].get("messages_ready"), 15)
        equal(ready, 2)
        status, told = server.api("GET", f"exchanges/%2F/{exchange}")
        equal((status, told["type"], told["durable"], told["internal"]), (200, "topic", True, False))
        bindings = server.api("GET", f"queues/%2F/{quoted(queue)}/bindings")[1]
        shown = {(one["source"], one["destination"], one["destination_type"], one["routing_key"]) for one in bindings}
        equal(shown, {("", queue, "queue", queue), (exchange, queue, "queue", "a.*")})
        (made,) = [one for one in bindings if one["source"]]
        equal(made["arguments"], {"note": "x"})
        names = [one["name"] for one in server.api("GET", "queues/%2F")[1]]
        assert queue in names
        defaults = {one["name"] for one in server.api("GET", "exchanges/%2F")[1]}
        assert {"", "amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"} <= defaults, defaults
        equal(server.api("GET", f"queues/%2F/{fresh('absent')}")[0], 404)
        channel.queue_delete(queue)
        channel.exchange_delete(exchange)


@scenario
def what_the_management_api_declares_amqp_uses(server):
    queue, exchange = fresh("made"), fresh("made")
    equal(server.api("PUT", f"queues/%2F/{queue}", {"durable": True, "arguments": {"x-max-priority": 5}})[0], 201)
    equal(server.api("PUT", f"queues/%2F/{queue}", {"durable": True, "arguments": {"x-max-priority": 5}})[0], 204)
    equal(server.api("PUT", f"queues/%2F/{queue}", {"durable": False})[0], 400)
    equal(server.api("PUT", f"exchanges/%2F/{exchange}", {"type": "fanout", "durable": True})[0], 201)
    status, _ = server.api("POST", f"bindings/%2F/e/{exchange}/q/{queue}", {"routing_key": "k"})
    equal(status, 201)
    body = {"properties": {"priority": 3, "delivery_mode": 2, "headers": {"a": 1}}, "routing_key": "k",
            "payload": "by http", "payload_encoding": "string"}
    equal(server.api("POST", f"exchanges/%2F/{exchange}/publish", body), (200, {"routed": True}))
    with channel_of(server) as channel:
        channel.queue_declare(queue, durable=True, arguments={"x-max-priority": 5})
        consumer = Consumer(channel, queue, auto_ack=True)
        equal(consumer.wait(1), [b"by http"])
        method, properties, _ = consumer.got[0]
        equal((method.exchange, properties.priority, properties.headers), (exchange, 3, {"a": 1}))
        channel.basic_cancel(consumer.tag)
        put(channel, queue, "for http", content_type="text/plain")
        ask = {"count": 5, "ackmode": "ack_requeue_false", "encoding": "auto"}
        (message,) = eventually(lambda: server.api("POST", f"queues/%2F/{queue}/get", ask)[1])
        equal((message["payload"], message["routing_key"], message["properties"]["content_type"]),
              ("for http", queue, "text/plain"))
        put(channel, queue, "a", "b")
        equal(server.api("DELETE", f"queues/%2F/{queue}/contents")[0], 204)
        equal(take_all(channel, queue), [])
    equal(server.api("DELETE", f"queues/%2F/{queue}")[0], 204)
    equal(server.api("DELETE", f"exchanges/%2F/{exchange}")[0], 204)


@scenario
def connections_channels_and_consumers_are_shown(server):
    name = fresh("seen")
    with connected(server, client_properties={"connection_name": name}) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=7)
        queue = channel.queue_declare("", exclusive=True).method.queue
        consumer = Consumer(channel, queue)

        def ours():
            connection.process_data_events(0.1)
            return [one for one in server.api("GET", "connections")[1]
                    if one.get("client_properties", {}).get("connection_name") == name]

        (shown,) = eventually(ours, 20)
        equal((shown["user"], shown["vhost"], shown["protocol"]), (server.user, "/", "AMQP 0-9-1"))
        channels = eventually(lambda: connection.process_data_events(0.1) or server.api(
            "GET", f"connections/{quoted(shown['name'])}/channels")[1], 20)
        equal((channels[0]["number"], channels[0]["user"]), (1, server.user))
        (told,) = [one for one in server.api("GET", "consumers")[1] if one["consumer_tag"] == consumer.tag]
        equal((told["queue"]["name"], told["ack_required"], told["prefetch_count"], told["exclusive"]),
              (queue, True, 7, False))


@scenario
def definitions_are_imported_and_exported_whole(server):
    vhost, user = fresh("imported"), fresh("importer")
    definitions = {
        "rabbit_version": "3.10.8",
        "users": [{"name": user, "password_hash": "BOsz6oB2kjHrLqd7mEFEsScvWQBPVzvqg2jY7AQ4qyMQpYDV", "tags": [],
                   "hashing_algorithm": "rabbit_password_hashing_sha256"}],
        "vhosts": [{"name": vhost}],
        "permissions": [{"user": user, "vhost": vhost, "configure": "", "write": ".*", "read": ".*"},
                        {"user": server.user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}],
        "parameters": [], "global_parameters": [],
        "policies": [{"vhost": vhost, "name": "short", "pattern": "^short", "apply-to": "queues", "priority": 1,
                      "definition": {"max-length": 1}}],
        "queues": [{"name": "short.one", "vhost": vhost, "durable": True, "auto_delete": False, "arguments": {}},
                   {"name": "two", "vhost": vhost, "durable": True, "auto_delete": False,
                    "arguments": {"x-queue-type": "quorum"}}],
        "exchanges": [{"name": "in", "vhost": vhost, "type": "topic", "durable": True, "auto_delete": False,
                       "internal": False, "arguments": {}}],
        "bindings": [{"source": "in", "vhost": vhost, "destination": name, "destination_type": "queue",
                      "routing_key": "#", "arguments": {}} for name in ("short.one", "two")],
    }
    status, said = server.api("POST", "definitions", definitions)
    assert status in (200, 201, 204), (status, said)
    with channel_of(server, confirm=True, virtual_host=vhost) as channel:
        put(channel, "any", "1", "2", exchange="in")
        equal((take_all(channel, "short.one"), take_all(channel, "two")), ([b"2"], [b"1", b"2"]))
        channel.queue_declare("two", durable=True, arguments={"x-queue-type": "quorum"})
    exported = server.api("GET", "definitions")[1]
    equal(server.api("POST", "definitions", exported)[0] in (200, 201, 204), True, "what is exported is imported")
    for kind in ("queues", "exchanges", "policies"):
        wanted = {one["name"] for one in definitions[kind]}
        equal({one["name"] for one in exported[kind] if one["vhost"] == vhost}, wanted, kind)
    equal(len([one for one in exported["bindings"] if one["vhost"] == vhost]), 2)
    assert user in {one["name"] for one in exported["users"]}
    (back,) = [one for one in exported["users"] if one["name"] == user]
    equal(back["password_hash"], definitions["users"][0]["password_hash"])
    assert json.dumps(exported)
    server.api("DELETE", f"vhosts/{vhost}")
    server.api("DELETE", f"users/{user}")


@scenario
def a_user_with_a_changed_password_logs_in_with_the_new_one_only(server):
    user = fresh("changing")
    for password in ("first", "second"):
        server.api("PUT", f"users/{user}", {"password": password, "tags": "management"})
        server.api("PUT", f"permissions/%2F/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        with connected(server, credentials=pika.PlainCredentials(user, password)):
            pass
    try:
        with connected(server, credentials=pika.PlainCredentials(user, "first")):
            raise AssertionError("the old password still lets in")
    except pika.exceptions.ProbableAuthenticationError:
        pass
    equal(server.api("GET", "whoami", user=user, password="second")[0], 200)
    equal(server.api("PUT", "users/x", {"password": "x", "tags": ""}, user=user, password="second")[0], 401)
    equal(server.api("DELETE", f"users/{user}")[0], 204)
    try:
        with connected(server, credentials=pika.PlainCredentials(user, "second")):
            raise AssertionError("a user that was deleted is let in")
    except pika.exceptions.ProbableAuthenticationError:
        pass
