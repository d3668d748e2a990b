"""How much may a virtual host and a user have, and for how long may a delivery stay unsettled?"""
import pika.exceptions

from harness import equal, fresh, scenario
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
