"""Do three instrumented services and the server between them show as one connected trace? Scenarios against a server of their own."""
import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "calls" / "python")]
from receiver import Collector  # noqa: E402
from server import SECRET, Client, Server  # noqa: E402
from service_http import Service  # noqa: E402

PATIENCE_SECONDS = 60
SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


def until(what, check):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (found := check()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.05)
    return found


def put(server, queue, spec=None):
    Client(server.http).json("PUT", f"/v1/queues/{queue}", spec or {})


def run_services(server, collector):
    """The shop gives to the stock, that gives to the shipping; the stock gives its message back once. Returns the trace's id."""
    for queue in ("stock", "shipping"):
        put(server, queue)
    service = [sys.executable, HERE / "service.py"]
    places = [str(server.amqp), collector.endpoint]
    others = [subprocess.Popen([*service, name, *places, name, gives]) for name, gives in (("stock", "shipping"), ("shipping", "-"))]
    shop = subprocess.run([*service, "shop", *places, "-", "stock"], capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    for other in others:
        assert other.wait(timeout=PATIENCE_SECONDS) == 0, "a service failed"
    return shop.stdout.strip()


def ours(spans, name):
    return sorted((span for span in spans if span.service == "waystation" and span.name == name), key=lambda span: span.start)


@scenario
def three_services_and_the_server_are_one_connected_trace(server, collector):
    trace = run_services(server, collector)
    until("the server's last span", lambda: ours(collector.of(trace), "deliver shipping"))
    spans = collector.of(trace)
    assert {span.service for span in spans} == {"shop", "stock", "shipping", "waystation"}, spans
    ids = {span.id for span in spans}
    roots = [span for span in spans if not span.parent]
    assert len(roots) == 1 and roots[0].name == "order", roots
    lost = [span for span in spans if span.parent and span.parent not in ids]
    assert not lost, f"these have a parent that is not in the trace: {lost}"

    waits, deliveries = ours(spans, "wait stock"), ours(spans, "deliver stock")
    assert (len(waits), len(deliveries)) == (2, 2), spans
    first, second = deliveries
    assert (first.status.code, first.attributes["waystation.outcome"]) == (2, "returned"), first
    assert (second.status.code, second.attributes["waystation.outcome"]) == (0, "accepted"), second
    assert [span.attributes["waystation.attempt"] for span in deliveries] == [1, 2], deliveries
    told = second.attributes
    assert told["messaging.system"] == "waystation" and told["messaging.destination.name"] == "stock", told
    assert waits[0].start <= waits[0].end <= first.end <= waits[1].end <= second.end, spans
    assert (waits[0].kind, first.kind) == (5, 4), spans


@scenario
def what_the_collector_does_not_take_at_once_is_tried_again(server, collector):
    collector.answers = [503, 429]
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    publish(server, f"00-{trace}-00f067aa0ba902b7-01")
    until("the span", lambda: ours(collector.of(trace), "deliver plain"))
    path, headers = collector.requests[-1]
    assert path == "/v1/traces" and headers["content-type"] == "application/x-protobuf", collector.requests
    assert headers["authorization"] == "Bearer x", headers


@scenario
def what_is_not_sampled_or_no_trace_context_makes_no_span(server, collector):
    before, trace = len(collector.spans), "a" * 32
    for traceparent in (f"00-{'b' * 32}-00f067aa0ba902b7-00", "nonsense"):
        publish(server, traceparent)
    publish(server, f"00-{trace}-00f067aa0ba902b7-01")
    until("the span of the sampled one", lambda: ours(collector.of(trace), "deliver plain"))
    assert {span.trace for span in collector.spans[before:]} == {trace}, collector.spans[before:]


QUICK = {"first_ms": 20, "most_ms": 50, "jitter_percent": 0}


def check_requests(collector, service, trace, path, address, statuses, producer):
    """Requests to `path` are spans of ours below the deliveries of `address`, and those below the producer's span."""
    def requests():
        spans = [span for span in collector.of(trace) if span.attributes.get("url.full", "").endswith(path)]
        return sorted(spans, key=lambda span: span.start) if len(spans) == len(statuses) else None

    spans = until(f"spans of {path}", requests)
    deliveries = {span.id: span for span in ours(collector.of(trace), f"deliver {address}")}
    assert [span.id for span in spans] == service.parents(path), (spans, service.asked)
    for number, (span, status) in enumerate(zip(spans, statuses)):
        told, delivery = span.attributes, deliveries[span.parent]
        assert (span.name, span.kind) == ("POST", 3), span
        assert (delivery.parent, delivery.attributes["waystation.attempt"]) == (producer, number + 1), delivery
        assert told["http.request.method"] == "POST" and told["url.full"] == service.address + path, told
        assert (told["server.address"], told["http.response.status_code"]) == ("127.0.0.1", status), told
        assert told.get("http.request.resend_count", 0) == number, told
        assert (told.get("error.type"), span.status.code) == ((str(status), 2) if status >= 400 else (None, 0)), span
        assert delivery.start <= span.end and span.start <= delivery.end, (span, delivery)


@scenario
def requests_to_upstreams_and_webhooks_are_spans_below_their_deliveries(server, collector):
    service, client = Service(), Client(server.http)
    upstream = {"url": f"{service.address}/work?key=secret", "retry": QUICK}
    client.json("PUT", "/v1/operations/ship", {"upstream": upstream})
    client.json("PUT", "/v1/queues/hooked", {"dead_letter": "lost"})
    client.json("PUT", "/v1/topics/news", {})
    client.json("PUT", "/v1/subscriptions/board", {"topic": "news"})
    for name, source in (("q", {"queue": "hooked"}), ("s", {"subscription": "board"})):
        spec = {**source, "url": f"{service.address}/{name}", "retry": QUICK, "dead_letter": "lost", "secrets": [SECRET]}
        client.json("PUT", f"/v1/pushes/{name}", spec)
    for number, (path, post, address) in enumerate((
        ("/work", "/v1/calls/ship?", "ship"),
        ("/q", "/v1/queues/hooked/messages", "hooked"),
        ("/s", "/v1/topics/news/messages", "news"),
    )):
        trace, producer, service.answers = f"{number + 1:032x}", f"{number + 10:016x}", [503]
        headers = {"content-type": "application/json", "traceparent": f"00-{trace}-{producer}-01"}
        status, _, said = client.once("POST", post, "{}", headers)
        assert status in (200, 202), (status, said)
        check_requests(collector, service, trace, path, address, [503, 200], producer)


@scenario
def a_batch_belongs_to_the_trace_of_its_first_message_and_links_to_the_others(server, collector):
    service, client = Service(), Client(server.http)
    client.json("PUT", "/v1/queues/many", {"dead_letter": "lost"})
    traces = [f"{number:032x}" for number in (101, 102, 103)]
    for trace in traces:
        headers = {"content-type": "application/json", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        assert client.once("POST", "/v1/queues/many/messages", "{}", headers)[0] == 200
    spec = {"queue": "many", "url": f"{service.address}/many", "format": "batch", "concurrency": 1, "dead_letter": "lost", "secrets": [SECRET]}
    client.json("PUT", "/v1/pushes/many", spec)

    def requests():
        return [span for trace in traces for span in collector.of(trace) if "url.full" in span.attributes]

    until("all deliveries", lambda: all(ours(collector.of(trace), "deliver many") for trace in traces))
    spans = until("the requests", requests)
    deliveries = {span.id for trace in traces for span in ours(collector.of(trace), "deliver many")}
    below = [span.parent for span in spans] + [link[1] for span in spans for link in span.links]
    assert set(below) == deliveries and len(below) == 3, (spans, deliveries)
    assert [span.id for span in spans] == service.parents("/many"), (spans, service.asked)


@scenario
def what_the_record_leaves_out_is_below_whoever_published(server, collector):
    service, client = Service(), Client(server.http)
    client.json("PUT", "/v1/queues/quiet", {"dead_letter": "lost"})
    spec = {"queue": "quiet", "url": f"{service.address}/quiet", "dead_letter": "lost", "secrets": [SECRET]}
    client.json("PUT", "/v1/pushes/quiet", spec)
    trace, producer = "f" * 32, "00f067aa0ba902b7"
    headers = {"content-type": "application/json", "traceparent": f"00-{trace}-{producer}-01"}
    assert client.once("POST", "/v1/queues/quiet/messages", "{}", headers)[0] == 200
    [span] = until("the request", lambda: collector.of(trace))
    assert (span.parent, [span.id]) == (producer, service.parents("/quiet")), span


def publish(server, traceparent):
    """Publishes by HTTP to a queue, and takes it."""
    put(server, "plain")
    client = Client(server.http)
    headers = {"content-type": "application/json", "traceparent": traceparent}
    assert client.once("POST", "/v1/queues/plain/messages", "{}", headers)[0] == 200
    [message] = client.json("POST", "/v1/queues/plain/receive?wait_ms=10000")["messages"]
    client.json("POST", "/v1/queues/plain/settle", {"settlements": [{**settled(message), "outcome": "accept"}]})


def settled(message):
    return {"tag": message["tag"], "attempt": message["attempt"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server-binary", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    collector, failed = Collector(), 0
    server = Server(options.server_binary, options.data)
    with (options.data / "waystation.toml").open("a") as config:
        config.write('[record]\nrules = [{ address = "quiet", sample = 0 }]\n')
        config.write(f'[otlp]\nendpoint = "{collector.endpoint}"\nheaders = ["authorization=Bearer x"]\n')
    server.start()
    put(server, "lost")
    try:
        for run in SCENARIOS:
            begun, said = time.monotonic(), ""
            try:
                run(server, collector)
            except Exception as error:  # noqa: told in the line
                failed, said = failed + 1, f": {type(error).__name__}: {error}"
            word = "FAILED" if said else "ok"
            print(f"{word:8}{time.monotonic() - begun:6.1f} s  {run.__name__.replace('_', ' ')}{said}".replace("\n", " "))
    finally:
        server.kill()
    print(f"{len(SCENARIOS) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
