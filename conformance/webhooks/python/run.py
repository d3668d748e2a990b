"""Do Standard Webhooks' own library and the CloudEvents SDK take what Waystation pushes, and refuse what was tampered with?"""
import base64
import json
import os

from cloudevents.core.bindings.http import (
    HTTPMessage, from_binary_event, from_structured_event, to_binary_event, to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from receiver import FORMATS, Push, harness
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

equal, scenario = harness.equal, harness.scenario


def secret():
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


def refused(key, body, headers):
    try:
        Webhook(key).verify(body, headers)
    except WebhookVerificationError:
        return
    raise AssertionError(f"{headers} was taken")


@scenario
def what_is_pushed_in_every_format_is_verified_by_the_official_library(server):
    for format in FORMATS:
        key = secret()
        with Push(server, [key], format) as push:
            push.publish({"order": 4711, "name": "ä"})
            headers, body = push.one()
            verified = Webhook(key).verify(body, headers)
            content = {"raw": verified, "binary": verified}.get(format)
            if content is None:
                content = (verified[0] if format == "batch" else verified)["data"]
            equal(content, {"order": 4711, "name": "ä"}, format)


@scenario
def what_was_tampered_with_is_refused(server):
    key = secret()
    with Push(server, [key]) as push:
        push.publish({"order": 4711})
        headers, body = push.one()
        Webhook(key).verify(body, headers)
        refused(key, body.replace(b"4711", b"4712"), headers)
        refused(key, body + b" ", headers)
        refused(key, body, {**headers, "webhook-id": headers["webhook-id"] + "0"})
        refused(key, body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)})
        refused(key, body, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)})
        refused(secret(), body, headers)
        refused(key, body, {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v1a,")})


@scenario
def while_one_secret_replaces_another_both_verify(server):
    old, new = secret(), secret()
    with Push(server, [old]) as push:
        changed = {"queue": push.queue, "url": push.receiver.url, "secrets": [old, new]}
        push.ask("PUT", f"/v1/pushes/{push.queue}?change=true", changed)
        push.publish({"a": 1})
        headers, body = push.one()
        equal(len(headers["webhook-signature"].split()), 2)
        equal(Webhook(old).verify(body, headers), {"a": 1})
        equal(Webhook(new).verify(body, headers), {"a": 1})
        push.ask("PUT", f"/v1/pushes/{push.queue}?change=true", {**changed, "secrets": [new]})
        push.publish({"a": 2})
        headers, body = push.receiver.wait(2)[1]
        equal(Webhook(new).verify(body, headers), {"a": 2})
        refused(old, body, headers)


@scenario
def a_symmetric_secret_beside_an_asymmetric_one_is_verified(server):
    key = secret()
    pair = "whsk_" + base64.b64encode(os.urandom(32)).decode()
    with Push(server, [pair, key]) as push:
        push.publish({"a": 1})
        headers, body = push.one()
        equal([one.split(",")[0] for one in headers["webhook-signature"].split()], ["v1a", "v1"])
        equal(Webhook(key).verify(body, headers), {"a": 1})


@scenario
def a_test_event_is_verified(server):
    key = secret()
    with Push(server, [key]) as push:
        tested = push.ask("POST", f"/v1/pushes/{push.queue}/test")
        equal((tested["delivered"], tested["status"]), (True, 204))
        headers, body = push.one()
        equal(Webhook(key).verify(body, headers)["test"], True)
        equal(headers["webhook-id"], tested["webhook_id"])


ATTRIBUTES = {
    "specversion": "1.0", "id": "a 1/ä\"%", "source": "/shop/1", "type": "org.example.paid", "subject": "order 4711, ä",
    "datacontenttype": "application/json", "dataschema": "urn:example:schema", "region": "eu",
}
DATA = {"order": 4711, "name": "ä", "list": [1, None]}


def read(format, headers, body):
    """What the SDK makes of a request."""
    if format == "binary":
        return [from_binary_event(HTTPMessage(headers, body))]
    if format == "structured":
        return [from_structured_event(HTTPMessage(headers, body))]
    # The SDK has no batches: each of its events is one in structured mode.
    one = {"content-type": "application/cloudevents+json"}
    return [from_structured_event(HTTPMessage(one, json.dumps(event).encode())) for event in json.loads(body)]


def to_batch(*events):
    """The SDK writes no batches either: each event of one is what it writes in structured mode."""
    body = b"[" + b",".join(to_structured_event(event).body for event in events) + b"]"
    return HTTPMessage({"content-type": "application/cloudevents-batch+json"}, body)


@scenario
def events_sent_by_the_sdk_come_out_of_a_push_as_they_went_in(server):
    for format in ["binary", "structured", "batch"]:
        for send in [to_binary_event, to_structured_event, to_batch]:
            with Push(server, [secret()], format) as push:
                sent = send(CloudEvent(dict(ATTRIBUTES), DATA))
                headers = {name: value for name, value in sent.headers.items()}
                push.ask("POST", f"/v1/queues/{push.queue}/messages", sent.body, headers)
                [event] = read(format, *push.one())
                for name, value in ATTRIBUTES.items():
                    equal(event.get_attributes().get(name), value, f"{format} {name}")
                equal(event.get_data(), DATA, format)


@scenario
def a_batch_sent_by_the_sdk_is_as_many_events_in_every_mode(server):
    for format in ["binary", "structured", "batch"]:
        with Push(server, [secret()], format, ordered=True) as push:
            events = [CloudEvent({**ATTRIBUTES, "id": f"b-{number}"}, {"n": number}) for number in range(5)]
            sent = to_batch(*events)
            push.ask("POST", f"/v1/queues/{push.queue}/messages", sent.body, dict(sent.headers))
            seen = lambda: [event for request in push.receiver.seen for event in read(format, *request)]
            harness.eventually(lambda: len(seen()) >= len(events))
            equal([(event.get_id(), event.get_data()) for event in seen()], [(f"b-{n}", {"n": n}) for n in range(5)], format)


@scenario
def messages_that_were_no_events_are_read_by_the_sdk_as_events(server):
    for format in ["binary", "structured", "batch"]:
        with Push(server, [secret()], format) as push:
            push.publish(DATA, ws_message_id="m-1", ws_type="paid", ws_key="k", correlation_id="c-1")
            [event] = read(format, *push.one())
            equal((event.get_id(), event.get_type()), ("m-1", "paid"))
            equal(event.get_source(), f"urn:waystation:{push.queue}")
            equal(event.get_extension("partitionkey"), "k")
            equal(event.get_extension("correlationid"), "c-1")
            equal(event.get_data(), DATA)


@scenario
def a_batch_carries_many_events(server):
    with Push(server, [secret()], "batch", concurrency=1, batch_max=10) as push:
        push.ask("POST", f"/v1/pushes/{push.queue}/pause")
        for number in range(25):
            push.publish({"n": number})
        push.ask("POST", f"/v1/pushes/{push.queue}/resume")
        harness.eventually(lambda: push.ask("GET", f"/v1/pushes/{push.queue}")["counts"]["delivered"] == 25)
        events = [read("batch", headers, body) for headers, body in push.receiver.seen]
        assert max(map(len, events)) <= 10 and len(events) < 25, [len(some) for some in events]
        equal(sorted(event.get_data()["n"] for some in events for event in some), list(range(25)))


if __name__ == "__main__":
    harness.main()
