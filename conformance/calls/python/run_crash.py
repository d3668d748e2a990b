"""Has each accepted call exactly one outcome, and does its callback arrive, while everything is killed again and again?

Callers send calls, each under its own idempotency key, and repeat what was not answered. Half of them go to an operation that
a slow upstream serves alone, half to one that is served in all three ways at once: by workers over HTTP under a lease, by
workers over AMQP with a reply, and by the upstream. A receiver takes the callbacks. Waystation is killed with SIGKILL and started
again on the same data, receiver and upstream too. At the end every call is looked at, and what anybody was told is held against it.
"""
import argparse
import collections
import json
import logging
import pathlib
import random
import sys
import threading
import time

import pika
from crash_processes import receiver as new_receiver, upstream as new_upstream
from server import Client, Party, Server

CALLERS, HTTP_WORKERS, AMQP_WORKERS = 4, 3, 2
LEASE_MS = 1_000
# What a worker takes for one call, so that some are always half done when the server dies.
WORK_SECONDS = 0.005
# With the pauses between the attempts at a callback, which begin at five seconds and double.
CALLBACK_SECONDS_MAX = 120
# Served in all three ways, and by the upstream alone.
SHARED, ALONE = "ship", "bill"


def operation(number):
    return SHARED if number % 2 else ALONE


class Ledger:
    """What anybody was told."""

    def __init__(self, total):
        self.total, self.lock, self.next = total, threading.Lock(), 0
        self.accepted, self.told = {}, collections.defaultdict(list)
        self.results, self.late, self.unanswered, self.replies = 0, 0, 0, 0
        self.over = threading.Event()
        self.faults = []

    def number(self):
        with self.lock:
            self.next += 1
            return self.next if self.next <= self.total else None

    def result(self):
        """A result like no other, so that it is seen whose became the outcome."""
        with self.lock:
            self.results += 1
            return json.dumps({"result": self.results})


def caller(ledger, server, callback):
    client = Client(server.http)
    while number := ledger.number():
        headers = {"idempotency-key": f'"{number}"', "ws-callback-url": callback, "content-type": "application/json"}
        while True:
            try:
                status, answer, body = client.once("POST", f"/v1/calls/{operation(number)}", json.dumps({"n": number}), headers)
                if status == 202:
                    break
                assert status in (429, 503), f"{status}: {body}"
            except OSError:
                ledger.unanswered += 1
            time.sleep(0.02)
        ledger.accepted[number] = answer["location"].rsplit("/", 1)[1]


def http_worker(ledger, server):
    client = Client(server.http)
    while not ledger.over.is_set():
        try:
            path = f"/v1/operations/{SHARED}/receive?max=10&wait_ms=200&lease_ms={LEASE_MS}"
            _, _, page = client.once("POST", path)
            for call in json.loads(page).get("calls", []):
                time.sleep(WORK_SECONDS)
                result = ledger.result()
                path = f"/v1/calls/{call['id']}/complete?attempt={call['attempt']}"
                status, _, body = client.once("POST", path, result, {"content-type": "application/json"})
                if status == 200:
                    ledger.told[call["id"]].append(json.loads(result))
                elif status == 409:
                    ledger.late += 1
                else:
                    assert status in (429, 503), f"{status}: {body}"
        except OSError:
            time.sleep(0.02)


def amqp_worker(ledger, server):
    """Any client of the queue: replies to where the message says, and acknowledges when the reply is confirmed."""
    while not ledger.over.is_set():
        try:
            connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", server.amqp, socket_timeout=5))
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_qos(prefetch_count=10)
            for method, properties, _ in channel.consume(SHARED, inactivity_timeout=0.2):
                if ledger.over.is_set():
                    break
                if method is None:
                    continue
                time.sleep(WORK_SECONDS)
                reply = pika.BasicProperties(
                    correlation_id=properties.correlation_id, content_type="application/json", delivery_mode=2,
                )
                channel.basic_publish("", properties.reply_to, ledger.result().encode(), reply)
                channel.basic_ack(method.delivery_tag)
                ledger.replies += 1
            connection.close()
        except (pika.exceptions.AMQPError, OSError):
            time.sleep(0.05)


def run(ledger, server, receiver, upstream, kills):
    client = Client(server.http)
    retry, breaker = {"first_ms": 50, "most_ms": 500}, {"failures": 5, "pause_ms": 200, "pause_ms_max": 1000}
    spec = {
        "callback_allow": [f"{receiver.url}*"], "max_attempts": 1000,
        "upstream": {"url": upstream.url, "concurrency": 8, "retry": retry, "breaker": breaker},
    }
    for name in (SHARED, ALONE):
        client.json("PUT", f"/v1/operations/{name}", spec)
    parties = [Party(caller, ledger, server, receiver.url) for _ in range(CALLERS)]
    parties += [Party(http_worker, ledger, server) for _ in range(HTTP_WORKERS)]
    parties += [Party(amqp_worker, ledger, server) for _ in range(AMQP_WORKERS)]
    for party in parties:
        party.start()
    done = 0
    while done < kills and not any(party.error for party in parties):
        # Between the first call and the last, evenly, and never at the same point of a round.
        if len(ledger.accepted) >= ledger.total * (done + random.random()) / kills:
            server.kill()
            if done % 4 == 1:
                receiver.restart(random.uniform(0, 0.5))
            if done % 3 == 2:
                upstream.restart(0)
            server.start()
            if done % 4 == 3:
                receiver.restart(0)
            if done % 3 == 0:
                # It is away while the server is there.
                upstream.restart(random.uniform(0, 0.5))
            done += 1
        time.sleep(0.01)
    wait_for_callbacks(ledger, receiver, parties)
    ledger.over.set()
    for party in parties:
        party.join(30)
    ledger.faults += [party.error or "a party does not end" for party in parties if party.error or party.is_alive()]
    ledger.faults += [f"{process.script} has died" for process in (receiver, upstream) if not process.is_alive()]


