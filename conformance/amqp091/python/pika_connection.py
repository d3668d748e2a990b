"""What holds for whole connections: breaking, load, TLS, virtual hosts, permissions, policies, what is being managed?"""
import contextlib
import re
import threading
import time

import pika
import pika.exceptions

from harness import Skip, equal, eventually, fresh, quoted, scenario
from proxy import through_proxy
from with_pika import Consumer, channel_of, connected, depth, parameters, put, refused, take, take_all


@scenario
def a_broken_connection_gives_back_what_it_held_and_keeps_what_was_confirmed(server):
    queue = fresh("broken")
    with through_proxy(server) as proxy, channel_of(server, confirm=True) as witness:
        witness.queue_declare(queue, durable=True)
        connection = pika.BlockingConnection(parameters(server, port=proxy.port))
        channel = connection.channel()
        channel.confirm_delivery()
        put(channel, queue, "a", "b", "c", delivery_mode=2)
        consumer = Consumer(channel, queue)
        consumer.wait(3)
        channel.basic_ack(1)
        equal(depth(witness, queue), 0)
        connection.process_data_events(0.05)
        proxy.cut()
        got = [take(witness, queue) for _ in range(2)]
        equal([(body, method.redelivered) for method, _, body in got], [(b"b", True), (b"c", True)])
        try:
            put(channel, queue, "too late")
            raise AssertionError("the client has not noticed")
        except pika.exceptions.AMQPConnectionError:
            pass
        again = pika.BlockingConnection(parameters(server, port=proxy.port))
        channel = again.channel()
        channel.confirm_delivery()
        put(channel, queue, "d")
        equal(take_all(channel, queue), [b"d"])
        channel.queue_delete(queue)
        again.close()


