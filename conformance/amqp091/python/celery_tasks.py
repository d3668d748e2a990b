"""Which tasks do the Celery scenarios call?"""
import os
import time

from celery import Celery
from celery.exceptions import Reject
from kombu import Exchange, Queue

NAME = os.environ.get("CELERY_SCENARIO", "scenario")
app = Celery("scenarios", broker=os.environ.get("CELERY_BROKER"), backend="rpc://")
app.conf.update(
    task_default_queue=NAME,
    task_queues=[
        Queue(NAME, durable=True),
        Queue(NAME + ".urgent", Exchange(NAME + ".topic", "topic"), routing_key="urgent.#"),
        Queue(NAME + ".sorted", queue_arguments={"x-max-priority": 10}),
        Queue(NAME + ".strict", queue_arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": NAME + ".dead"}),
    ],
    task_routes={"celery_tasks.urgent": {"exchange": NAME + ".topic", "routing_key": "urgent.mail"}},
    worker_prefetch_multiplier=1,
    task_acks_late=True,
    task_publish_retry=True,
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    event_queue_ttl=5,
    result_expires=60,
)


@app.task
def add(x, y):
    return x + y


@app.task
def urgent(text):
    return text.upper()


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=5)
def flaky(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task
def sleep(seconds):
    time.sleep(seconds)
    return seconds


@app.task
def note(path, line):
    """Appends a line to a file, so that a scenario sees what was run and in which order."""
    with open(path, "a") as file:
        file.write(f"{line}\n")


@app.task(bind=True)
def note_then_die_once(self, path):
    """Dies with its whole worker the first time it is run."""
    with open(path, "a+") as file:
        file.seek(0)
        is_first = not file.read()
        file.write(f"run redelivered={self.request.delivery_info['redelivered']}\n")
    if is_first:
        os.kill(os.getpid(), 9)
    return "survived"


@app.task(acks_late=True)
def refuse():
    raise Reject("no use", requeue=False)
