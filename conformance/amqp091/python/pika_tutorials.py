"""Do RabbitMQ's tutorials one to seven run with pika as they are written?"""
import threading

import pika

from harness import equal, fresh, scenario
from with_pika import Consumer, channel_of, connected, put, take_all


@scenario
def tutorial_1_hello_world(server):
    queue = fresh("hello")
    with channel_of(server) as channel:
        equal(channel.queue_declare(queue).method.queue, queue)
        channel.basic_publish(exchange="", routing_key=queue, body="Hello World!")
        consumer = Consumer(channel, queue, auto_ack=True)
        equal(consumer.wait(1), [b"Hello World!"])
        method, properties, _ = consumer.got[0]
        equal((method.exchange, method.routing_key, method.redelivered, method.delivery_tag), ("", queue, False, 1))
        equal((properties.headers, properties.delivery_mode, properties.timestamp), (None, None, None))
        channel.queue_delete(queue)


@scenario
def tutorial_2_work_queues_share_by_prefetch_and_redo_what_a_dead_worker_held(server):
    queue = fresh("tasks")
    with channel_of(server) as publisher, channel_of(server) as first:
        publisher.queue_declare(queue, durable=True)
        put(publisher, queue, *[f"task {n}" for n in range(4)], delivery_mode=pika.DeliveryMode.Persistent)
        first.basic_qos(prefetch_count=1)
        one = Consumer(first, queue)
        equal(one.wait(1), [b"task 0"])
        equal(one.quiet(), [b"task 0"], "a second message came before the first was acknowledged")
        equal(one.got[0][1].delivery_mode, 2)
        with connected(server) as doomed:
            second = doomed.channel()
            second.basic_qos(prefetch_count=1)
            two = Consumer(second, queue)
            equal(two.wait(1), [b"task 1"])
            # Goes with its message unacknowledged.
            doomed.close()
        for n, body in enumerate([b"task 0", b"task 1", b"task 2", b"task 3"]):
            equal(one.wait(n + 1)[n], body)
            equal(one.got[n][0].redelivered, body == b"task 1")
            first.basic_ack(one.got[n][0].delivery_tag)
        publisher.queue_delete(queue)


@scenario
def tutorial_3_publish_subscribe_copies_to_each_temporary_queue(server):
    logs = fresh("logs")
    with channel_of(server) as channel, channel_of(server) as other:
        channel.exchange_declare(logs, exchange_type="fanout")
        put(channel, "", "nobody hears this", exchange=logs)
        consumers = []
        for side in (channel, other):
            name = side.queue_declare("", exclusive=True).method.queue
            assert name.startswith("amq.gen-"), name
            side.queue_bind(name, logs)
            consumers.append(Consumer(side, name, auto_ack=True))
        put(channel, "ignored", "info: hello", exchange=logs)
        for consumer in consumers:
            equal(consumer.wait(1), [b"info: hello"])
            equal((consumer.got[0][0].exchange, consumer.got[0][0].routing_key), (logs, "ignored"))
        channel.exchange_delete(logs)


@scenario
def tutorial_4_routing_by_severity(server):
    logs = fresh("direct_logs")
    with channel_of(server) as channel:
        channel.exchange_declare(logs, exchange_type="direct")
        every = channel.queue_declare("", exclusive=True).method.queue
        errors = channel.queue_declare("", exclusive=True).method.queue
        for severity in ("info", "warning", "error"):
            channel.queue_bind(every, logs, severity)
        channel.queue_bind(errors, logs, "error")
        for severity in ("info", "error", "warning", "debug"):
            put(channel, severity, severity + "!", exchange=logs)
        equal(take_all(channel, every), [b"info!", b"error!", b"warning!"])
        equal(take_all(channel, errors), [b"error!"])
        channel.exchange_delete(logs)


