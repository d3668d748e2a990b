"""What holds in every virtual host alike, and where a stream is no queue?"""
from harness import equal, fresh, scenario
from with_pika import Consumer, channel_of, put, refused, take


@scenario
def a_dead_letter_goes_on_under_its_own_key_in_every_virtual_host(server):
    vhost = fresh("host")
    server.api("PUT", f"vhosts/{vhost}", {})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    server.api("PUT", f"permissions/{vhost}/{server.user}", everything)
    try:
        with channel_of(server, virtual_host=vhost) as channel:
            channel.exchange_declare("dead", "topic")
            channel.queue_declare("graves")
            channel.queue_declare("work q", arguments={"x-dead-letter-exchange": "dead"})
            channel.queue_bind("graves", "dead", "work q")
            put(channel, "work q", "m")
            method, _, _ = channel.basic_get("work q")
            while method is None:
                method, _, _ = channel.basic_get("work q")
            channel.basic_reject(method.delivery_tag, requeue=False)
            method, properties, body = take(channel, "graves")
            equal((method.exchange, method.routing_key, body), ("dead", "work q", b"m"))
            (death,) = properties.headers["x-death"]
            equal((death["queue"], death["exchange"], death["routing-keys"]), ("work q", "", ["work q"]))
    finally:
        server.api("DELETE", f"vhosts/{vhost}")


@scenario
def a_stream_refuses_what_is_to_be_delayed(server):
    server.only_ours("RabbitMQ needs its plugin rabbitmq_delayed_message_exchange, which Debian does not have")
    exchange, stream = fresh("delayed"), fresh("stream")
    with channel_of(server, confirm=True) as channel:
        channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "fanout"})
        channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
        channel.queue_bind(stream, exchange)
        put(channel, "", "at once", exchange=exchange)
        refused(406, f"PRECONDITION_FAILED - topic '{stream}' cannot hold a message back until its time: a queue can",
                lambda: put(channel, "", "later", exchange=exchange, headers={"x-delay": 60000}))
    with channel_of(server) as channel:
        channel.queue_delete(stream)
        channel.exchange_delete(exchange)


@scenario
def ten_thousand_messages_of_one_virtual_host_do_not_delay_one_of_another(server):
    hosts = [fresh("many"), fresh("one")]
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for vhost in hosts:
        server.api("PUT", f"vhosts/{vhost}", {})
        server.api("PUT", f"permissions/{vhost}/{server.user}", everything)
    try:
        with channel_of(server, virtual_host=hosts[0]) as many, channel_of(server, virtual_host=hosts[1]) as one:
            many.queue_declare("jobs")
            one.queue_declare("jobs")
            many.basic_qos(prefetch_count=1)
            put(many, "jobs", *(b"x" for _ in range(10_000)))
            # Its worker is slow: it holds its first message all the while.
            slow = Consumer(many, "jobs")
            slow.wait(1)
            put(one, "jobs", b"m")
            equal(take(one, "jobs")[2], b"m")
            equal(len(slow.bodies), 1)
    finally:
        for vhost in hosts:
            server.api("DELETE", f"vhosts/{vhost}")
