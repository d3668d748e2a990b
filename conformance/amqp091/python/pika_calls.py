"""Is a request that an unchanged RPC client publishes a call: seen by HTTP, worked on by any worker, answered once to the client?"""
import json
import time
import uuid

import pika

from harness import equal, eventually, fresh, quoted, scenario
from with_pika import Consumer, channel_of, take


class RpcClient:
    """As RabbitMQ's sixth tutorial writes it: an exclusive queue of its own, or direct reply-to."""

    def __init__(self, channel, direct=False):
        self.channel = channel
        self.queue = "amq.rabbitmq.reply-to" if direct else channel.queue_declare("", exclusive=True).method.queue
        self.replies = Consumer(channel, self.queue, auto_ack=True)

    def send(self, queue, body, **properties):
        """Publishes a request and gives its correlation id."""
        correlation_id = str(uuid.uuid4())
        asked = pika.BasicProperties(reply_to=self.queue, correlation_id=correlation_id, **properties)
        self.channel.basic_publish("", queue, body, asked)
        return correlation_id

    def answer(self, count=1):
        """The properties and body of the one reply; none came besides."""
        self.replies.wait(count)
        equal(len(self.replies.quiet()), count)
        _, properties, body = self.replies.got[-1]
        return properties, body


def declare(server, **more):
    """An operation with an intake; gives both names."""
    operation = fresh("op")
    intake = operation + ".requests"
    status, _, data = server.request("PUT", f"/v1/operations/{operation}", {"intake": intake, **more})
    equal(status, 201, data)
    return operation, intake


def call_of(server, correlation_id):
    def found():
        status, _, data = server.request("GET", f"/v1/calls?correlation_id={quoted(correlation_id)}")
        equal(status, 200, data)
        return json.loads(data)["items"]

    (call,) = eventually(found)
    return call


def show(server, call):
    status, _, data = server.request("GET", f"/v1/calls/{call['id']}?follow=false")
    equal(status, 200, data)
    return json.loads(data)


def receive(server, operation):
    status, _, data = server.request("POST", f"/v1/operations/{operation}/receive?wait_ms=5000")
    equal(status, 200, data)
    (work,) = json.loads(data)["calls"]
    return work


@scenario
def an_rpc_client_calls_and_a_worker_by_http_answers_it(server):
    server.only_ours("calls are Waystation's")
    operation, intake = declare(server)
    with channel_of(server) as channel:
        client = RpcClient(channel)
        sent = client.send(intake, '{"n": 4}', content_type="application/json", headers={"colour": "blue"}, priority=3)
        call = call_of(server, sent)
        equal((call["operation"], call["state"]), (operation, "queued"))
        work = receive(server, operation)
        equal((work["id"], work["request"]["body"], work["request"]["headers"]["colour"]),
              (call["id"], {"n": 4}, "blue"))
        equal(work["request"]["headers"]["caller-correlation-id"], sent)
        shown = show(server, call)
        equal((shown["state"], shown["correlation_id"], shown["reply"]["state"]), ("working", sent, "pending"))
        equal(client.replies.quiet(), [])
        status, _, data = server.request(
            "POST", f"/v1/calls/{call['id']}/complete?attempt=1", b'{"n": 5}', {"Content-Type": "application/json"})
        equal(status, 200, data)
        properties, body = client.answer()
        equal((body, properties.correlation_id, properties.content_type), (b'{"n": 5}', sent, "application/json"))
        equal(properties.headers["call-id"], call["id"])
        shown = show(server, call)
        equal((shown["state"], shown["reply"]["state"]), ("succeeded", "sent"))
        status, _, data = server.request("GET", f"/v1/calls/{call['id']}/result")
        equal((status, data), (200, b'{"n": 5}'))


@scenario
def an_rpc_client_calls_and_an_rpc_server_answers_it(server):
    server.only_ours("calls are Waystation's")
    operation, intake = declare(server)
    with channel_of(server) as channel, channel_of(server) as worker:
        client = RpcClient(channel)
        sent = client.send(intake, "4", type="fib")
        method, asked, body = take(worker, operation)
        equal((body, asked.reply_to, asked.type), (b"4", "$calls.replies", "fib"))
        # As the sixth tutorial's server answers.
        answer = pika.BasicProperties(correlation_id=asked.correlation_id, content_type="text/plain")
        worker.basic_publish("", asked.reply_to, "3", answer)
        properties, body = client.answer()
        equal((body, properties.correlation_id, properties.content_type), (b"3", sent, "text/plain"))
        call = show(server, call_of(server, sent))
        equal((call["id"], call["state"]), (asked.correlation_id, "succeeded"))
        # A second answer is late: the client hears nothing of it.
        worker.basic_publish("", asked.reply_to, "again", answer)
        client.answer()


