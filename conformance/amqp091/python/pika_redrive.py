"""Does a message that pika rejected come back to it by a redrive, as it was published, and say so when it fails again?"""
import json

from harness import equal, eventually, fresh, quoted, scenario
from with_pika import channel_of, depth, put, take


def ask(server, method, path, body=None, status=200):
    got, _, data = server.request(method, path, body)
    equal(got, status, data)
    return json.loads(data)


def declare(channel):
    """An exchange with a queue whose dead letters go by another exchange to a queue of their own."""
    orders = fresh("orders")
    dead, exchange, graveyard = orders + ".dead", orders + ".topic", orders + ".dlx"
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.exchange_declare(graveyard, "fanout", durable=True)
    channel.queue_declare(dead, durable=True)
    channel.queue_bind(dead, graveyard)
    channel.queue_declare(orders, durable=True, arguments={"x-dead-letter-exchange": graveyard})
    channel.queue_bind(orders, exchange, "order.#")
    return orders, dead, exchange


def hold(channel, queue):
    """The next message, to be settled."""
    return eventually(lambda: next((got for got in [channel.basic_get(queue)] if got[0] is not None), None))


def reject(channel, queue, count):
    for _ in range(count):
        method, _, _ = hold(channel, queue)
        channel.basic_reject(method.delivery_tag, requeue=False)


def redrive(server, dead, **more):
    begun = ask(server, "POST", "/v1/redrives", {"from": [dead], "which": {"all": True}, **more}, 202)

    def ended():
        shown = ask(server, "GET", f"/v1/redrives/{begun['id']}")
        return shown if shown["state"] == "completed" else None

    return eventually(ended)


@scenario
def what_was_rejected_is_grouped_redriven_consumed_and_says_so_when_it_fails_again(server):
    server.only_ours("redrives are Waystation's")
    with channel_of(server, confirm=True) as channel:
        orders, dead, exchange = declare(channel)
        for n in range(3):
            put(channel, f"order.{n}", str(n), exchange=exchange, message_id=f"m-{n}", headers={"colour": "blue"})
        reject(channel, orders, 3)
        eventually(lambda: depth(channel, dead) == 3)
        groups = ask(server, "GET", f"/v1/dead-letters?queue={quoted(dead)}")
        (group,) = groups["groups"]
        equal((group["cause"], group["messages"], group["origins"]), ("rejected", 3, {orders: 3}))
        for times in (1, 2):
            done = redrive(server, dead)
            equal((done["moved"], done["left"], done["targets"]), (3, {}, {orders: 3}))
            equal((depth(channel, dead), depth(channel, orders)), (0, 3))
            for n in range(3):
                method, properties, body = hold(channel, orders)
                equal((body, properties.message_id), (str(n).encode(), f"m-{n}"))
                # As it was published: by its own exchange, under its own key.
                equal((method.exchange, method.routing_key), (exchange, f"order.{n}"))
                headers = properties.headers
                equal((headers["colour"], headers["ws-redrive"], headers["ws-redrive-count"]),
                      ("blue", done["id"], times))
                (death,) = headers["x-death"]
                equal((death["queue"], death["reason"], death["count"]), (orders, "rejected", times))
                channel.basic_reject(method.delivery_tag, requeue=False)
            eventually(lambda: depth(channel, dead) == 3)
        page = ask(server, "GET", f"/v1/dead-letters/{group['id']}?queue={quoted(dead)}")
        equal([item["letter"]["redriven"] for item in page["items"]], [2, 2, 2])
        # What a client sends under such a name is its own, and no redrive.
        forged = {"ws-redrive": "mine", "ws-redrive-count": 9, "ws-death-error": "mine", "ws-death-source": "payroll"}
        put(channel, orders, "own", headers=forged)
        (stored,) = ask(server, "GET", f"/v1/queues/{quoted(orders)}/messages")["messages"]
        equal(stored["headers"], {f"ws-amqp-header-{name}": value for name, value in forged.items()} | {
            name: value for name, value in stored["headers"].items() if name.startswith(("ws-amqp-flags", "ws-exchange", "ws-routing-key"))})
        _, properties, _ = take(channel, orders)
        equal(properties.headers, forged)


@scenario
def a_redrive_is_undone_for_what_no_consumer_was_given(server):
    server.only_ours("redrives are Waystation's")
    with channel_of(server, confirm=True) as channel:
        orders, dead, exchange = declare(channel)
        put(channel, "order.x", *[str(n) for n in range(5)], exchange=exchange)
        reject(channel, orders, 5)
        eventually(lambda: depth(channel, dead) == 5)
        done = redrive(server, dead)
        method, _, body = hold(channel, orders)
        equal(body, b"0")
        ask(server, "POST", f"/v1/redrives/{done['id']}/undo")
        undone = eventually(lambda: [r for r in [ask(server, "GET", f"/v1/redrives/{done['id']}")]
                                     if r["state"] == "undone"])
        equal((undone[0]["undone"], depth(channel, dead), depth(channel, orders)), (4, 4, 0))
        channel.basic_ack(method.delivery_tag)
        method, properties, body = take(channel, dead)
        equal((body, method.exchange, "ws-redrive" in properties.headers), (b"1", orders + ".dlx", False))
