"""Do exchanges route as declared: headers, exchange to exchange, alternates, copies, returns, delays?"""
import time

import pika
import pika.exceptions

from harness import Skip, equal, eventually, fresh, scenario
from with_pika import Consumer, channel_of, connected, put, refused, take, take_all


def temporary(channel):
    return channel.queue_declare("", exclusive=True).method.queue


@scenario
def headers_are_matched_all_or_any(server):
    bindings = {
        "all": {"x-match": "all", "format": "pdf", "pages": 3},
        "any": {"x-match": "any", "format": "pdf", "pages": 3},
        "by default all": {"format": "pdf", "pages": 3},
        "presence": {"x-match": "all", "format": None},
        "x is ignored": {"x-match": "any", "x-kind": "a", "format": "zip"},
        "x is heeded": {"x-match": "any-with-x", "x-kind": "a"},
        "all with x": {"x-match": "all-with-x", "x-kind": "a", "format": "pdf"},
        "nothing asked, all": {"x-match": "all"},
        "nothing asked, any": {"x-match": "any"},
        "true": {"flag": True},
    }
    messages = {
        "1": {"format": "pdf", "pages": 3}, "2": {"format": "pdf", "pages": 4}, "3": {"format": "zip", "x-kind": "a"},
        "4": None, "5": {"format": "pdf", "x-kind": "a", "flag": True}, "6": {"pages": "3", "flag": "true"},
    }
    wanted = {
        "all": "1", "any": "125", "by default all": "1", "presence": "1235", "x is ignored": "3", "x is heeded": "35",
        "all with x": "5", "nothing asked, all": "123456", "nothing asked, any": "", "true": "5",
    }
    with channel_of(server, confirm=True) as channel:
        exchange = fresh("headers")
        channel.exchange_declare(exchange, "headers", auto_delete=True)
        queues = {name: temporary(channel) for name in bindings}
        for name, arguments in bindings.items():
            channel.queue_bind(queues[name], exchange, "ignored", arguments)
        for body, headers in messages.items():
            put(channel, "whatever", body, exchange=exchange, headers=headers)
        got = {name: b"".join(take_all(channel, queue)).decode() for name, queue in queues.items()}
        equal(got, wanted)


@scenario
def a_queue_bound_twice_gets_one_copy_and_unbinding_one_leaves_the_other(server):
    with channel_of(server, confirm=True) as channel:
        exchange, queue = fresh("topic"), temporary(channel)
        channel.exchange_declare(exchange, "topic")
        for pattern in ("a.*", "a.#", "*.b"):
            channel.queue_bind(queue, exchange, pattern)
        channel.queue_bind(queue, exchange, "a.*")
        put(channel, "a.b", "1", exchange=exchange)
        equal(take_all(channel, queue), [b"1"])
        channel.queue_unbind(queue, exchange, "a.#")
        put(channel, "a.b.c", "2", exchange=exchange)
        put(channel, "a.c", "3", exchange=exchange)
        equal(take_all(channel, queue), [b"3"])
        channel.queue_unbind(queue, exchange, "a.*")
        put(channel, "a.c", "4", exchange=exchange)
        put(channel, "c.b", "5", exchange=exchange)
        equal(take_all(channel, queue), [b"5"])
        channel.exchange_delete(exchange)


@scenario
def exchanges_bind_to_exchanges_and_circles_end(server):
    with channel_of(server, confirm=True) as channel:
        first, second, third = fresh("first"), fresh("second"), fresh("third")
        channel.exchange_declare(first, "topic")
        channel.exchange_declare(second, "fanout")
        channel.exchange_declare(third, "direct")
        channel.exchange_bind(second, first, "to.#")
        channel.exchange_bind(third, second)
        channel.exchange_bind(first, third, "to.key")
        queue = temporary(channel)
        channel.queue_bind(queue, third, "to.key")
        put(channel, "to.key", "1", exchange=first)
        put(channel, "to.other", "2", exchange=first)
        put(channel, "from.key", "3", exchange=first)
        (message,) = [take(channel, queue)]
        equal((message[0].exchange, message[0].routing_key, message[2]), (first, "to.key", b"1"))
        equal(take_all(channel, queue), [])
        channel.exchange_unbind(second, first, "to.#")
        put(channel, "to.key", "4", exchange=first)
        equal(take_all(channel, queue), [])
        for exchange in (first, second, third):
            channel.exchange_delete(exchange)


@scenario
def an_alternate_exchange_takes_what_matches_nothing(server):
    with channel_of(server, confirm=True) as channel:
        main, other, last = fresh("main"), fresh("other"), fresh("last")
        channel.exchange_declare(last, "fanout")
        channel.exchange_declare(other, "direct", arguments={"alternate-exchange": last})
        channel.exchange_declare(main, "direct", arguments={"alternate-exchange": other})
        taken, spare, rest = temporary(channel), temporary(channel), temporary(channel)
        channel.queue_bind(taken, main, "known")
        channel.queue_bind(spare, other, "spare")
        channel.queue_bind(rest, last)
        for key in ("known", "spare", "odd"):
            channel.basic_publish(main, key, key, mandatory=True)
        equal([take_all(channel, queue) for queue in (taken, spare, rest)], [[b"known"], [b"spare"], [b"odd"]])
        put(channel, "odd", "again", exchange=main)
        equal(take(channel, rest)[0].exchange, main)
        for exchange in (main, other, last):
            channel.exchange_delete(exchange)


