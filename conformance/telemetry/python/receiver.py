"""A collector that keeps what it is sent: OTLP over HTTP, read by the messages of opentelemetry-proto."""
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


class Received:
    """A span with what is told around it."""

    def __init__(self, span, resource):
        self.name, self.kind, self.status = span.name, span.kind, span.status
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = {attribute.key: value(attribute.value) for attribute in span.attributes}
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.service = {attribute.key: value(attribute.value) for attribute in resource.attributes}["service.name"]

    def __repr__(self):
        return f"{self.service}: {self.name} {self.id} of {self.parent} {self.attributes}"


class Collector:
    """Answers as it is told to: `answers` are statuses of the next requests, 200 when there are none left."""

    def __init__(self):
        self.spans, self.answers, self.requests, self.lock = [], [], [], threading.Lock()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                status = collector.take(self.path, dict(self.headers), body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        with self.lock:
            self.requests.append((path, {name.lower(): text for name, text in headers.items()}))
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for of_scope in of_resource.scope_spans:
                        self.spans += [Received(span, of_resource.resource) for span in of_scope.spans]
            return status

    def of(self, trace):
        with self.lock:
            return [span for span in self.spans if span.trace == trace]
