"""Do three instrumented services and the server between them show as one connected trace? Scenarios against a server of their own."""
import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "calls" / "python")]
from receiver import Collector  # noqa: E402
from server import Server  # noqa: E402

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
    from server import Client
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


def publish(server, traceparent):
    """Publishes by HTTP to a queue, and takes it."""
    from server import Client
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
        config.write(f'[otlp]\nendpoint = "{collector.endpoint}"\nheaders = ["authorization=Bearer x"]\n')
    server.start()
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