@scenario
def what_is_mandatory_and_matches_nothing_comes_back_before_its_confirm(server):
    with connected(server) as connection:
        channel = connection.channel()
        returned = []
        channel.add_on_return_callback(lambda _c, method, properties, body: returned.append((method, properties, body)))
        headers = {"n": 1}
        channel.basic_publish("amq.direct", "nowhere", "x" * 200_000,
                              pika.BasicProperties(headers=headers, content_type="text/plain"), mandatory=True)
        eventually(lambda: connection.process_data_events(0.02) or returned)
        method, properties, body = returned[0]
        equal((method.reply_code, method.reply_text, method.exchange, method.routing_key),
              (312, "NO_ROUTE", "amq.direct", "nowhere"))
        equal((properties.headers, properties.content_type, body), (headers, "text/plain", b"x" * 200_000))
    with connected(server) as connection:
        def publish():
            channel = connection.channel()
            channel._impl._send_method(
                pika.spec.Basic.Publish(exchange="", routing_key="x", immediate=True), (pika.BasicProperties(), b"x"))
            channel.queue_declare("", exclusive=True)

        refused(540, "NOT_IMPLEMENTED - immediate=true", publish, connection=True)


@scenario
def senders_select_further_keys_by_cc_and_hidden_ones_by_bcc(server):
    with channel_of(server, confirm=True) as channel:
        queues = [temporary(channel) for _ in range(3)]
        headers = {"CC": [queues[1], queues[0]], "BCC": [queues[2]], "kept": True}
        put(channel, queues[0], "copied", headers=headers)
        for queue in queues:
            method, properties, body = take(channel, queue)
            equal((body, properties.headers), (b"copied", {"CC": [queues[1], queues[0]], "kept": True}))
            equal(method.routing_key, queues[0])
            equal(take_all(channel, queue), [], "one copy each")


@scenario
def an_auto_delete_exchange_goes_with_its_last_binding(server):
    with channel_of(server) as channel:
        source, target, queue = fresh("auto"), fresh("target"), temporary(channel)
        channel.exchange_declare(source, "direct", auto_delete=True)
        channel.exchange_declare(target, "fanout")
        channel.exchange_declare(source, passive=True)
        channel.queue_bind(queue, source, "k")
        channel.exchange_bind(target, source, "k")
        channel.queue_unbind(queue, source, "k")
        channel.exchange_declare(source, passive=True)
        channel.exchange_delete(target)
        refused(404, f"NOT_FOUND - no exchange '{source}' in vhost '/'",
                lambda: channel.exchange_declare(source, passive=True))


@scenario
def deleting_an_exchange_takes_its_bindings_and_a_new_one_has_none(server):
    with channel_of(server, confirm=True) as channel:
        exchange, queue = fresh("again"), temporary(channel)
        for _ in range(2):
            channel.exchange_declare(exchange, "fanout")
            put(channel, "", "x", exchange=exchange)
            equal(take_all(channel, queue), [])
            channel.queue_bind(queue, exchange)
            put(channel, "", "y", exchange=exchange)
            equal(take_all(channel, queue), [b"y"])
            channel.exchange_delete(exchange)


@scenario
def the_predeclared_exchanges_are_there_and_work(server):
    with channel_of(server, confirm=True) as channel:
        for exchange, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                               ("amq.headers", "headers"), ("amq.match", "headers")):
            channel.exchange_declare(exchange, kind, durable=True)
            queue = temporary(channel)
            channel.queue_bind(queue, exchange, "some.key")
            put(channel, "some.key", exchange, exchange=exchange)
            equal(take_all(channel, queue), [exchange.encode()])


@scenario
def a_delayed_message_exchange_holds_messages_back(server):
    if server.is_reference:
        raise Skip("RabbitMQ needs its plugin rabbitmq_delayed_message_exchange, which Debian does not have")
    with channel_of(server, confirm=True) as channel:
        exchange, queue = fresh("delayed"), temporary(channel)
        channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
        channel.queue_bind(queue, exchange, "k")
        consumer = Consumer(channel, queue, auto_ack=True)
        begun = time.monotonic()
        for body, headers in (("late", {"x-delay": 600}), ("sooner", {"x-delay": 200}), ("now", None)):
            put(channel, "k", body, exchange=exchange, headers=headers)
        equal(consumer.wait(1), [b"now"])
        equal(consumer.wait(2), [b"now", b"sooner"])
        assert time.monotonic() - begun >= 0.19, "came before its time"
        equal(consumer.wait(3), [b"now", b"sooner", b"late"])
        assert time.monotonic() - begun >= 0.59, "came before its time"
        channel.exchange_delete(exchange)
        refused(406, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type",
                lambda: channel.exchange_declare(fresh("d"), "x-delayed-message"))
