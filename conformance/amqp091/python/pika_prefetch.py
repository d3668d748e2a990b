"""What does a prefetch of the whole channel (`basic.qos` with `global`) count, and what stays there for others?"""
from harness import equal, eventually, scenario
from with_pika import Consumer, channel_of, depth, put, take


def queue_of(channel, *bodies):
    queue = channel.queue_declare("", exclusive=True).method.queue
    put(channel, queue, *bodies)
    return queue


def limit(channel, count):
    channel.basic_qos(prefetch_count=count, global_qos=True)


@scenario
def a_global_prefetch_leaves_the_rest_to_others(server):
    with channel_of(server, confirm=True) as channel:
        queue = queue_of(channel, *"abcdef")
        other = channel.connection.channel()
        limit(channel, 2)
        consumers = [Consumer(channel, queue) for _ in range(3)]
        consumers[0].quiet()
        equal(sum(len(consumer.got) for consumer in consumers), 2)
        equal(depth(channel, queue), 4, "what the channel may not hold stands ready")
        equal(take(other, queue)[2], b"c")
        bystander = Consumer(other, queue, auto_ack=True)
        equal(bystander.wait(3), [b"d", b"e", b"f"])


@scenario
def a_global_prefetch_does_not_count_what_was_got(server):
    with channel_of(server, confirm=True) as channel:
        queue = queue_of(channel, *"abcdefg")
        limit(channel, 2)
        equal([channel.basic_get(queue)[2] for _ in range(3)], [b"a", b"b", b"c"])
        consumer = Consumer(channel, queue)
        consumer.wait(2)
        equal(consumer.quiet(), [b"d", b"e"])


@scenario
def a_global_prefetch_does_not_count_what_needs_no_acknowledgement_and_holds_it_up_all_the_same(server):
    with channel_of(server, confirm=True) as channel:
        queue, other = queue_of(channel, *"abcd"), queue_of(channel, "x")
        limit(channel, 1)
        free = Consumer(channel, queue, auto_ack=True)
        equal(free.wait(4), [b"a", b"b", b"c", b"d"])
        consumer = Consumer(channel, other)
        consumer.wait(1)
        put(channel, queue, "e")
        equal(free.quiet()[4:], [])
        channel.basic_ack(consumer.got[0][0].delivery_tag)
        equal(free.wait(5)[4:], [b"e"])


@scenario
def a_global_prefetch_counts_what_a_cancelled_consumer_holds(server):
    with channel_of(server, confirm=True) as channel:
        queue = queue_of(channel, *"abcd")
        limit(channel, 2)
        gone = Consumer(channel, queue)
        gone.wait(2)
        channel.basic_cancel(gone.tag)
        consumer = Consumer(channel, queue)
        equal(consumer.quiet(), [])
        channel.basic_ack(gone.got[0][0].delivery_tag)
        consumer.wait(1)
        equal(consumer.quiet(), [b"c"])


@scenario
def a_global_prefetch_that_changes_holds_for_consumers_that_run(server):
    with channel_of(server, confirm=True) as channel:
        queue = queue_of(channel, *"abcdefgh")
        limit(channel, 2)
        consumer = Consumer(channel, queue)
        consumer.wait(2)
        limit(channel, 4)
        consumer.wait(4)
        limit(channel, 1)
        channel.basic_ack(3, multiple=True)
        equal(consumer.quiet(), [b"a", b"b", b"c", b"d"])
        channel.basic_ack(4)
        consumer.wait(5)
        equal(consumer.quiet()[4:], [b"e"])
        limit(channel, 0)
        equal(consumer.wait(8)[5:], [b"f", b"g", b"h"])


@scenario
def under_a_global_prefetch_a_busy_queue_does_not_starve_another(server):
    with channel_of(server) as channel:
        busy, other = queue_of(channel, "0", "1"), queue_of(channel, "waits")
        limit(channel, 1)
        one, two = Consumer(channel, busy), Consumer(channel, other)
        one.wait(1)

        def other_s_turn():
            """Each acknowledgement makes room for one more message, of whichever queue."""
            seen = len(one.got) + len(two.got)
            put(channel, busy, "more")
            channel.basic_ack(seen)
            eventually(lambda: one.quiet(0.01) and len(one.got) + len(two.got) > seen)
            return two.got

        eventually(other_s_turn, 10)
        equal(two.bodies, [b"waits"])