@scenario
def tutorial_5_topics_match_words_and_the_rest(server):
    logs = fresh("topic_logs")
    keys = ["quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox", "lazy.brown.fox", "lazy.pink.rabbit",
            "quick.brown.fox", "orange", "quick.orange.new.rabbit", "lazy.orange.new.rabbit", "lazy", "", "lazy..rabbit"]
    wanted = {
        "*.orange.*": {0, 1, 2}, "*.*.rabbit": {0, 4, 11}, "lazy.#": {1, 3, 4, 8, 9, 11}, "#": set(range(12)),
        "*": {6, 9}, "#.rabbit": {0, 4, 7, 8, 11}, "lazy.#.rabbit": {4, 8, 11}, "quick.orange.rabbit": {0},
        "#.orange.#": {0, 1, 2, 6, 7, 8}, "*.#.*": {0, 1, 2, 3, 4, 5, 7, 8, 11}, "": {10}, "lazy.*.rabbit": {4, 11},
    }
    with channel_of(server) as channel:
        channel.exchange_declare(logs, exchange_type="topic")
        queues = {}
        for pattern in wanted:
            queues[pattern] = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(queues[pattern], logs, pattern)
        for n, key in enumerate(keys):
            put(channel, key, str(n), exchange=logs)
        got = {pattern: {int(body) for body in take_all(channel, queue)} for pattern, queue in queues.items()}
        for pattern, numbers in wanted.items():
            equal({keys[n] for n in got[pattern]}, {keys[n] for n in numbers}, pattern)
        channel.exchange_delete(logs)


@scenario
def tutorial_6_remote_procedure_call(server):
    queue = fresh("rpc_queue")
    ready, stop = threading.Event(), threading.Event()

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    def serve():
        with channel_of(server) as channel:
            channel.queue_declare(queue)
            channel.basic_qos(prefetch_count=1)

            def on_request(ch, method, properties, body):
                answer = pika.BasicProperties(correlation_id=properties.correlation_id)
                ch.basic_publish("", properties.reply_to, str(fib(int(body))), answer)
                ch.basic_ack(method.delivery_tag)

            channel.basic_consume(queue, on_request)
            ready.set()
            while not stop.is_set():
                channel.connection.process_data_events(time_limit=0.05)
            channel.queue_delete(queue)

    worker = threading.Thread(target=serve, daemon=True)
    worker.start()
    ready.wait(10)
    try:
        with channel_of(server) as channel:
            callback = channel.queue_declare("", exclusive=True).method.queue
            answers = Consumer(channel, callback, auto_ack=True)
            for n, wanted in enumerate([(10, 55), (12, 144), (1, 1)]):
                put(channel, queue, str(wanted[0]), reply_to=callback, correlation_id=f"call-{n}")
                equal(answers.wait(n + 1)[n], str(wanted[1]).encode())
                equal(answers.got[n][1].correlation_id, f"call-{n}")
    finally:
        stop.set()
        worker.join(10)


@scenario
def tutorial_7_publisher_confirms_one_by_one_and_for_what_cannot_be_routed(server):
    with channel_of(server, confirm=True) as channel:
        queue = channel.queue_declare("", exclusive=True).method.queue
        for n in range(50):
            channel.basic_publish("", queue, f"{n}", pika.BasicProperties(delivery_mode=2), mandatory=True)
        equal(take_all(channel, queue), [str(n).encode() for n in range(50)])
        # Not mandatory and not routable: confirmed all the same.
        channel.basic_publish("", fresh("nowhere"), "gone")
        try:
            channel.basic_publish("", "no-such-queue", "back", pika.BasicProperties(message_id="m"), mandatory=True)
        except pika.exceptions.UnroutableError as error:
            (message,) = error.messages
            equal((message.method.reply_code, message.method.reply_text), (312, "NO_ROUTE"))
            equal((message.method.exchange, message.method.routing_key), ("", "no-such-queue"))
            equal((message.properties.message_id, message.body), ("m", b"back"))
        else:
            raise AssertionError("a mandatory message that nothing takes was not returned")
