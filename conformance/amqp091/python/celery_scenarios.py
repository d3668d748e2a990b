"""Do Celery's workers and kombu's consumers run: tasks and results, retries, lost workers, remote control, tutorials?"""
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.utils.compat import nested

from harness import equal, eventually, fresh, scenario
from proxy import through_proxy

HERE = pathlib.Path(__file__).parent
# All Celery scenarios share one name for their queues: the tasks' module is imported once.
NAME = fresh("celery")
os.environ["CELERY_SCENARIO"] = NAME


def tasks(server):
    os.environ["CELERY_BROKER"] = server.url
    import celery_tasks
    celery_tasks.app.conf.broker_url = server.url
    return celery_tasks


@contextlib.contextmanager
def worker(server, *more, broker=None):
    """A worker process that has said it is ready."""
    environment = os.environ | {"CELERY_BROKER": broker or server.url, "CELERY_SCENARIO": NAME}
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--pool", "solo", "--concurrency", "1",
               "--loglevel", "INFO", "--without-mingle", "-n", fresh("worker") + "@%h", *more]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=HERE, env=environment, stdout=log, stderr=log)

        def said():
            return pathlib.Path(f"/proc/self/fd/{log.fileno()}").read_text(errors="replace")

        process.said = said
        try:
            eventually(lambda: " ready." in said() or process.poll() is not None, 20)
            assert process.poll() is None, said()[-2000:]
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@scenario
def celery_tasks_run_and_their_results_failures_and_retries_come_back(server):
    t = tasks(server)
    with worker(server):
        equal(t.add.delay(2, 3).get(timeout=60), 5)
        results = [t.add.delay(n, n) for n in range(50)]
        equal([result.get(timeout=60) for result in results], [2 * n for n in range(50)])
        try:
            t.fail.delay("broken").get(timeout=60)
            raise AssertionError("a failure came back as a success")
        except ValueError as error:
            equal(str(error), "broken")
        equal(t.flaky.delay(2).get(timeout=60), 2)
        equal(t.urgent.delay("routed by topic").get(timeout=60), "ROUTED BY TOPIC")
        # A countdown is held by the worker, past its prefetch, until its time.
        begun = time.monotonic()
        equal(t.add.apply_async((1, 1), countdown=0.5).get(timeout=60), 2)
        assert time.monotonic() - begun > 0.45
        # Chains and groups pass results on.
        equal((t.add.s(1, 2) | t.add.s(10)).delay().get(timeout=60), 13)


@scenario
def celery_tasks_for_later_do_not_keep_those_for_now_waiting(server):
    t = tasks(server)
    with worker(server):
        # The worker holds them all and asks for more: its prefetch grows with each.
        later = [t.add.apply_async((n, 0), countdown=8) for n in range(4)]
        begun = time.monotonic()
        equal(t.add.delay(2, 3).get(timeout=6), 5)
        assert time.monotonic() - begun < 6
        equal([result.get(timeout=20) for result in later], [0, 1, 2, 3])


@scenario
def a_celery_task_whose_worker_dies_is_run_by_another(server):
    t = tasks(server)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "notes")
        with worker(server) as doomed:
            result = t.note_then_die_once.delay(path)
            doomed.wait(20)
            equal(doomed.returncode, -signal.SIGKILL)
        with worker(server):
            equal(result.get(timeout=60), "survived")
        equal(pathlib.Path(path).read_text(), "run redelivered=False\nrun redelivered=True\n")


@scenario
def celery_keeps_priorities_and_dead_letters(server):
    t = tasks(server)
    with tempfile.TemporaryDirectory() as folder, Connection(server.url) as connection:
        path = os.path.join(folder, "notes")
        with t.app.connection_for_write() as write:
            for queue in t.app.amqp.queues.values():
                queue(write.default_channel).declare()
        channel = connection.channel()
        dead = Queue(NAME + ".dead", exclusive=True)(channel)
        dead.declare()
        for priority in (1, 5, 9, 5):
            t.note.apply_async((path, priority), queue=NAME + ".sorted", priority=priority)
        t.refuse.apply_async(queue=NAME + ".strict")
        with worker(server):
            eventually(lambda: os.path.exists(path) and pathlib.Path(path).read_text().count("\n") == 4, 15)
            equal(pathlib.Path(path).read_text().split(), ["9", "5", "5", "1"])
            message = eventually(dead.get)
            equal(message.headers["task"], "celery_tasks.refuse")
            equal((message.headers["x-death"][0]["reason"], message.headers["x-death"][0]["queue"]),
                  ("rejected", NAME + ".strict"))