def wait_for_callbacks(ledger, receiver, parties):
    end, size = time.monotonic() + CALLBACK_SECONDS_MAX, -1
    while time.monotonic() < end and not any(party.error for party in parties):
        time.sleep(0.2)
        now = receiver.file.stat().st_size
        if now != size:
            # As long as more come there is no hurry.
            size, end = now, time.monotonic() + CALLBACK_SECONDS_MAX
        if len(ledger.accepted) == ledger.total and len({line["webhook"] for line in receiver.lines()}) >= ledger.total:
            break
    # Whatever would come again has time to.
    time.sleep(1)


def states(server, ledger):
    """Each call as it is at the end, with its result."""
    client, found = Client(server.http), {}
    for id in ledger.accepted.values():
        call = client.json("GET", f"/v1/calls/{id}?follow=false")
        if call["state"] == "succeeded":
            call["body"] = client.json("GET", f"/v1/calls/{id}/result")
        found[id] = call
    return found


def asked(ledger, upstream, calls):
    """Ids of calls that the upstream alone serves and whose result is none that it gave for them; how often it was asked, and for how many."""
    given = collections.defaultdict(list)
    for line in upstream.lines():
        given[line["key"].strip('"')].append(line["answer"])
    alone = [id for number, id in ledger.accepted.items() if operation(number) == ALONE]
    wrong = [id for id in alone if calls[id].get("body") not in given[id]]
    return wrong, sum(map(len, given.values())), sum(bool(some) for some in given.values())


def check(ledger, server, receiver, upstream, kills):
    """What must hold, each with whether it does and what was seen."""
    calls, lines = states(server, ledger), receiver.lines()
    wrong, requests, served_upstream = asked(ledger, upstream, calls)
    ids = set(ledger.accepted.values())
    copies = collections.defaultdict(list)
    for line in lines:
        copies[line["data"]["id"]].append(line)
    odd = [id for id, call in calls.items() if call["state"] != "succeeded"]
    twice = [id for id, results in ledger.told.items() if len(results) > 1]
    other = [id for id, results in ledger.told.items() if id in calls and results[0] != calls[id].get("body")]
    missing = ids - set(copies)
    foreign = set(copies) - ids
    names = [id for id, some in copies.items() if {line["webhook"] for line in some} != {id}]
    differing = [
        id for id, some in copies.items()
        if id in calls and any(line["data"]["result"].get("body") != calls[id].get("body") for line in some)
    ]
    unsigned = [line["webhook"] for line in lines if not line["signed"]]
    repeated = sum(len(some) - 1 for some in copies.values())
    served = f"{sum(map(len, ledger.told.values()))} heard by HTTP workers, {ledger.replies} replies by AMQP, {ledger.late} late"
    return [
        (f"each call is accepted once under its key, through {kills} kills",
         len(ids) == len(ledger.accepted) == ledger.total, f"{len(ids)} calls, {ledger.unanswered} requests unanswered"),
        ("each call ends, with exactly one outcome", not odd and not twice and not other,
         f"{served}; not ended {odd[:3]}, told twice {twice[:3]}, other than told {other[:3]}"),
        ("each call that the upstream serves alone has an answer that it gave under the call's own key", not wrong,
         f"{requests} requests for {served_upstream} calls, {upstream.restarts} restarts of the upstream; wrong {wrong[:3]}"),
        ("each callback arrives at least once, and no other", not missing and not foreign,
         f"{len(copies)} arrived, {repeated} came again; missing {sorted(missing)[:3]}, foreign {sorted(foreign)[:3]}"),
        ("all copies of a callback carry the call's id, its outcome and a good signature",
         not names and not differing and not unsigned,
         f"{receiver.restarts} restarts of the receiver; ids {names[:3]}, outcomes {differing[:3]}, unsigned {unsigned[:3]}"),
        ("nobody met what he should not", not ledger.faults, "; ".join(ledger.faults) or "no faults"),
    ]


def report(checks, seconds):
    for name, good, detail in checks:
        print(f"{'ok' if good else 'FAILED':8}{seconds:6.1f} s  {name}: {detail}")
    failed = sum(not good for _, good, _ in checks)
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server-binary", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    random.seed(options.seed)
    logging.disable(logging.CRITICAL)
    begun = time.monotonic()
    server = Server(options.server_binary, options.data)
    ledger, receiver, upstream = Ledger(options.calls), new_receiver(options.data), new_upstream(options.data)
    processes = (server, receiver, upstream)
    for process in processes:
        process.start()
    try:
        run(ledger, *processes, options.kills)
        failed = report(check(ledger, *processes, options.kills), time.monotonic() - begun)
    finally:
        for process in processes:
            process.kill()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
