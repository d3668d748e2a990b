"""Do queues keep to their arguments: time to live, length, expiry, priority, dead letters, attempts?"""
import datetime
import time

import pika
import pika.exceptions

from harness import equal, eventually, fresh, scenario
from with_pika import Consumer, channel_of, connected, depth, put, refused, take, take_all


def deaths(properties):
    """x-death without the times, which must be there and be of about now."""
    histories = []
    for death in properties.headers["x-death"]:
        death = dict(death)
        age = datetime.datetime.now(datetime.timezone.utc) - death.pop("time")
        assert abs(age.total_seconds()) < 60, age
        histories.append(death)
    return histories


@scenario
def messages_outlive_neither_the_queue_s_ttl_nor_their_own(server):
    with channel_of(server, confirm=True) as channel:
        limited = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 150}).method.queue
        free = channel.queue_declare("", exclusive=True).method.queue
        put(channel, limited, "queue's", "queue's too")
        put(channel, limited, "the shorter counts", expiration="60000")
        put(channel, free, "own", expiration="150")
        put(channel, free, "at once or never", expiration="0")
        put(channel, free, "lasting")
        equal(depth(channel, limited), 3)
        time.sleep(0.4)
        equal(take_all(channel, limited), [])
        equal(take_all(channel, free), [b"lasting"])


@scenario
def a_ttl_of_zero_still_reaches_a_waiting_consumer(server):
    with channel_of(server) as channel:
        queue = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 0}).method.queue
        put(channel, queue, "nobody is there")
        eventually(lambda: depth(channel, queue) == 0)
        consumer = Consumer(channel, queue, auto_ack=True)
        put(channel, queue, "somebody is there")
        equal(consumer.wait(1), [b"somebody is there"])


