"""What comes before what on one channel: errors, returns and acknowledgements before later answers; who waits before limits?"""
import time

import pika.exceptions

from harness import equal, fresh, scenario
from with_pika import Consumer, channel_of, connected, put, refused, take_all


@scenario
def an_error_that_a_publish_brings_comes_before_the_answer_to_what_is_asked_behind_it(server):
    with connected(server) as connection:
        for name, declare, text in (
            (fresh("absent"), lambda *_: None, "404"),
            (fresh("internal"), lambda c, x: c.exchange_declare(x, "fanout", internal=True, auto_delete=True), "403"),
        ):
            channel = connection.channel()
            declare(channel, name)
            try:
                put(channel, "", "x", exchange=name)
                channel.basic_qos(prefetch_count=1)
                raise AssertionError("was answered as if nothing were wrong")
            except pika.exceptions.ChannelClosedByBroker as closed:
                equal(str(closed.reply_code), text)


@scenario
def what_was_acknowledged_before_a_channel_or_connection_closed_does_not_come_again(server):
    queue = fresh("acknowledged")
    with channel_of(server) as keeper:
        keeper.queue_declare(queue)
        for whole in (False, True) * 3:
            with connected(server) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                put(channel, queue, *[str(n) for n in range(40)])
                consumer = Consumer(channel, queue, auto_ack=False)
                consumer.wait(40)
                channel.basic_ack(20, multiple=True)
                (connection if whole else channel).close()
            equal(sorted(int(body) for body in take_all(keeper, queue)), list(range(20, 40)))
        keeper.queue_delete(queue)


@scenario
def who_is_ready_gets_a_message_whatever_the_length_of_the_queue_or_of_its_life(server):
    with channel_of(server, confirm=True) as channel:
        for arguments in ({"x-message-ttl": 0}, {"x-max-length": 0}):
            queue = channel.queue_declare("", exclusive=True, arguments=arguments).method.queue
            put(channel, queue, "lost")
            equal(take_all(channel, queue), [])
            consumer = Consumer(channel, queue, auto_ack=False)
            put(channel, queue, "taken")
            equal(consumer.wait(1), [b"taken"])


@scenario
def declaring_a_queue_that_is_there_prolongs_its_lease(server):
    with connected(server) as connection:
        queues = {}
        for passive in (False, True):
            queues[passive] = fresh("leased")
            connection.channel().queue_declare(queues[passive], arguments={"x-expires": 1_500})
        for _ in range(5):
            time.sleep(0.5)
            connection.channel().queue_declare(queues[True], passive=True)
            connection.channel().queue_declare(queues[False], arguments={"x-expires": 1_500})
        time.sleep(2.5)
        for queue in queues.values():
            refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'",
                    lambda: connection.channel().queue_declare(queue, passive=True))


@scenario
def what_belonged_to_a_connection_has_gone_when_its_close_is_answered(server):
    for _ in range(20):
        with connected(server) as connection:
            queue = connection.channel().queue_declare("", exclusive=True).method.queue
            connection.close()
        with connected(server) as connection:
            refused(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'",
                    lambda: connection.channel().queue_declare(queue, passive=True))
