"""Does Prometheus' own library read what /metrics gives, in both formats, and does it find the wait of a message with its trace?"""
import json
import sys
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "amqp091" / "python"))
import harness  # noqa: E402

equal, scenario = harness.equal, harness.scenario
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def scrape(server, accept, parse):
    """The families of a scrape, by name."""
    status, headers, text = server.request("GET", "/metrics", headers={"accept": accept})
    equal(status, 200)
    equal(headers["content-type"].split(";")[0], accept.split(";")[0])
    families = list(parse(text.decode()))
    # The plain format's parser calls a counter by its name without _total, which a gauge may have too.
    names = [(family.name, family.type) for family in families]
    equal(len(names), len(set(names)), "a family is there twice")
    return {family.name: family for family in families}


def waited(server):
    """A queue from which one of two messages was taken, the one with a trace."""
    queue = harness.fresh("waits")
    for method, path, headers, body in [
        ("PUT", f"/v1/queues/{queue}", {}, {}),
        ("POST", f"/v1/queues/{queue}/messages", {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, {"n": 1}),
        ("POST", f"/v1/queues/{queue}/messages", {}, {"n": 2}),
        ("POST", f"/v1/queues/{queue}/receive?max=1&wait_ms=10000", {}, None),
    ]:
        status, _, data = server.request(method, path, body, headers)
        assert 200 <= status < 300, f"{method} {path} gave {status}: {data}"
    equal(len(json.loads(data)["messages"]), 1)
    return queue


def samples(family, queue, name):
    return [sample for sample in family.samples if sample.labels.get("queue") == queue and sample.name.endswith(name)]


@scenario
def openmetrics_has_the_wait_of_a_message_and_its_trace(server):
    queue = waited(server)
    families = scrape(server, "application/openmetrics-text; version=1.0.0", open_metrics)
    waits = families["waystation_queue_wait_seconds"]
    equal(waits.type, "histogram")
    equal([sample.value for sample in samples(waits, queue, "_count")], [1])
    buckets = samples(waits, queue, "_bucket")
    values = [sample.value for sample in buckets]
    equal((values, values[-1], buckets[-1].labels["le"]), (sorted(values), 1, "+Inf"))
    [bucket] = [sample for sample in buckets if sample.exemplar]
    equal(bucket.exemplar.labels, {"trace_id": TRACE})
    assert bucket.exemplar.value <= float(bucket.labels["le"]), bucket
    [ready] = samples(families["waystation_queue_messages_ready"], queue, "ready")
    equal(ready.value, 1)
    equal(families["waystation_queue_published"].type, "counter")


@scenario
def the_plain_text_format_has_the_same_and_no_examples(server):
    queue = waited(server)
    families = scrape(server, "text/plain", plain_text)
    [count] = samples(families["waystation_queue_wait_seconds"], queue, "_count")
    equal(count.value, 1)
    assert not any(sample.exemplar for family in families.values() for sample in family.samples)


if __name__ == "__main__":
    harness.main()
