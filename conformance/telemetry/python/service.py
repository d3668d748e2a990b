"""One instrumented service, a process of its own: OpenTelemetry's SDK and its instrumentation of pika, as anybody installs them.

`service.py NAME AMQP_PORT OTLP_ENDPOINT TAKES GIVES`: takes from one queue and gives to another; TAKES is - for the first, GIVES for the last.
"""
import json
import sys

import pika
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.pika import PikaInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


def main():
    name, port, endpoint, takes, gives = sys.argv[1:]
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
    trace.set_tracer_provider(provider)
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(port)))
    channel = connection.channel()
    PikaInstrumentor.instrument_channel(channel, tracer_provider=provider)
    channel.confirm_delivery()

    def give(body):
        if gives != "-":
            properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, headers={})
            channel.basic_publish("", gives, json.dumps(body), properties, mandatory=True)

    if takes == "-":
        with trace.get_tracer(name).start_as_current_span("order") as span:
            give({"order": 4711})
            print(format(span.get_span_context().trace_id, "032x"), flush=True)
    else:
        times = {"n": 0}

        def work(channel, method, properties, body):
            times["n"] += 1
            if name == "stock" and times["n"] == 1:
                channel.basic_nack(method.delivery_tag)
                return
            give(json.loads(body))
            channel.basic_ack(method.delivery_tag)
            channel.stop_consuming()

        channel.basic_consume(takes, work)
        channel.start_consuming()
    connection.close()
    provider.shutdown()


if __name__ == "__main__":
    main()
