"""Does the management API give amqpstorm's ManagementApi what it asks for: every call that it has?"""
import amqpstorm
from amqpstorm.management import ApiError, ManagementApi

from harness import equal, eventually, fresh, scenario


def api(server, user=None, password=None):
    return ManagementApi(server.management, user or server.user, password or server.password)


def refused(status, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ApiError as error:
        equal(error.error_code, status)
        return
    raise AssertionError("was not refused")


@scenario
def amqpstorm_asks_how_the_server_is(server):
    client = api(server)
    equal(client.aliveness_test("/"), {"status": "ok"})
    equal(client.healthchecks.get(), {"status": "ok"})
    assert client.cluster_name()["name"]
    (node,) = client.nodes()
    equal(client.node(node["name"])["name"], node["name"])
    equal(client.overview()["node"], node["name"])
    equal(client.whoami()["name"], server.user)
    refused(401, api(server, "nobody", "x").overview)


@scenario
def amqpstorm_declares_binds_publishes_gets_and_deletes(server):
    client, queue, exchange = api(server), fresh("storm queue"), fresh("storm")
    client.queue.declare(queue, durable=True, arguments={"x-max-length": 5})
    client.queue.declare(queue, passive=True)
    refused(404, client.queue.declare, fresh("absent"), passive=True)
    refused(400, client.queue.declare, queue, durable=False)
    client.exchange.declare(exchange, "topic", durable=True)
    client.exchange.declare(exchange, passive=True)
    client.queue.bind(queue, exchange, "a.*")
    equal({(one["source"], one["routing_key"]) for one in client.queue.bindings(queue)},
          {("", queue), (exchange, "a.*")})
    equal(client.basic.publish("1", "a.b", exchange, properties={"headers": {"n": 1}}), {"routed": True})
    equal(client.basic.publish("2", "b", exchange), {"routed": False})
    (message,) = client.basic.get(queue, requeue=True, to_dict=True)
    equal((message["payload"], message["properties"]["headers"], message["routing_key"]), ("1", {"n": 1}, "a.b"))
    (message,) = client.basic.get(queue, requeue=False)
    equal(message.body, "1")
    equal(client.basic.get(queue), [])
    client.basic.publish("3", queue)
    client.queue.purge(queue)
    equal(client.basic.get(queue), [])
    client.queue.unbind(queue, exchange, "a.*")
    equal(len(client.queue.bindings(queue)), 1)
    other = fresh("storm")
    client.exchange.declare(other, "fanout")
    client.exchange.bind(exchange, other, "x")
    equal([one["destination"] for one in client.exchange.bindings(other)], [exchange])
    client.exchange.unbind(exchange, other, "x")
    equal(client.exchange.bindings(other), [])
    for name in (exchange, other):
        client.exchange.delete(name)
        refused(404, client.exchange.get, name)
    client.queue.delete(queue)
    refused(404, client.queue.get, queue)


@scenario
def amqpstorm_lists_by_pages_and_names(server):
    client, stem = api(server), fresh("page")
    names = [f"{stem}.{n}" for n in range(5)]
    for name in names:
        client.queue.declare(name, durable=True)
        client.exchange.declare(name, "direct")
    for lister in (client.queue, client.exchange):
        equal([one["name"] for one in lister.list(name=stem, page_size=2)], names)
        equal([one["name"] for one in lister.list(name=f"^{stem}.[12]$", use_regex=True, page_size=10)], names[1:3])
        assert set(names) <= {one["name"] for one in lister.list(show_all=True)}
    for name in names:
        client.queue.delete(name)
        client.exchange.delete(name)


@scenario
def amqpstorm_makes_users_permissions_and_virtual_hosts(server):
    client, user, vhost = api(server), fresh("storm"), fresh("storm")
    client.virtual_host.create(vhost)
    equal(client.virtual_host.get(vhost)["name"], vhost)
    assert vhost in {one["name"] for one in client.virtual_host.list()}
    client.user.create(user, "secret", tags="management")
    equal(client.user.get(user)["name"], user)
    assert user in {one["name"] for one in client.user.list()}
    refused(401, api(server, user, "secret").user.list)
    client.user.set_permission(user, vhost, ".*", "^w", "")
    wanted = {"user": user, "vhost": vhost, "configure": ".*", "write": "^w", "read": ""}
    equal(client.user.get_permission(user, vhost), wanted)
    equal(client.user.get_permissions(user), [wanted])
    assert wanted in client.virtual_host.get_permissions(vhost)
    own = api(server, user, "secret")
    own.queue.declare("q", virtual_host=vhost)
    equal([one["name"] for one in own.queue.list(virtual_host=vhost)], ["q"])
    refused(401, own.queue.declare, "q", virtual_host="/")
    client.user.delete_permission(user, vhost)
    refused(401, own.queue.list, virtual_host=vhost)
    client.user.delete(user)
    refused(404, client.user.get, user)
    client.virtual_host.delete(vhost)
    refused(404, client.virtual_host.get, vhost)


@scenario
def amqpstorm_sees_and_closes_connections(server):
    client = api(server)
    before = {one["name"] for one in client.connection.list()}
    connection = amqpstorm.Connection(server.host, server.user, server.password, port=server.port)
    channel = connection.channel()
    (name,) = eventually(lambda: {one["name"] for one in client.connection.list()} - before, 20)
    equal(client.connection.get(name)["user"], server.user)
    (shown,) = eventually(lambda: [one for one in client.channel.list() if one["connection_details"]["name"] == name], 20)
    equal(client.channel.get(shown["name"])["number"], int(channel))
    client.connection.close(name, "by management")
    eventually(lambda: connection.is_closed)
    # RabbitMQ lists one that has ended for a while.
    eventually(lambda: not any(one["name"] == name and one["state"] == "running" for one in client.connection.list()), 20)
