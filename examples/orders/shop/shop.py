"""The shop: takes orders and publishes them, with a client of RabbitMQ that knows nothing of Waystation.

It begins a trace for each order, as an instrumented service does.
"""
import argparse
import json
import secrets

import pika


def place(channel, order):
    """Publishes an order; returns when it is durable."""
    trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    properties = pika.BasicProperties(
        content_type="application/json", delivery_mode=2, message_id=f"order-{order['order']}",
        correlation_id=order["order"], type="order.placed", app_id="shop",
        headers={"traceparent": trace, "ws-business-order": order["order"]},
    )
    channel.basic_publish("shop", "order.placed", json.dumps(order), properties, mandatory=True)
    return trace


def orders(first, count):
    """Orders of one to three lines; every third has a licence in it."""
    for number in range(first, first + count):
        lines = [{"kind": "book", "item": f"book-{number % 7}", "quantity": 1 + number % 2}]
        if number % 2:
            lines.append({"kind": "book", "item": "atlas", "quantity": 1})
        if number % 3 == 0:
            lines.append({"kind": "licence", "item": "reader"})
        yield {"order": str(number), "address": f"Main Street {number % 100}", "lines": lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--amqp", default="amqp://guest:guest@127.0.0.1:5672/")
    parser.add_argument("--first", type=int, default=4700)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--poison", type=int, default=4711, help="the order whose quantity is a word")
    options = parser.parse_args()
    connection = pika.BlockingConnection(pika.URLParameters(options.amqp))
    channel = connection.channel()
    channel.confirm_delivery()
    for order in orders(options.first, options.count):
        if order["order"] == str(options.poison):
            order["lines"][0]["quantity"] = "two"
        place(channel, order)
    connection.close()
    print(f"placed {options.count} orders")


if __name__ == "__main__":
    main()