@scenario
def an_expired_message_becomes_a_dead_letter_with_its_history(server):
    with channel_of(server, confirm=True) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        exchange = fresh("dlx")
        channel.exchange_declare(exchange, "direct", auto_delete=True)
        channel.queue_bind(dead, exchange, "dead")
        work = channel.queue_declare("", exclusive=True, arguments={
            "x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "dead"}).method.queue
        put(channel, work, "slow", expiration="100", message_id="m1", headers={"kept": 1})
        method, properties, body = take(channel, dead)
        equal((method.exchange, method.routing_key, body), (exchange, "dead", b"slow"))
        equal((properties.expiration, properties.message_id, properties.headers["kept"]), (None, "m1", 1))
        equal(deaths(properties), [{"count": 1, "reason": "expired", "queue": work, "exchange": "",
                                    "routing-keys": [work], "original-expiration": "100"}])
        first = {name: properties.headers[f"x-first-death-{name}"] for name in ("queue", "reason", "exchange")}
        equal(first, {"queue": work, "reason": "expired", "exchange": ""})


@scenario
def rejected_messages_become_dead_letters_and_requeued_ones_do_not(server):
    with channel_of(server, confirm=True) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        work = channel.queue_declare("", exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}).method.queue
        put(channel, work, "a", "b", "c")
        consumer = Consumer(channel, work)
        consumer.wait(3)
        channel.basic_reject(1, requeue=False)
        channel.basic_nack(3, multiple=True, requeue=False)
        letters = [take(channel, dead) for _ in range(3)]
        equal(sorted(body for _, _, body in letters), [b"a", b"b", b"c"])
        for method, properties, _ in letters:
            equal((method.exchange, method.routing_key), ("", dead))
            equal(deaths(properties), [
                {"count": 1, "reason": "rejected", "queue": work, "exchange": "", "routing-keys": [work]}])
        put(channel, work, "again")
        consumer.wait(4)
        channel.basic_nack(consumer.got[3][0].delivery_tag, requeue=True)
        consumer.wait(5)
        equal(consumer.got[4][0].redelivered, True)
        equal(take_all(channel, dead), [])


@scenario
def without_a_key_of_its_own_a_dead_letter_keeps_the_key_of_its_message(server):
    with channel_of(server, confirm=True) as channel:
        exchange, dead = fresh("dlx"), channel.queue_declare("", exclusive=True).method.queue
        channel.exchange_declare(exchange, "topic", auto_delete=True)
        channel.queue_bind(dead, exchange, "orders.#")
        work = channel.queue_declare("", exclusive=True, arguments={"x-dead-letter-exchange": exchange}).method.queue
        channel.queue_bind(work, "amq.topic", "orders.*")
        put(channel, "orders.eu", "x", exchange="amq.topic")
        method, _, _ = eventually(lambda: (lambda got: got if got[0] else None)(channel.basic_get(work)))
        channel.basic_reject(method.delivery_tag, requeue=False)
        method, properties, _ = take(channel, dead)
        equal((method.exchange, method.routing_key), (exchange, "orders.eu"))
        equal(deaths(properties), [{"count": 1, "reason": "rejected", "queue": work, "exchange": "amq.topic",
                                    "routing-keys": ["orders.eu"]}])


@scenario
def a_retry_cycle_counts_its_rounds(server):
    """work -> (rejected) -> wait -> (expired) -> work, as many retry libraries have it."""
    with channel_of(server, confirm=True) as channel:
        work, wait = fresh("work"), fresh("wait")
        channel.queue_declare(work, exclusive=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
        channel.queue_declare(wait, exclusive=True, arguments={
            "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
        put(channel, work, "stubborn")
        consumer = Consumer(channel, work)
        for round_number in range(1, 4):
            consumer.wait(round_number)
            channel.basic_reject(round_number, requeue=False)
        consumer.wait(4)
        equal(deaths(consumer.got[3][1]), [
            {"count": 3, "reason": "expired", "queue": wait, "exchange": "", "routing-keys": [wait]},
            {"count": 3, "reason": "rejected", "queue": work, "exchange": "", "routing-keys": [work]}])
        equal(consumer.got[3][1].headers["x-first-death-queue"], work)
        equal(consumer.got[3][1].headers["x-first-death-reason"], "rejected")


@scenario
def a_cycle_without_a_rejection_ends(server):
    with channel_of(server, confirm=True) as channel:
        one, two = fresh("one"), fresh("two")
        for name, following in ((one, two), (two, one)):
            channel.queue_declare(name, exclusive=True, arguments={
                "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following})
        put(channel, one, "round and round")
        time.sleep(0.5)
        equal((depth(channel, one), depth(channel, two)), (0, 0))


@scenario
def a_full_queue_drops_its_oldest(server):
    with channel_of(server, confirm=True) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        arguments = {"x-max-length": 3, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
        put(channel, queue, *"abcde")
        letters = [take(channel, dead) for _ in range(2)]
        equal([body for _, _, body in letters], [b"a", b"b"])
        equal(deaths(letters[0][1]), [
            {"count": 1, "reason": "maxlen", "queue": queue, "exchange": "", "routing-keys": [queue]}])
        equal(take_all(channel, queue), [b"c", b"d", b"e"])
        by_bytes = channel.queue_declare("", exclusive=True, arguments={"x-max-length-bytes": 10_000}).method.queue
        # Bodies count, and nothing else: at the bound they stay, one byte past it the first goes.
        headers = {"filler": "x" * 5_000}
        put(channel, by_bytes, "a" * 5_000, "b" * 5_000, headers=headers, correlation_id="c" * 200)
        put(channel, by_bytes, "", headers=headers)
        equal([body[:1] for body in take_all(channel, by_bytes)], [b"a", b"b", b""])
        put(channel, by_bytes, "a" * 5_000, "b" * 5_000, "c")
        equal([body[:1] for body in take_all(channel, by_bytes)], [b"b", b"c"])
        arguments = {"x-max-length-bytes": 10, "x-overflow": "reject-publish"}
        refusing = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
        put(channel, refusing, "a" * 9, "b", headers=headers)
        try:
            put(channel, refusing, "c")
            raise AssertionError("a full queue took a message")
        except pika.exceptions.NackError:
            equal(take_all(channel, refusing), [b"a" * 9, b"b"])


@scenario
def nobody_ever_sees_a_queue_longer_than_its_bound(server):
    with channel_of(server) as channel:
        for _ in range(10):
            queue = channel.queue_declare("", exclusive=True, arguments={"x-max-length": 10}).method.queue
            put(channel, queue, *["x"] * 60)
            equal(depth(channel, queue), 10)


@scenario
def a_full_queue_that_rejects_nacks_its_publisher_and_only_then(server):
    with channel_of(server, confirm=True) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        for overflow, letters in (("reject-publish", []), ("reject-publish-dlx", [b"c"])):
            arguments = {"x-max-length": 2, "x-overflow": overflow,
                         "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
            queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
            put(channel, queue, "a", "b")
            try:
                put(channel, queue, "c")
                raise AssertionError("a full queue took a message")
            except pika.exceptions.NackError as error:
                equal(len(error.messages), 0 if not error.messages else 1)
            equal(take(channel, queue)[2], b"a")
            put(channel, queue, "d")
            equal(take_all(channel, queue), [b"b", b"d"])
            if letters:
                equal(take(channel, dead)[2], b"c")
            equal(take_all(channel, dead), [])


@scenario
def an_unused_queue_expires_and_a_used_one_does_not(server):
    with channel_of(server) as channel, channel_of(server) as witness:
        name, used, got = fresh("idle"), fresh("used"), fresh("got")
        for queue in (name, used, got):
            channel.queue_declare(queue, arguments={"x-expires": 400})
        Consumer(channel, used)
        put(channel, name, "not use: a message")
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            channel.basic_get(got)
            time.sleep(0.05)
        witness.queue_declare(used, passive=True)
        witness.queue_declare(got, passive=True)
        try:
            witness.queue_declare(name, passive=True)
            raise AssertionError("an unused queue stayed")
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 404)
        channel.queue_delete(used)


@scenario
def priorities_go_first_and_equals_in_order(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True, arguments={"x-max-priority": 5}).method.queue
        sent = [("a", None), ("b", 1), ("c", 5), ("d", 9), ("e", 0), ("f", 5), ("g", 1), ("h", 4)]
        for body, priority in sent:
            put(channel, queue, body, priority=priority)
        consumer = Consumer(channel, queue, auto_ack=True)
        equal(b"".join(consumer.wait(8)), b"cdfhbgae")
        by_body = {body: properties.priority for _, properties, body in consumer.got}
        equal(by_body, {body.encode(): priority for body, priority in sent}, "as they were sent")


@scenario
def without_x_max_priority_a_queue_is_first_in_first_out(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        for n in range(6):
            put(channel, queue, str(n), priority=n)
        equal(take_all(channel, queue), [b"0", b"1", b"2", b"3", b"4", b"5"])


@scenario
def a_quorum_queue_counts_deliveries_and_gives_up_at_the_limit(server):
    with channel_of(server, confirm=True) as channel:
        dead = channel.queue_declare("", exclusive=True).method.queue
        name = fresh("quorum")
        channel.queue_declare(name, durable=True, arguments={
            "x-queue-type": "quorum", "x-delivery-limit": 2,
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        put(channel, name, "poison")
        consumer = Consumer(channel, name)
        counts = []
        for n in range(1, 4):
            consumer.wait(n)
            method, properties, _ = consumer.got[n - 1]
            counts.append((properties.headers or {}).get("x-delivery-count"))
            equal(method.redelivered, n > 1)
            channel.basic_nack(method.delivery_tag, requeue=True)
        equal(counts, [None, 1, 2])
        _, properties, body = take(channel, dead)
        equal(body, b"poison")
        equal(deaths(properties), [
            {"count": 1, "reason": "delivery_limit", "queue": name, "exchange": "", "routing-keys": [name]}])
        channel.queue_delete(name)


@scenario
def purging_takes_what_stands_ready_and_leaves_what_is_held(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        put(channel, queue, "held", "b", "c")
        method, _, _ = channel.basic_get(queue)
        equal(channel.queue_purge(queue).method.message_count, 2)
        channel.basic_nack(method.delivery_tag, requeue=True)
        equal(take_all(channel, queue), [b"held"])


@scenario
def a_queue_that_is_deleted_says_how_many_messages_went(server):
    with channel_of(server, confirm=True) as channel:
        name = fresh("doomed")
        channel.queue_declare(name, durable=True)
        put(channel, name, "a", "b", "c", delivery_mode=2)
        equal(channel.queue_delete(name).method.message_count, 3)


@scenario
def a_queue_is_empty_though_somebody_holds_a_message_of_it(server):
    with channel_of(server, confirm=True) as channel:
        name = fresh("empty")
        channel.queue_declare(name)
        put(channel, name, "held", "waits")
        channel.basic_get(name)
        other = channel.connection.channel()
        refused(406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty",
                lambda: other.queue_delete(name, if_empty=True))
        take(channel, name)
        equal(channel.queue_delete(name, if_empty=True).method.message_count, 0)


@scenario
def an_auto_delete_queue_goes_with_its_last_consumer_and_not_before_the_first(server):
    with channel_of(server) as channel, channel_of(server) as other:
        name = fresh("auto")
        channel.queue_declare(name, auto_delete=True)
        put(channel, name, "waits")
        one, two = Consumer(channel, name), Consumer(other, name)
        equal(one.wait(1), [b"waits"])
        channel.basic_cancel(one.tag)
        channel.queue_declare(name, passive=True)
        other.basic_cancel(two.tag)

        def gone():
            with connected(server) as connection:
                try:
                    connection.channel().queue_declare(name, passive=True)
                except pika.exceptions.ChannelClosedByBroker as closed:
                    return closed.reply_code == 404

        eventually(gone)


@scenario
def counts_of_messages_and_consumers_are_told_at_declaration(server):
    with channel_of(server, confirm=True) as channel:
        name = fresh("counted")
        channel.queue_declare(name, exclusive=True)
        put(channel, name, "a", "b")
        told = channel.queue_declare(name, exclusive=True).method
        equal((told.message_count, told.consumer_count), (2, 0))
        channel.basic_qos(prefetch_count=1)
        consumer = Consumer(channel, name)
        consumer.wait(1)
        told = channel.queue_declare(name, passive=True).method
        equal((told.message_count, told.consumer_count), (1, 1))
        # The queue last named on the channel is meant by an empty name.
        channel.queue_bind("", "amq.fanout")
        equal(channel.queue_purge("").method.message_count, 1)