@scenario
def direct_reply_to_gets_its_answer_by_the_same_connection(server):
    server.only_ours("calls are Waystation's")
    operation, intake = declare(server)
    with channel_of(server) as channel:
        client = RpcClient(channel, direct=True)
        sent = [client.send(intake, str(number), content_type="text/plain") for number in range(20)]
        for _ in sent:
            work = receive(server, operation)
            body = work["request"]["body_text"].encode()
            server.request("POST", f"/v1/calls/{work['id']}/complete", body + b"!", {"Content-Type": "text/plain"})
        client.answer(len(sent))
        got = {properties.correlation_id: body for _, properties, body in client.replies.got}
        equal(got, {one: str(number).encode() + b"!" for number, one in enumerate(sent)})
        # Whose connection has gone: the call has its outcome all the same.
        lost = client.send(intake, "lost")
        call = call_of(server, lost)
    work = receive(server, operation)
    equal(work["id"], call["id"])
    status, _, data = server.request("POST", f"/v1/calls/{work['id']}/complete", b"x")
    equal(status, 200, data)
    equal(show(server, call)["state"], "succeeded")


@scenario
def a_client_hears_that_its_call_has_failed_expired_or_was_cancelled(server):
    server.only_ours("calls are Waystation's")
    operation, intake = declare(server)
    with channel_of(server) as channel:
        client = RpcClient(channel)
        call = call_of(server, client.send(intake, "x"))
        server.request("POST", f"/v1/calls/{call['id']}/fail", {"error": "no stock"})
        properties, body = client.answer(1)
        equal((properties.headers["call-error"], json.loads(body)["status"]), ("no stock", 500))
        call = call_of(server, client.send(intake, "x"))
        server.request("DELETE", f"/v1/calls/{call['id']}")
        properties, body = client.answer(2)
        equal((properties.headers["call-state"], json.loads(body)["status"]), ("cancelled", 409))
        # The message's own expiration is the call's.
        client.send(intake, "x", expiration="400")
        properties, body = client.answer(3)
        equal((properties.headers["call-state"], json.loads(body)["status"]), ("expired", 504))
        # A call that was tried anew answers once more, under the same correlation id.
        sent = client.send(intake, "x")
        call = call_of(server, sent)
        server.request("POST", f"/v1/calls/{call['id']}/fail", {"error": "no"})
        client.answer(4)
        status, _, data = server.request("POST", f"/v1/calls/{call['id']}/retry")
        equal(status, 202, data)
        server.request("POST", f"/v1/calls/{json.loads(data)['id']}/complete", b"ok")
        properties, body = client.answer(5)
        equal((body, properties.correlation_id), (b"ok", sent))


@scenario
def a_reply_goes_to_no_queue_of_others_unless_the_operation_allows_it(server):
    server.only_ours("calls are Waystation's")
    private, shared = fresh("private"), fresh("shared")
    operation, intake = declare(server, reply_allow=[shared])
    with channel_of(server) as channel:
        for queue in (private, shared):
            channel.queue_declare(queue, durable=True)
        refused, sent = str(uuid.uuid4()), str(uuid.uuid4())
        for correlation_id, queue in ((refused, private), (sent, shared)):
            asked = pika.BasicProperties(reply_to=queue, correlation_id=correlation_id)
            channel.basic_publish("", intake, "x", asked)
        call = call_of(server, sent)
        server.request("POST", f"/v1/calls/{call['id']}/complete", b"ok")
        _, properties, body = take(channel, shared)
        equal((body, properties.correlation_id), (b"ok", sent))

        def kept():
            status, _, data = server.request("GET", "/v1/topics/$calls.refused/messages?limit=1000")
            equal(status, 200, data)
            return [one for one in json.loads(data)["messages"] if one.get("correlation_id") == refused]

        (message,) = eventually(kept)
        equal("is no queue of the caller's alone" in message["headers"]["call-refused"], True, message)
        for queue in (private, shared):
            equal(channel.queue_delete(queue).method.message_count, 0)


@scenario
def many_clients_at_once_each_get_their_own_answers(server):
    server.only_ours("calls are Waystation's")
    operation, intake = declare(server)
    with channel_of(server) as worker:
        def work(channel, method, asked, body):
            answer = pika.BasicProperties(correlation_id=asked.correlation_id)
            channel.basic_publish("", asked.reply_to, body + b"!", answer)
            channel.basic_ack(method.delivery_tag)

        worker.basic_consume(operation, work)
        with channel_of(server) as first, channel_of(server) as second:
            clients = [RpcClient(first), RpcClient(second, direct=True)]
            sent = [{client.send(intake, f"{at}-{number}"): f"{at}-{number}!".encode() for number in range(50)}
                    for at, client in enumerate(clients)]
            end = time.monotonic() + 20
            while time.monotonic() < end and sum(len(client.replies.got) for client in clients) < 100:
                for channel in (worker, first, second):
                    channel.connection.process_data_events(time_limit=0.02)
            for client, wanted in zip(clients, sent):
                got = {properties.correlation_id: body for _, properties, body in client.replies.got}
                equal(got, wanted)
                equal(len(client.replies.got), len(wanted))