@scenario
def celery_s_remote_control_and_events_reach_the_workers(server):
    t = tasks(server)
    seen = []
    with worker(server, "--task-events"), t.app.connection_for_read() as connection:
        (answer,) = t.app.control.ping(timeout=2)
        equal(list(answer.values()), [{"ok": "pong"}])
        registered = t.app.control.inspect(timeout=2).registered()
        assert "celery_tasks.add" in list(registered.values())[0], registered
        receiver = t.app.events.Receiver(connection, handlers={"*": lambda event: seen.append(event["type"])})

        def capture():
            with contextlib.suppress(socket.timeout, TimeoutError):
                receiver.capture(limit=None, timeout=3, wakeup=False)

        threading.Thread(target=capture, daemon=True).start()

        def all_seen():
            # Again and again: the first may come before the receiver listens.
            equal(t.add.delay(1, 1).get(timeout=5), 2)
            return {"task-received", "task-started", "task-succeeded"} <= set(seen)

        eventually(all_seen, every=0.3)
        receiver.should_stop = True


@scenario
def a_celery_worker_comes_back_after_its_connection_broke(server):
    t = tasks(server)
    with through_proxy(server) as proxy:
        broker = f"amqp://{server.user}:{server.password}@127.0.0.1:{proxy.port}//"
        with worker(server, broker=broker) as process:
            equal(t.add.delay(1, 2).get(timeout=60), 3)
            before = proxy.accepted
            proxy.cut()
            result = t.add.delay(3, 4)
            equal(result.get(timeout=30), 7)
            assert proxy.accepted > before
            equal(process.poll(), None)


@contextlib.contextmanager
def kombu_channel(server):
    with Connection(server.url, heartbeat=60) as connection:
        yield connection.channel()


def bodies_of(channel, queue):
    bodies = []
    bound = queue(channel)
    while message := bound.get(no_ack=True):
        bodies.append(message.payload)
    return bodies


def drained(channel, count, *queues_, no_ack=True, prefetch=0):
    """What `count` deliveries from these queues held, as (body, message)."""
    got = []
    consumer = Consumer(channel, list(queues_), callbacks=[lambda body, message: got.append((body, message))],
                        no_ack=no_ack, accept=["json", "text/plain"])
    if prefetch:
        consumer.qos(prefetch_count=prefetch)
    with consumer:
        end = time.monotonic() + 10
        while len(got) < count and time.monotonic() < end:
            with contextlib.suppress(socket.timeout, TimeoutError):
                channel.connection.client.drain_events(timeout=0.2)
    equal(len(got) >= count, True, f"{len(got)} of {count} came")
    return got


@scenario
def kombu_tutorials_1_and_2_hello_world_and_work_queues(server):
    name = fresh("kombu")
    with kombu_channel(server) as channel, kombu_channel(server) as other:
        queue = Queue(name, durable=True)
        producer = Producer(channel)
        queue(channel).declare()
        producer.publish({"hello": "world"}, routing_key=name, declare=[queue], delivery_mode=2)
        ((body, message),) = drained(channel, 1, queue)
        equal((body, message.content_type, message.delivery_info["redelivered"]),
              ({"hello": "world"}, "application/json", False))
        for n in range(3):
            producer.publish(n, routing_key=name)
        got = drained(other, 1, queue, no_ack=False, prefetch=1)
        equal([body for body, _ in got], [0])
        other.close()
        again = eventually(lambda: queue(channel).get(no_ack=True))
        equal((again.payload, again.delivery_info["redelivered"]), (0, True))
        queue(channel).delete()


@scenario
def kombu_tutorials_3_4_and_5_fanout_direct_and_topic(server):
    with kombu_channel(server) as channel:
        producer = Producer(channel)
        for kind, bindings, wanted in (
            ("fanout", ["", ""], [["a.b", "c"], ["a.b", "c"]]),
            ("direct", ["a.b", "c"], [["a.b"], ["c"]]),
            ("topic", ["a.*", "#"], [["a.b"], ["a.b", "c"]]),
        ):
            exchange = Exchange(fresh(kind), kind, durable=False, auto_delete=True)
            bound = [Queue(fresh("q"), exchange, routing_key=key, exclusive=True) for key in bindings]
            for queue in bound:
                queue(channel).declare()
            for key in ("a.b", "c"):
                producer.publish(key, exchange=exchange, routing_key=key)
            equal([bodies_of(channel, queue) for queue in bound], wanted, kind)


@scenario
def kombu_tutorial_6_remote_procedure_call_and_direct_reply_to(server):
    name = fresh("rpc")
    for reply_queue in (Queue(fresh("reply"), exclusive=True), Queue("amq.rabbitmq.reply-to", no_declare=True)):
        with kombu_channel(server) as client, kombu_channel(server) as service:
            requests = Queue(name, exclusive=True)
            requests(service).declare()
            got = []
            consumer = Consumer(client, [reply_queue], no_ack=True,
                                callbacks=[lambda body, message, got=got: got.append((body, message))])
            with consumer:
                Producer(client).publish({"n": 6}, routing_key=name, reply_to=reply_queue.name, correlation_id="c")
                ((body, message),) = drained(service, 1, requests)
                Producer(service).publish(body["n"] * 7, routing_key=message.properties["reply_to"],
                                          correlation_id=message.properties["correlation_id"])
                end = time.monotonic() + 5
                while not got and time.monotonic() < end:
                    with contextlib.suppress(socket.timeout, TimeoutError):
                        client.connection.client.drain_events(timeout=0.2)
            equal([(body, message.properties["correlation_id"]) for body, message in got], [(42, "c")])


