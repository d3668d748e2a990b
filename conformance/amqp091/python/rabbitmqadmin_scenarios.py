"""Does rabbitmqadmin, the script of RabbitMQ's management plugin, do with us what it does with RabbitMQ?"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse

from harness import Skip, equal, fresh, scenario


def found():
    """The script as the Debian package installs it."""
    script = shutil.which("rabbitmqadmin")
    if script is None:
        raise Skip("needs rabbitmqadmin: apt-get install rabbitmq-server")
    return script


class Admin:
    def __init__(self, server):
        place = urllib.parse.urlsplit(server.management or "")
        if place.hostname is None:
            raise Skip("no HTTP address was given")
        self.command = [sys.executable, found(), "-H", place.hostname, "-P", str(place.port), "-u", server.user, "-p",
                        server.password]

    def run(self, *words):
        ran = subprocess.run([*self.command, *words], capture_output=True, text=True, timeout=20)
        return ran.returncode, ran.stdout + ran.stderr

    def ok(self, *words):
        code, said = self.run(*words)
        assert code == 0, (words, said)
        return said

    def rows(self, *words):
        return json.loads(self.ok("-f", "raw_json", *words))


@scenario
def rabbitmqadmin_makes_uses_lists_and_removes_a_topology(server):
    admin, vhost, user = Admin(server), fresh("adm"), fresh("adm")
    admin.ok("declare", "vhost", f"name={vhost}")
    admin.ok("declare", "permission", f"vhost={vhost}", f"user={server.user}", "configure=.*", "write=.*", "read=.*")
    admin.ok("declare", "user", f"name={user}", "password=pw", "tags=management")
    admin.ok("declare", "permission", f"vhost={vhost}", f"user={user}", "configure=^x", "write=.*", "read=.*")

    def here(*words):
        return admin.ok("-V", vhost, *words)

    here("declare", "exchange", "name=ex", "type=topic")
    here("declare", "exchange", "name=inside", "type=fanout", "internal=true", 'arguments={"alternate-exchange":"ex"}')
    here("declare", "queue", "name=q")
    here("declare", "queue", "name=short", "durable=false", 'arguments={"x-max-length":2}')
    code, said = admin.run("-V", vhost, "declare", "queue", "name=short", "durable=true")
    assert code == 1 and "inequivalent arg 'durable'" in said, said
    here("declare", "binding", "source=ex", "destination=q", "routing_key=a.#")
    here("declare", "binding", "source=ex", "destination=inside", "destination_type=exchange", "routing_key=b")
    here("declare", "policy", "name=p", "pattern=^q", 'definition={"max-length":10}', "apply-to=queues", "priority=1")
    here("declare", "operator_policy", "name=op", "pattern=^q", 'definition={"max-length":5}', "apply-to=queues")
    assert "Message published" in here("publish", "exchange=ex", "routing_key=a.b", "payload=hello")
    assert "NOT routed" in here("publish", "exchange=ex", "routing_key=none", "payload=hello")
    here("publish", "routing_key=q", "payload=aGVsbG8=", "payload_encoding=base64")
    got = admin.rows("-V", vhost, "get", "queue=q", "count=5", "ackmode=ack_requeue_false")
    equal([(one["payload"], one["routing_key"]) for one in got], [("hello", "a.b"), ("hello", "q")])
    queues = admin.rows("-V", vhost, "list", "queues")
    equal({(one["name"], one["durable"]) for one in queues}, {("q", True), ("short", False)})
    assert "|" in here("list", "exchanges", "name", "type") and here("-f", "tsv", "list", "bindings")
    for what in ("users", "vhosts", "permissions", "nodes", "connections", "channels", "consumers", "parameters",
                 "policies", "operator_policies", "queues", "bindings"):
        admin.ok("list", what)
    admin.ok("show", "overview")
    here("purge", "queue", "name=q")
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "definitions.json")
        here("export", file)
        here("delete", "binding", "source=ex", "destination_type=queue", "destination=q", "properties_key=a.%23")
        here("delete", "exchange", "name=inside")
        here("delete", "queue", "name=q")
        here("import", file)
    equal({one["name"] for one in admin.rows("-V", vhost, "list", "queues")} >= {"q"}, True)
    for kind, name in (("policy", "p"), ("operator_policy", "op"), ("queue", "q")):
        here("delete", kind, f"name={name}")
        code, said = admin.run("-V", vhost, "delete", kind, f"name={name}")
        assert code == 1 and "Not found" in said, said
    admin.ok("delete", "permission", f"vhost={vhost}", f"user={user}")
    admin.ok("delete", "user", f"name={user}")
    admin.ok("delete", "vhost", f"name={vhost}")
    equal(admin.run("close", "connection", "name=none")[0], 1)