@scenario
def a_message_that_is_held_when_connections_break_reaches_its_delivery_limit(server):
    queue, dead = fresh("poison"), fresh("dead")
    with through_proxy(server) as proxy, channel_of(server, confirm=True) as witness:
        witness.queue_declare(dead, durable=True)
        witness.queue_declare(queue, durable=True, arguments={
            "x-queue-type": "quorum", "x-delivery-limit": 2,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        put(witness, queue, "poison", delivery_mode=2)
        for attempt in range(3):
            connection = pika.BlockingConnection(parameters(server, port=proxy.port))
            consumer = Consumer(connection.channel(), queue)
            consumer.wait(1)
            equal(consumer.got[0][0].redelivered, attempt > 0)
            proxy.cut()
        _, properties, body = take(witness, dead, 10.0)
        equal((body, properties.headers["x-death"][0]["reason"]), (b"poison", "delivery_limit"))
        witness.queue_delete(queue)
        witness.queue_delete(dead)


@scenario
def exclusive_queues_go_when_their_connection_breaks(server):
    name = fresh("exclusive")
    with through_proxy(server) as proxy, connected(server) as witness:
        connection = pika.BlockingConnection(parameters(server, port=proxy.port))
        connection.channel().queue_declare(name, exclusive=True)
        proxy.cut()

        def gone():
            try:
                witness.channel().queue_declare(name, passive=True)
            except pika.exceptions.ChannelClosedByBroker as closed:
                return closed.reply_code == 404

        eventually(gone)
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()


@scenario
def confirms_under_load_come_for_every_message_in_order(server):
    """Twenty thousand publishes without waiting; acknowledgements may come for several at once."""
    count, queue = 20_000, fresh("load")
    unconfirmed, confirmed = set(range(1, count + 1)), []

    with connected(server) as setup:
        setup.channel().queue_declare(queue, durable=True)

    def on_open(channel):
        channel.confirm_delivery(on_confirm)
        for n in range(1, count + 1):
            channel.basic_publish("", queue, str(n), pika.BasicProperties(delivery_mode=2))

    def on_confirm(frame):
        assert isinstance(frame.method, pika.spec.Basic.Ack), frame
        tag = frame.method.delivery_tag
        done = [n for n in unconfirmed if n <= tag] if frame.method.multiple else [tag]
        unconfirmed.difference_update(done)
        confirmed.extend(done)
        if not unconfirmed:
            connection.close()

    connection = pika.SelectConnection(
        parameters(server), on_open_callback=lambda c: c.channel(on_open_callback=on_open),
        on_close_callback=lambda c, _: c.ioloop.stop())
    connection.ioloop.start()
    equal(sorted(confirmed), list(range(1, count + 1)))
    with channel_of(server) as channel:
        equal(depth(channel, queue), count)
        consumer = Consumer(channel, queue, auto_ack=True)
        equal([int(body) for body in consumer.wait(count, 30)], list(range(1, count + 1)))
        channel.queue_delete(queue)


@scenario
def many_channels_on_one_connection_do_not_disturb_each_other(server):
    with connected(server) as connection:
        channels = [connection.channel() for _ in range(100)]
        names = [channel.queue_declare("", exclusive=True).method.queue for channel in channels]
        equal(len(set(names)), 100)
        for channel, name in zip(channels, names):
            put(channel, name, name)
        for number, (channel, name) in enumerate(zip(channels, names)):
            equal(take(channel, name)[2], name.encode())
            if number % 2:
                channel.close()
        again = connection.channel()
        assert again.channel_number in range(1, 101), "closed numbers are used again"


@scenario
def a_connection_lives_on_heartbeats_alone(server):
    with connected(server, heartbeat=1) as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        end = time.monotonic() + 4
        while time.monotonic() < end:
            connection.process_data_events(time_limit=0.2)
        put(channel, queue, "alive")
        equal(take(channel, queue)[2], b"alive")


@scenario
def large_messages_come_whole(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        bodies = [bytes([n]) * size for n, size in enumerate((1, 131_064, 131_065, 1_000_000, 8_000_000))]
        put(channel, queue, *bodies)
        consumer = Consumer(channel, queue, auto_ack=True)
        assert consumer.wait(len(bodies)) == bodies, "bodies differ"


@scenario
def tls_is_spoken_on_its_port(server):
    if not server.tls_port or not server.certificate:
        raise Skip("no TLS port was given")
    options = pika.SSLOptions(server.tls_context(), "localhost")
    with channel_of(server, confirm=True, port=server.tls_port, ssl_options=options) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        put(channel, queue, "secret", b"x" * 300_000)
        equal(take_all(channel, queue), [b"secret", b"x" * 300_000])


@contextlib.contextmanager
def virtual_host(server):
    """A new virtual host to which the user has all rights."""
    name = fresh("vhost")
    status, _ = server.api("PUT", f"vhosts/{name}")
    equal(status in (201, 204), True, f"PUT vhosts: {status}")
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    server.api("PUT", f"permissions/{name}/{server.user}", everything)
    try:
        yield name
    finally:
        server.api("DELETE", f"vhosts/{name}")


@scenario
def virtual_hosts_are_worlds_apart(server):
    with virtual_host(server) as vhost:
        queue = fresh("same name")
        with channel_of(server, confirm=True) as here, channel_of(server, confirm=True, virtual_host=vhost) as there:
            here.queue_declare(queue, exclusive=True)
            put(here, queue, "here")
            refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '{vhost}'",
                    lambda: there.queue_declare(queue, passive=True))
        with channel_of(server, confirm=True, virtual_host=vhost) as there:
            there.queue_declare(queue, durable=True)
            there.queue_bind(queue, "amq.topic", "#")
            put(there, "any.key", "there", exchange="amq.topic")
            equal(take_all(there, queue), [b"there"])
    try:
        with connected(server, virtual_host=vhost):
            raise AssertionError("a virtual host that was deleted lets in")
    except (pika.exceptions.ConnectionClosedByBroker, pika.exceptions.ProbableAccessDeniedError):
        pass


@scenario
def permissions_say_what_a_user_may_configure_write_and_read(server):
    user = fresh("user")
    with virtual_host(server) as vhost:
        server.api("PUT", f"users/{user}", {"password": "secret", "tags": ""})
        login = dict(credentials=pika.PlainCredentials(user, "secret"), virtual_host=vhost)
        try:
            with connected(server, **login):
                raise AssertionError("let in without any permission")
        except pika.exceptions.ProbableAccessDeniedError as error:
            assert f"NOT_ALLOWED - access to vhost '{vhost}' refused for user '{user}'" in str(error), error
        server.api("PUT", f"permissions/{vhost}/{user}",
                   {"configure": "^mine-", "write": "^(mine-|amq\\.default$)", "read": "^mine-"})
        with channel_of(server, virtual_host=vhost) as admin:
            admin.queue_declare("theirs")
            admin.exchange_declare("theirs-x", "fanout")
        with connected(server, **login) as connection:
            channel = connection.channel()
            channel.queue_declare("mine-q", exclusive=True)
            channel.exchange_declare("mine-x", "fanout")
            channel.queue_bind("mine-q", "mine-x")
            put(channel, "", "allowed", exchange="mine-x")
            put(channel, "mine-q", "allowed too")
            equal(take(channel, "mine-q")[2], b"allowed")

            def denied(kind, name, action):
                channel = connection.channel()
                try:
                    action(channel)
                    raise AssertionError(f"was let at {kind} {name}")
                except pika.exceptions.ChannelClosedByBroker as closed:
                    equal(closed.reply_code, 403)
                    # RabbitMQ says since 3.13 which access is meant.
                    said = re.sub("(configure|write|read) access", "access", closed.reply_text)
                    equal(said, f"ACCESS_REFUSED - access to {kind} '{name}' in vhost '{vhost}' refused for user '{user}'")

            # To look whether something is there takes no permission.
            channel.queue_declare("theirs", passive=True)
            channel.exchange_declare("theirs-x", passive=True)
            refused(404, f"NOT_FOUND - no queue 'other' in vhost '{vhost}'",
                    lambda: connection.channel().queue_declare("other", passive=True))
            denied("queue", "other", lambda c: c.queue_declare("other"))
            denied("exchange", "other", lambda c: c.exchange_declare("other", "direct"))
            denied("queue", "theirs", lambda c: c.basic_get("theirs"))
            denied("queue", "theirs", lambda c: c.basic_consume("theirs", lambda *_: None))
            denied("queue", "theirs", lambda c: c.queue_delete("theirs"))
            denied("queue", "theirs", lambda c: c.queue_purge("theirs"))
            denied("queue", "theirs", lambda c: c.queue_bind("theirs", "mine-x"))
            denied("exchange", "theirs-x", lambda c: c.queue_bind("mine-q", "theirs-x"))
            denied("exchange", "theirs-x", lambda c: (
                put(c, "k", "x", exchange="theirs-x"), c.queue_declare("mine-other", exclusive=True)))
        server.api("DELETE", f"users/{user}")


@scenario
def policies_apply_to_the_queues_and_exchanges_they_name_and_change_while_they_live(server):
    prefix = fresh("policed")
    with channel_of(server, confirm=True) as channel:
        queue, dead = prefix + "-work", prefix + ".dead"
        channel.queue_declare(queue)
        channel.queue_declare(dead)

        def policy(name, definition, priority=0, apply_to="all", pattern=f"^{prefix}-"):
            status, said = server.api("PUT", f"policies/%2F/{name}", {
                "pattern": pattern, "definition": definition, "priority": priority, "apply-to": apply_to})
            equal(status in (201, 204), True, f"{status} {said}")

        policy(prefix + "a", {"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": dead})
        time.sleep(0.3)
        put(channel, queue, "1", "2", "3")
        equal(take(channel, dead)[2], b"1")
        equal(take_all(channel, queue), [b"2", b"3"])
        policy(prefix + "b", {"message-ttl": 100}, priority=5, apply_to="queues")
        time.sleep(0.5)
        # The policy of the higher priority counts alone: no limit any more, no dead letters, but a time to live.
        put(channel, queue, "4", "5", "6")
        time.sleep(0.4)
        equal((take_all(channel, queue), take_all(channel, dead)), ([], []))
        server.api("DELETE", f"policies/%2F/{prefix}b")
        server.api("DELETE", f"policies/%2F/{prefix}a")
        time.sleep(0.3)
        put(channel, queue, *"abcdef")
        time.sleep(0.3)
        equal(b"".join(take_all(channel, queue)), b"abcdef")
        # An alternate exchange by policy, and the declaration stays the same as without it.
        main, rest = prefix + "-main", prefix + ".rest"
        channel.exchange_declare(main, "direct")
        channel.exchange_declare(rest, "fanout")
        channel.queue_bind(queue, rest)
        policy(prefix + "c", {"alternate-exchange": rest}, apply_to="exchanges")
        time.sleep(0.3)
        channel.exchange_declare(main, "direct")
        put(channel, "nobody", "caught", exchange=main)
        equal(take(channel, queue)[2], b"caught")
        server.api("DELETE", f"policies/%2F/{prefix}c")
        for name in (main, rest):
            channel.exchange_delete(name)
        for name in (queue, dead):
            channel.queue_delete(name)


@scenario
def an_argument_of_the_queue_and_one_of_its_policy_the_lesser_counts(server):
    name = fresh("lesser")
    with channel_of(server, confirm=True) as channel:
        server.api("PUT", f"policies/%2F/{name}", {
            "pattern": f"^{name}", "definition": {"max-length": 2}, "apply-to": "queues"})
        for own, remaining in ((1, [b"c"]), (5, [b"b", b"c"])):
            queue = f"{name}-{own}"
            channel.queue_declare(queue, arguments={"x-max-length": own})
            time.sleep(0.2)
            put(channel, queue, *"abc")
            equal(take_all(channel, queue), remaining)
            channel.queue_delete(queue)
        server.api("DELETE", f"policies/%2F/{name}")


@scenario
def a_connection_can_be_closed_by_the_administrator(server):
    connection = pika.BlockingConnection(parameters(server, client_properties={"connection_name": fresh("closeme")}))
    name = connection._impl.params.client_properties["connection_name"]

    def listed():
        _, connections = server.api("GET", "connections")
        return [one["name"] for one in connections
                if (one.get("client_properties") or {}).get("connection_name") == name]

    channel = connection.channel()

    def known():
        connection.process_data_events(0.1)
        return listed()

    (full,) = eventually(known, 20)
    status, _ = server.api("DELETE", f"connections/{quoted(full)}")
    equal(status, 204)
    try:
        eventually(lambda: connection.process_data_events(0.1))
        raise AssertionError("still connected")
    except pika.exceptions.ConnectionClosedByBroker as closed:
        equal((closed.reply_code, closed.reply_text), (320, "CONNECTION_FORCED - Closed via management plugin"))
    equal(channel.is_open, False)


@scenario
def connections_are_told_apart_while_others_die(server):
    """Ten clients publish and consume while others break off in the middle."""
    queue, total, stop = fresh("busy"), 400, threading.Event()
    with channel_of(server) as setup:
        setup.queue_declare(queue, durable=True)
    got, lock = [], threading.Lock()

    def publish(start):
        with channel_of(server, confirm=True) as channel:
            put(channel, queue, *[str(n) for n in range(start, total, 4)], delivery_mode=2)

    def consume():
        with channel_of(server) as channel:
            channel.basic_qos(prefetch_count=5)

            def keep(ch, method, _properties, body):
                with lock:
                    got.append(int(body))
                ch.basic_ack(method.delivery_tag)

            channel.basic_consume(queue, keep)
            while not stop.is_set():
                channel.connection.process_data_events(0.05)

    def vanish():
        with through_proxy(server) as proxy:
            connection = pika.BlockingConnection(parameters(server, port=proxy.port))
            channel = connection.channel()
            channel.basic_qos(prefetch_count=3)
            consumer = Consumer(channel, queue)
            with contextlib.suppress(pika.exceptions.AMQPError, AssertionError):
                consumer.quiet(0.1)
            proxy.cut()
            with contextlib.suppress(pika.exceptions.AMQPError):
                connection.close()

    threads = [threading.Thread(target=publish, args=(n,)) for n in range(4)]
    threads += [threading.Thread(target=consume) for _ in range(3)] + [threading.Thread(target=vanish) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: set(got) == set(range(total)), 20)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    with channel_of(server) as channel:
        equal(channel.queue_delete(queue).method.message_count, 0)