@scenario
def kombu_tutorial_7_publisher_confirms_under_load(server):
    options = {"confirm_publish": True}
    with Connection(server.url, transport_options=options) as connection:
        queue = Queue(fresh("confirmed"), durable=True)
        queue(connection.channel()).declare()
        producer = connection.Producer()
        for n in range(500):
            producer.publish(n, routing_key=queue.name)
        equal(bodies_of(connection.channel(), queue), list(range(500)))
        queue(connection.channel()).delete()


@scenario
def kombu_sees_dead_letter_cycles_priorities_and_times_to_live(server):
    with kombu_channel(server) as channel:
        producer, wait = Producer(channel), fresh("wait")
        work = Queue(fresh("work"), exclusive=True, queue_arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
        Queue(wait, exclusive=True, message_ttl=0.05, queue_arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work.name})(channel).declare()
        work(channel).declare()
        producer.publish("stubborn", routing_key=work.name)
        for _ in range(3):
            eventually(lambda: work(channel).get()).reject()
        message = eventually(lambda: work(channel).get(no_ack=True))
        equal([(death["reason"], death["count"]) for death in message.headers["x-death"]],
              [("expired", 3), ("rejected", 3)])
        ranked = Queue(fresh("ranked"), exclusive=True, max_priority=5)
        ranked(channel).declare()
        for priority in (1, 5, 3):
            producer.publish(priority, routing_key=ranked.name, priority=priority)
        equal(bodies_of(channel, ranked), [5, 3, 1])
        producer.publish("short", routing_key=ranked.name, expiration=0.1)
        producer.publish("lasting", routing_key=ranked.name)
        time.sleep(0.3)
        equal(bodies_of(channel, ranked), ["lasting"])


@scenario
def kombu_prefetch_is_fair_and_errors_are_told(server):
    name = fresh("fair")
    queue = Queue(name, durable=True)
    with kombu_channel(server) as one, kombu_channel(server) as two:
        queue(one).declare()
        producer = Producer(one)
        held = {1: [], 2: []}
        consumers = []
        for number, channel in ((1, one), (2, two)):
            consumer = Consumer(channel, [queue], callbacks=[
                lambda body, message, number=number: held[number].append(body)])
            consumer.qos(prefetch_count=2)
            consumers.append(consumer)
        with nested(*consumers):
            for n in range(6):
                producer.publish(n, routing_key=name)
            end = time.monotonic() + 2
            while sum(map(len, held.values())) < 4 and time.monotonic() < end:
                for channel in (one, two):
                    with contextlib.suppress(socket.timeout, TimeoutError):
                        channel.connection.client.drain_events(timeout=0.05)
        equal((sorted(held[1] + held[2]), len(held[1])), ([0, 1, 2, 3], 2))
    with Connection(server.url) as connection:
        errors = connection.channel_errors
        mine = Queue(fresh("mine"), exclusive=True)
        mine(connection.channel()).declare()
        with Connection(server.url) as stranger:
            for what, words in (
                (mine, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue"),
                (Queue(fresh("absent"), passive=True), "NOT_FOUND - no queue"),
                (Queue(name, durable=False), "PRECONDITION_FAILED - inequivalent arg 'durable'"),
            ):
                try:
                    what(stranger.channel()).queue_declare(passive=what.name.startswith("absent"))
                    raise AssertionError(f"was not refused: {words}")
                except errors as error:
                    assert words in str(error), error
        Queue(name)(connection.channel()).delete()


@scenario
def kombu_goes_on_after_its_connection_broke(server):
    with through_proxy(server) as proxy:
        url = f"amqp://{server.user}:{server.password}@127.0.0.1:{proxy.port}//"
        with Connection(url, transport_options={"confirm_publish": True}) as connection:
            queue = Queue(fresh("ensured"), durable=True)
            producer = connection.Producer()
            policy = {"max_retries": 10, "interval_start": 0.05, "interval_step": 0.05}
            for n in range(6):
                producer.publish(n, routing_key=queue.name, declare=[queue], retry=True, retry_policy=policy)
                if n % 2:
                    proxy.cut()
                    time.sleep(0.1)
        with kombu_channel(server) as channel:
            # Confirmed, or published again: each came at least once.
            equal(set(bodies_of(channel, queue)), set(range(6)))
            queue(channel).delete()
