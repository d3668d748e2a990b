"""How are messages handed to consumers: prefetch, order, priority, one active, cancelling, settling, transactions?"""
import time

import pika
import pika.exceptions

from harness import equal, eventually, fresh, scenario
from with_pika import Consumer, channel_of, connected, depth, put, refused, take, take_all


@scenario
def prefetch_is_shared_fairly_and_counted_per_consumer(server):
    queue = fresh("fair")
    with channel_of(server) as publisher, channel_of(server) as a, channel_of(server) as b:
        publisher.queue_declare(queue)
        a.basic_qos(prefetch_count=3)
        b.basic_qos(prefetch_count=3)
        one, two = Consumer(a, queue), Consumer(b, queue)
        put(publisher, queue, *[str(n) for n in range(10)])
        one.wait(3)
        two.wait(3)
        equal((len(one.quiet()), len(two.quiet())), (3, 3))
        equal(sorted(one.bodies + two.bodies), [str(n).encode() for n in range(6)])
        equal(len(set(one.bodies) & {b"0", b"2", b"4"}) in (0, 3), True, "taken in turn")
        a.basic_ack(2, multiple=True)
        one.wait(5)
        equal((len(one.quiet()), len(two.quiet()), depth(publisher, queue)), (5, 3, 2))
        publisher.queue_delete(queue)


@scenario
def a_global_prefetch_bounds_the_channel_as_a_whole(server):
    with channel_of(server) as channel:
        first, second = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
        put(channel, first, *"abcd")
        put(channel, second, *"wxyz")
        channel.basic_qos(prefetch_count=3, global_qos=True)
        one, two = Consumer(channel, first), Consumer(channel, second)
        eventually(lambda: channel.connection.process_data_events(0.02) or len(one.got) + len(two.got) >= 3)
        equal(len(one.quiet()) + len(two.bodies), 3)
        channel.basic_ack(0, multiple=True)
        eventually(lambda: channel.connection.process_data_events(0.02) or len(one.got) + len(two.got) >= 6)
        equal(len(one.quiet()) + len(two.bodies), 6)


