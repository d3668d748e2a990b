"""How much may a virtual host and a user have, and for how long may a delivery stay unsettled?"""
import pika
import pika.exceptions

from harness import equal, eventually, fresh, scenario
from with_pika import Consumer, channel_of, connected, put, refused, take

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


def refusal(expected, action):
    """What the server says as it ends the connection, or does not let it begin."""
    try:
        action()
    except pika.exceptions.ConnectionClosedByBroker as closed:
        equal((closed.reply_code, closed.reply_text), (530, f"NOT_ALLOWED - {expected}"))
    except pika.exceptions.ProbableAccessDeniedError as denied:
        assert expected in str(denied), str(denied)
    else:
        raise AssertionError("it was let in")


@scenario
def a_virtual_host_has_as_many_queues_and_connections_as_it_may(server):
    vhost = fresh("limited")
    server.api("PUT", f"vhosts/{vhost}", {})
    server.api("PUT", f"permissions/{vhost}/{server.user}", EVERYTHING)
    try:
        equal(server.api("PUT", f"vhost-limits/{vhost}/max-queues", {"value": 1})[0], 204)
        equal(server.api("PUT", f"vhost-limits/{vhost}/max-connections", {"value": 1})[0], 204)
        shown = [{"vhost": vhost, "value": {"max-queues": 1, "max-connections": 1}}]
        equal(server.api("GET", f"vhost-limits/{vhost}")[1], shown)
        with channel_of(server, virtual_host=vhost) as channel:
            channel.queue_declare("first")
            refused(406, f"PRECONDITION_FAILED - cannot declare queue 'second': queue limit in vhost '{vhost}' (1) is reached",
                    lambda: channel.queue_declare("second"))
            limit = f"access to vhost '{vhost}' refused for user '{server.user}': connection limit (1) is reached"
            refusal(limit, lambda: connected(server, virtual_host=vhost).__enter__())
        equal(server.api("DELETE", f"vhost-limits/{vhost}/max-connections")[0], 204)
        with connected(server, virtual_host=vhost), connected(server, virtual_host=vhost):
            pass
    finally:
        server.api("DELETE", f"vhosts/{vhost}")


def samples(server, label, of):
    """The metrics about a virtual host or user."""
    status, _, data = server.request("GET", "/metrics")
    equal(status, 200)
    mark = f'{{{label}="{of}"}} '
    lines = [line.split(mark) for line in data.decode().splitlines() if mark in line]
    return {name.removeprefix(f"waystation_{label}_"): float(value) for name, value in lines}


@scenario
def limits_and_what_is_used_of_them_stand_in_the_metrics(server):
    server.only_ours("RabbitMQ's metrics do not tell it")
    vhost, user, password = fresh("measured"), fresh("measured"), fresh("secret")
    limits = {"max_queues": 5, "max_connections": 7, "concurrency": 9}
    equal(server.request("PUT", f"/v1/vhosts/{vhost}", {"limits": limits})[0], 201)
    limits = {"max_connections": 3, "max_channels": 10}
    equal(server.request("PUT", f"/v1/users/{user}", {"password": password, "limits": limits})[0], 201)
    equal(server.request("PUT", f"/v1/permissions/{vhost}/{user}", EVERYTHING)[0], 201)
    login = {"virtual_host": vhost, "credentials": pika.PlainCredentials(user, password)}
    try:
        with connected(server, **login) as one, connected(server, **login) as other:
            channel = one.channel()
            one.channel()
            other.channel()
            channel.queue_declare("q")
            put(channel, "q", "m")
            equal(channel.basic_get("q")[2], b"m")
            equal(samples(server, "user", user),
                  {"connections": 2, "connections_limit": 3, "channels": 3, "channels_limit": 10})
            equal(samples(server, "vhost", vhost), {
                "queues": 1, "queues_limit": 5, "connections": 2, "connections_limit": 7,
                "messages_in_flight": 1, "messages_in_flight_limit": 9, "held_back": 0,
            })
        eventually(lambda: samples(server, "user", user)["connections"] == 0)
        equal(server.request("PATCH", f"/v1/users/{user}", {"limits": {"max_channels": None}})[0], 200)
        equal("channels_limit" in samples(server, "user", user), False)
    finally:
        server.request("DELETE", f"/v1/users/{user}")
        server.request("DELETE", f"/v1/vhosts/{vhost}")


@scenario
def a_delivery_that_is_not_settled_in_time_closes_its_channel_and_comes_back(server):
    server.only_ours("RabbitMQ looks once a minute")
    queue = fresh("late")
    with connected(server) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-consumer-timeout": 1000})
        put(channel, queue, "m")
        consumer = Consumer(channel, queue)
        consumer.wait(1)
        refused(406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1000 ms. "
                     "This timeout value can be configured, see consumers doc guide to learn more",
                channel.start_consuming)
        other = connection.channel()
        method, _, body = take(other, queue)
        equal((method.redelivered, body), (True, b"m"))
        other.queue_delete(queue)
