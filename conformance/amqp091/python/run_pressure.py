"""Is a publisher told when the disk is nearly full or memory nearly used up, and why; do consumers go on; and does all go on when
there is room again?

Starts the real binary with a reserve of disk space just below what is free, and takes the rest away with one large file. What
memory it may use is set below what it uses while it runs, and above that again; once what it uses falls, for a backlog goes.
"""
import argparse
import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pika

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "conformance"))
from ports import free_port  # noqa: E402

# What others may write to the same disk meanwhile, and what the file takes.
SLACK_BYTES, TAKEN_BYTES = 2 << 30, 4 << 30
# Messages that take some 30 MiB while they wait, a third of what a server with them has.
BACKLOG = 1_000_000


class Server:
    def __init__(self, binary, data):
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        self.binary, self.data = binary, data
        self.http, self.amqp, self.management = free_port(), free_port(), free_port()
        self.config = data / "waystation.toml"
        self.reserve_bytes = shutil.disk_usage(data).free - SLACK_BYTES
        self.write_config()
        command = [str(binary), "serve", "--config", str(self.config), "--data", str(data / "data")]
        for door, port in ("http", self.http), ("amqp", self.amqp), ("amqp-management", self.management):
            command += [f"--{door}", f"127.0.0.1:{port}"]
        with (data / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the server listens", lambda: self.ask("GET", "/v1/status")[0] == 200)

    def ask(self, method, path, body=None, port=None):
        """Gives status, headers and body of an answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.http}{path}", data=body, method=method)
        if port:
            request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, json.loads(error.read() or b"null")
        except (urllib.error.URLError, ConnectionError):
            return 0, {}, None

    def write_config(self, memory_high_bytes=None):
        text = f"[limits]\ndisk_reserve_bytes = {self.reserve_bytes}\n"
        if memory_high_bytes is not None:
            text += f"memory_high_bytes = {memory_high_bytes}\n"
        self.config.write_text(text)

    def set_memory_high_bytes(self, memory_high_bytes):
        self.write_config(memory_high_bytes)
        self.process.send_signal(signal.SIGHUP)

    def memory(self):
        """Gives what /api/nodes tells of memory: used, limit, alarm."""
        node, = self.ask("GET", "/api/nodes", port=self.management)[2]
        return node["mem_used"], node["mem_limit"], node["mem_alarm"]

    def alarms(self):
        """Gives the resources whose alarms are on."""
        told = [self.ask("GET", f"/api/{check}", port=self.management)
                for check in ("health/checks/alarms", "health/checks/local-alarms", "healthchecks/node")]
        for status, _, answer in told:
            assert status == (503 if "alarms" in answer else 200), (status, answer)
        resources = [sorted(one["resource"] for one in answer.get("alarms", [])) for _, _, answer in told]
        assert resources[1:] == resources[:-1], resources
        return resources[0]

    def connections(self):
        return {one["user_provided_name"]: (one["state"], one["held_up_by"])
                for one in self.ask("GET", "/api/connections", port=self.management)[2] or []}

    def take_space(self):
        with (self.data / "taken").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, TAKEN_BYTES)

    def give_space(self):
        (self.data / "taken").unlink(missing_ok=True)

    def end(self):
        self.give_space()
        self.process.kill()
        self.process.wait()


def until(what, holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not in {seconds} seconds: {what}")
        time.sleep(0.05)


class Client:
    """A connection that keeps what it is told about being blocked."""

    def __init__(self, server, name):
        self.told = []
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", server.amqp, client_properties={"connection_name": name}))
        self.connection.add_on_connection_blocked_callback(
            lambda _connection, frame: self.told.append(frame.method.reason))
        self.connection.add_on_connection_unblocked_callback(
            lambda _connection, _frame: self.told.append(None))
        self.channel = self.connection.channel()

    def hears(self, told):
        def holds():
            self.connection.process_data_events(time_limit=0.05)
            return self.told == told
        return holds


def publishers_are_blocked_with_the_reason_and_consumers_go_on(server):
    publisher, consumer = Client(server, "publisher"), Client(server, "consumer")
    publisher.channel.queue_declare("q", durable=True)
    publisher.channel.confirm_delivery()
    for number in range(3):
        publisher.channel.basic_publish("", "q", str(number).encode())
    server.take_space()
    until("the publisher is told", publisher.hears(["low on disk"]))
    wanted = {"publisher": ("blocked", "low on disk"), "consumer": ("running", None)}
    until(f"{wanted} is shown", lambda: server.connections() == wanted)
    for number in range(3):
        method, _, body = consumer.channel.basic_get("q")
        assert body == str(number).encode(), body
        consumer.channel.basic_ack(method.delivery_tag)
    status, headers, problem = server.ask("POST", "/v1/queues/q/messages", b"late")
    assert (status, problem["type"]) == (503, "urn:waystation:problem:disk-low"), (status, problem)
    assert int(headers["Retry-After"]) > 0 and "disk space is low" in problem["detail"], problem
    assert server.ask("GET", "/v1/status")[2]["disk_low"] is True
    server.give_space()
    until("the publisher hears that there is room", publisher.hears(["low on disk", None]))
    publisher.channel.basic_publish("", "q", b"after")
    assert consumer.channel.basic_get("q", auto_ack=True)[2] == b"after"
    assert server.ask("POST", "/v1/queues/q/messages", b"late")[0] == 200
    until("nobody is blocked", lambda: {state for state, _ in server.connections().values()} == {"running"})
    assert consumer.told == [], consumer.told
    publisher.connection.close()
    consumer.connection.close()


def publishers_are_blocked_while_memory_is_low_and_what_frees_some_goes_on(server):
    used, limit, alarm = server.memory()
    # Unless told otherwise it is a part of what there is, of which a server that has just begun uses little.
    assert 1 << 20 < used < limit and not alarm, (used, limit, alarm)
    publisher, consumer = Client(server, "publisher"), Client(server, "consumer")
    for queue in "kept", "purged", "deleted":
        publisher.channel.queue_declare(queue, durable=True)
    publisher.channel.confirm_delivery()
    for number in range(3):
        for queue in "kept", "purged", "deleted":
            publisher.channel.basic_publish("", queue, str(number).encode())
    server.set_memory_high_bytes(used // 4)
    until("the publisher is told", publisher.hears(["low on memory"]))
    wanted = {"publisher": ("blocked", "low on memory"), "consumer": ("running", None)}
    until(f"{wanted} is shown", lambda: server.connections() == wanted)
    assert server.memory()[1:] == (used // 4, True) and server.alarms() == ["memory"], server.memory()
    status, headers, problem = server.ask("POST", "/v1/queues/kept/messages", b"late")
    assert (status, problem["type"]) == (503, "urn:waystation:problem:memory-low"), (status, problem)
    assert int(headers["Retry-After"]) > 0 and "memory is low" in problem["detail"], problem
    assert server.ask("GET", "/v1/status")[2]["memory_low"] is True
    for number in range(3):
        method, _, body = consumer.channel.basic_get("kept")
        assert body == str(number).encode(), body
        consumer.channel.basic_ack(method.delivery_tag)
    assert consumer.channel.queue_purge("purged").method.message_count == 3
    assert consumer.channel.queue_delete("deleted").method.message_count == 3
    server.take_space()
    wanted["publisher"] = ("blocked", "low on memory & disk")
    until(f"{wanted} is shown", lambda: server.connections() == wanted)
    assert server.alarms() == ["disk", "memory"], server.alarms()
    late = Client(server, "late")
    late.channel.basic_publish("", "kept", b"late")
    until("who comes later is told both", late.hears(["low on memory & disk"]))
    server.give_space()
    wanted |= {"publisher": ("blocked", "low on memory"), "late": ("blocked", "low on memory")}
    until(f"{wanted} is shown", lambda: server.connections() == wanted)
    assert publisher.told == ["low on memory"], publisher.told
    server.set_memory_high_bytes(4 * used)
    until("the publisher hears that there is room", publisher.hears(["low on memory", None]))
    until("so does who came later", late.hears(["low on memory & disk", None]))
    publisher.channel.basic_publish("", "kept", b"after")
    assert server.alarms() == [] and server.memory()[1:] == (4 * used, False), server.memory()
    until("nobody is blocked", lambda: {state for state, _ in server.connections().values()} == {"running"})
    assert {consumer.channel.basic_get("kept", auto_ack=True)[2] for _ in range(2)} == {b"late", b"after"}
    assert consumer.told == [], consumer.told
    for client in publisher, consumer, late:
        client.connection.close()


def an_alarm_ends_when_the_backlog_is_purged_that_led_to_it(server):
    publisher, consumer = Client(server, "publisher"), Client(server, "consumer")
    publisher.channel.queue_declare("backlog", durable=True)
    lines = server.data / "lines"
    lines.write_text("".join(f"{number}\n" for number in range(BACKLOG)))
    command = [str(server.binary), "publish", "backlog", "--lines", str(lines)]
    subprocess.run(command + ["--server", f"http://127.0.0.1:{server.http}"], check=True, stdout=subprocess.DEVNULL)
    publisher.channel.basic_publish("", "backlog", b"last")
    until("all is there", lambda: server.ask("GET", "/v1/queues/backlog")[2]["ready"] == BACKLOG + 1)
    server.set_memory_high_bytes(server.memory()[0] - 1)
    until("the publisher is told", publisher.hears(["low on memory"]))
    assert consumer.channel.queue_purge("backlog").method.message_count == BACKLOG + 1
    until("it hears that there is room", publisher.hears(["low on memory", None]))
    publisher.connection.close()
    consumer.connection.close()


def who_is_blocked_closes_at_once_if_it_has_stopped_publishing(server):
    client = Client(server, "client")
    client.channel.queue_declare("held")
    client.channel.basic_publish("", "held", b"early")
    client.channel.basic_get("held", auto_ack=True)
    server.set_memory_high_bytes(1)
    until("it is told", client.hears(["low on memory"]))
    client.channel.basic_publish("", "held", b"held back")
    # 0 is no limit.
    server.set_memory_high_bytes(0)
    until("there is room", client.hears(["low on memory", None]))
    until("it is there", lambda: client.channel.basic_get("held", auto_ack=True)[2] == b"held back")
    assert server.memory()[1:] == (0, False), server.memory()
    server.set_memory_high_bytes(1)
    until("it is told again", client.hears(["low on memory", None, "low on memory"]))
    client.connection.close()
    assert client.connection.is_closed
    server.set_memory_high_bytes(0)
    until("the alarm is over", lambda: not server.memory()[2])


def a_full_queue_refuses_with_its_limit_until_there_is_room(server):
    client = Client(server, "full")
    client.channel.queue_declare("small", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.channel.confirm_delivery()
    client.channel.basic_publish("", "small", b"1")
    try:
        client.channel.basic_publish("", "small", b"2")
        raise AssertionError("a full queue took a message")
    except pika.exceptions.NackError:
        pass
    status, headers, problem = server.ask("POST", "/v1/queues/small/messages", b"3")
    assert (status, problem["type"]) == (429, "urn:waystation:problem:full"), (status, problem)
    assert int(headers["Retry-After"]) > 0 and "max_messages 1" in problem["detail"], problem
    assert server.ask("GET", "/v1/queues/small")[2]["full"] == "max_messages 1"
    assert client.channel.basic_get("small", auto_ack=True)[2] == b"1"
    assert "full" not in server.ask("GET", "/v1/queues/small")[2]
    client.channel.basic_publish("", "small", b"4")
    client.connection.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server-binary", required=True, type=pathlib.Path)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    options = parser.parse_args()
    failed = 0
    server = Server(options.server_binary, options.data)
    try:
        for check in (publishers_are_blocked_with_the_reason_and_consumers_go_on,
                      publishers_are_blocked_while_memory_is_low_and_what_frees_some_goes_on,
                      an_alarm_ends_when_the_backlog_is_purged_that_led_to_it,
                      who_is_blocked_closes_at_once_if_it_has_stopped_publishing,
                      a_full_queue_refuses_with_its_limit_until_there_is_room):
            begun = time.monotonic()
            try:
                check(server)
                print(f"ok      {time.monotonic() - begun:6.1f} s  {check.__name__}", flush=True)
            except Exception as error:  # noqa: BLE001: whatever it is, it is told
                failed += 1
                print(f"FAILED  {time.monotonic() - begun:6.1f} s  {check.__name__}: {error!r}", flush=True)
            finally:
                server.give_space()
                server.set_memory_high_bytes(None)
    finally:
        server.end()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