@scenario
def without_a_prefetch_everything_comes_in_order(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        wanted = [f"{n:05}".encode() for n in range(500)]
        put(channel, queue, *wanted)
        consumer = Consumer(channel, queue)
        equal(consumer.wait(500), wanted)
        equal([method.delivery_tag for method, _, _ in consumer.got], list(range(1, 501)))
        channel.basic_ack(500, multiple=True)
        equal(channel.queue_delete(queue).method.message_count, 0)


@scenario
def what_is_requeued_comes_again_in_its_old_place(server):
    with channel_of(server, confirm=True) as channel, connected(server) as other:
        queue = fresh("order")
        channel.queue_declare(queue)
        put(channel, queue, *"abcdef")
        held = [channel.basic_get(queue)[0].delivery_tag for _ in range(4)]
        channel.basic_nack(held[1], requeue=True)
        channel.basic_nack(held[3], multiple=True, requeue=True)
        equal(take_all(channel, queue), [b"a", b"b", b"c", b"d", b"e", b"f"])
        put(channel, queue, *"ghi")
        lost = other.channel()
        Consumer(lost, queue).wait(3)
        lost.close()
        got = [channel.basic_get(queue, auto_ack=True) for _ in range(3)]
        equal([(body, method.redelivered) for method, _, body in got], [(b"g", True), (b"h", True), (b"i", True)])
        channel.queue_delete(queue)


@scenario
def nack_multiple_zero_means_everything_that_is_held(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        put(channel, queue, *"abc")
        Consumer(channel, queue).wait(3)
        channel.basic_nack(0, multiple=True, requeue=False)
        equal(depth(channel, queue), 0)
        channel.queue_delete(queue)


@scenario
def basic_get_tells_what_remains_and_that_there_is_nothing(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        equal(channel.basic_get(queue), (None, None, None))
        put(channel, queue, "a", "b", app_id="me")
        method, properties, body = channel.basic_get(queue)
        equal((method.delivery_tag, method.redelivered, method.exchange, method.routing_key, method.message_count),
              (1, False, "", queue, 1))
        equal((properties.app_id, body), ("me", b"a"))
        channel.basic_reject(1, requeue=True)
        method, _, body = channel.basic_get(queue)
        equal((method.delivery_tag, method.redelivered, method.message_count, body), (2, True, 1, b"a"))


@scenario
def recover_gives_back_everything_unacknowledged(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        put(channel, queue, *"abc")
        consumer = Consumer(channel, queue)
        consumer.wait(3)
        channel.basic_ack(2)
        channel.basic_recover(requeue=True)
        equal(consumer.wait(5)[3:], [b"a", b"c"])
        equal([method.redelivered for method, _, _ in consumer.got], [False, False, False, True, True])
    with connected(server) as connection:
        refused(540, "NOT_IMPLEMENTED - requeue=false",
                lambda: connection.channel().basic_recover(requeue=False), connection=True)


@scenario
def a_cancelled_consumer_keeps_what_it_holds_and_gets_nothing_more(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        put(channel, queue, "a", "b")
        consumer = Consumer(channel, queue)
        consumer.wait(2)
        channel.basic_cancel(consumer.tag)
        put(channel, queue, "c")
        equal(len(consumer.quiet()), 2)
        channel.basic_ack(1)
        channel.basic_nack(2, requeue=True)
        equal(take_all(channel, queue), [b"b", b"c"])
        equal(channel.basic_cancel("never there"), [])


@scenario
def consumers_are_told_when_their_queue_goes(server):
    with channel_of(server) as channel, channel_of(server) as other:
        queue, told = fresh("going"), []
        channel.queue_declare(queue)
        channel.add_on_cancel_callback(lambda frame: told.append(frame.method.consumer_tag))
        consumer = Consumer(channel, queue)
        other.queue_delete(queue)
        eventually(lambda: channel.connection.process_data_events(0.02) or told)
        equal(told, [consumer.tag])
        equal(channel.is_open, True)


@scenario
def consumers_of_a_higher_priority_are_served_first(server):
    with channel_of(server, confirm=True) as publisher, channel_of(server) as a, channel_of(server) as b:
        queue = fresh("preferred")
        publisher.queue_declare(queue)
        a.basic_qos(prefetch_count=2)
        b.basic_qos(prefetch_count=2)
        low = Consumer(a, queue)
        high = Consumer(b, queue, arguments={"x-priority": 10})
        put(publisher, queue, "1", "2", "3")
        equal((high.wait(2), low.wait(1)), ([b"1", b"2"], [b"3"]))
        b.basic_ack(1)
        put(publisher, queue, "4")
        equal((high.wait(3)[2], low.quiet()), (b"4", [b"3"]))
        publisher.queue_delete(queue)


@scenario
def a_single_active_consumer_works_alone_until_it_goes(server):
    with channel_of(server, confirm=True) as publisher, channel_of(server) as b:
        queue = fresh("single")
        publisher.queue_declare(queue, arguments={"x-single-active-consumer": True})
        with channel_of(server) as a:
            first, second = Consumer(a, queue), Consumer(b, queue)
            put(publisher, queue, "1", "2")
            equal((first.wait(2), second.quiet()), ([b"1", b"2"], []))
            a.basic_ack(1)
            a.basic_cancel(first.tag)
            put(publisher, queue, "3")
            equal(second.wait(1), [b"3"])
        equal(second.wait(2), [b"3", b"2"])
        equal(second.got[1][0].redelivered, True)
        refused(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use",
                lambda: publisher.basic_consume(queue, lambda *_: None, exclusive=True))
        b.queue_delete(queue)


@scenario
def a_transaction_holds_publishes_and_acknowledgements_until_it_is_committed(server):
    with channel_of(server) as channel, channel_of(server) as witness:
        queue = fresh("tx")
        witness.queue_declare(queue)
        channel.tx_select()
        put(channel, queue, "a", "b")
        equal(depth(witness, queue), 0)
        channel.tx_commit()
        equal(depth(witness, queue), 2)
        put(channel, queue, "never")
        method, _, _ = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.tx_rollback()
        equal(depth(witness, queue), 1)
        # The acknowledgement was rolled back: it can be given again.
        channel.basic_ack(method.delivery_tag)
        channel.tx_commit()
        channel.close()
        equal(take_all(witness, queue), [b"b"])
        witness.queue_delete(queue)


@scenario
def a_transaction_that_is_not_committed_goes_with_its_channel(server):
    with channel_of(server) as channel, channel_of(server) as witness:
        queue = fresh("tx")
        witness.queue_declare(queue)
        put(witness, queue, "held")
        channel.tx_select()
        put(channel, queue, "lost")
        eventually(lambda: depth(witness, queue))
        method, _, _ = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.close()
        equal(take(witness, queue)[2], b"held")
        equal(take_all(witness, queue), [])
        witness.queue_delete(queue)


@scenario
def direct_reply_to_needs_no_queue(server):
    with channel_of(server) as client, channel_of(server) as worker:
        queue = fresh("service")
        worker.queue_declare(queue, exclusive=True)
        requests = Consumer(worker, queue, auto_ack=True)
        answers = Consumer(client, "amq.rabbitmq.reply-to", auto_ack=True)
        for n in range(3):
            put(client, queue, f"ask {n}", reply_to="amq.rabbitmq.reply-to", correlation_id=str(n))
            requests.wait(n + 1)
            reply_to = requests.got[n][1].reply_to
            assert reply_to.startswith("amq.rabbitmq.reply-to."), reply_to
            equal(worker.queue_declare(reply_to, passive=True).method.queue, reply_to)
            put(worker, reply_to, f"answer {n}", correlation_id=str(n))
            equal(answers.wait(n + 1)[n], f"answer {n}".encode())
            method, properties, _ = answers.got[n]
            equal((method.exchange, method.routing_key, properties.correlation_id), ("", reply_to, str(n)))
        client.close()
        refused(404, f"NOT_FOUND - no queue '{reply_to}' in vhost '/'",
                lambda: worker.queue_declare(reply_to, passive=True))


@scenario
def direct_reply_to_is_used_as_it_is_meant_or_refused(server):
    with connected(server) as connection:
        reply = "amq.rabbitmq.reply-to"
        refused(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
                lambda: connection.channel().basic_consume(reply, lambda *_: None))

        def ask():
            channel = connection.channel()
            put(channel, "anywhere", "x", reply_to=reply)
            channel.queue_declare("", exclusive=True)

        refused(406, "PRECONDITION_FAILED - fast reply consumer does not exist", ask)

        def twice():
            channel = connection.channel()
            Consumer(channel, reply, auto_ack=True)
            Consumer(channel, reply, auto_ack=True)

        refused(406, "PRECONDITION_FAILED - reply consumer already set", twice)


@scenario
def a_channel_that_is_paused_by_its_client_gets_nothing(server):
    with channel_of(server) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        consumer = Consumer(channel, queue, auto_ack=True)
        # channel.flow(active=false) from a client is refused by RabbitMQ 3: it steers its clients, not they it.
        try:
            channel.flow(False)
        except pika.exceptions.ConnectionClosedByBroker as closed:
            equal((closed.reply_code, closed.reply_text), (540, "NOT_IMPLEMENTED - active=false"))
            return
        put(channel, queue, "waits")
        equal(consumer.quiet(), [])
        channel.flow(True)
        equal(consumer.wait(1), [b"waits"])


@scenario
def a_stream_is_read_from_where_the_reader_says_and_again(server):
    with channel_of(server, confirm=True) as channel:
        name = fresh("stream")
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
        put(channel, name, *[f"{n}" for n in range(5)], headers={"kept": True})
        middle = time.time()
        time.sleep(1.1)
        put(channel, name, *[f"{n}" for n in range(5, 10)])
        channel.basic_qos(prefetch_count=100)

        def read(offset, count):
            arguments = {} if offset is None else {"x-stream-offset": offset}
            consumer = Consumer(channel, name, arguments=arguments)
            bodies = consumer.wait(count) if count else consumer.quiet()
            for method, properties, body in consumer.got:
                equal(properties.headers["x-stream-offset"], int(body))
            if count:
                equal(consumer.got[0][1].headers.get("kept"), True if int(bodies[0]) < 5 else None)
            channel.basic_cancel(consumer.tag)
            return [int(body) for body in bodies]

        equal(read("first", 10), list(range(10)))
        equal(read("first", 10), list(range(10)), "a second time")
        equal(read(7, 3), [7, 8, 9])
        equal(read(None, 0), [], "without an offset: what comes next")
        equal(read("next", 0), [])
        equal(read("last", 1)[-1], 9)
        import datetime
        since = datetime.datetime.fromtimestamp(middle + 1, datetime.timezone.utc)
        equal(read(since, 5)[-5:], [5, 6, 7, 8, 9])
        channel.queue_delete(name)


@scenario
def a_stream_s_reader_gets_as_much_as_its_prefetch_and_more_by_acknowledging(server):
    with channel_of(server, confirm=True) as channel:
        name = fresh("stream")
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
        put(channel, name, *[f"{n}" for n in range(30)])
        refused(406, f"PRECONDITION_FAILED - consumer prefetch count is not set for 'queue '{name}' in vhost '/''",
                lambda: channel.connection.channel().basic_consume(name, lambda *_: None))
        channel.basic_qos(prefetch_count=10)
        consumer = Consumer(channel, name, arguments={"x-stream-offset": "first"})
        consumer.wait(10)
        equal(len(consumer.quiet()), 10)
        for method, _, _ in list(consumer.got):
            channel.basic_ack(method.delivery_tag)
        consumer.wait(20)
        channel.basic_ack(0, multiple=True)
        equal(consumer.wait(30), [f"{n}".encode() for n in range(30)])
        channel.queue_delete(name)
    for text, action in (
        ("automatic acknowledgement not supported by stream queues",
         lambda c, name: (c.basic_qos(prefetch_count=1), c.basic_consume(name, lambda *_: None, auto_ack=True))),
        ("basic.get not supported by stream queues", lambda c, name: c.basic_get(name)),
        ("queue.purge not supported by stream queues", lambda c, name: c.queue_purge(name)),
    ):
        with channel_of(server) as channel:
            name = fresh("stream")
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
            refused(540, f"NOT_IMPLEMENTED - {text} queue '{name}' in vhost '/'",
                    lambda: action(channel, name), connection=True)
