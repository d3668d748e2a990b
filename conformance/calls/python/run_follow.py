"""Does a follower that knows RFC 9110 and nothing of ours come to the outcome of a call? It is follow.sh, with curl."""
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "amqp091" / "python"))
import harness  # noqa: E402

equal, scenario = harness.equal, harness.scenario


class Operation:
    """An operation of its own, and the worker of it."""

    def __init__(self, server, **spec):
        self.server, self.name = server, harness.fresh("op")
        self.ask("PUT", f"/v1/operations/{self.name}", spec)

    def ask(self, method, path, body=None):
        status, _, data = self.server.request(method, path, body)
        assert 200 <= status < 300, f"{method} {path} gave {status}: {data}"
        return json.loads(data) if data else None

    def receive(self):
        [call] = self.ask("POST", f"/v1/operations/{self.name}/receive?wait_ms=10000")["calls"]
        return call

    def complete(self, body, status=200):
        call = self.receive()
        self.ask("POST", f"/v1/calls/{call['id']}/complete?attempt={call['attempt']}&status={status}", body)
        return call["id"]

    def follow(self, *arguments):
        """The follower, under way with a call of this operation."""
        return Follower(self.server, "POST", f"{self.server.http}/v1/calls/{self.name}", *arguments)


class Follower:
    def __init__(self, server, method, url, *arguments):
        command = [HERE.parent / "follow.sh", method, url, *arguments]
        environment = {**os.environ, "CURL_CA_BUNDLE": server.certificate or "", "NO_PROXY": "*"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )

    def end(self, code):
        """What it got; it must end with this code."""
        self.body, said = self.process.communicate(timeout=40)
        self.steps = [line.split() for line in said.splitlines()]
        equal(self.process.returncode, code, f"{said}{self.body}")
        return self.body

    def statuses(self):
        return [step[2] for step in self.steps if step[0] != "wait"]


@scenario
def from_202_by_way_of_the_monitor_and_303_to_the_result(server):
    operation = Operation(server)
    follower = operation.follow("--data", '{"order": 4711}', "--header", "content-type: application/json")
    id = operation.complete({"shipped": True})
    equal(json.loads(follower.end(0)), {"shipped": True})
    equal((follower.statuses()[0], follower.statuses()[-2:]), ("202", ["303", "200"]))
    equal(follower.steps[-1][:2], ["GET", f"{server.http}/v1/calls/{id}/result"])
    equal(follower.steps[1], ["wait", "1"], "it was told when to come back")


@scenario
def a_call_that_takes_its_time_is_asked_for_again_after_each_pause(server):
    operation = Operation(server)
    follower = operation.follow("--data", "x")
    call = operation.receive()
    path = f"/v1/calls/{call['id']}"
    operation.ask("POST", f"{path}/progress", {"attempt": 1, "percent": 50})
    harness.eventually(lambda: follower.process.poll() is not None or asked_twice(operation, path), 10)
    operation.ask("POST", f"{path}/complete?attempt=1", {"done": 1})
    equal(json.loads(follower.end(0)), {"done": 1})
    equal(follower.statuses()[:2] + follower.statuses()[-2:], ["202", "200", "303", "200"])


def asked_twice(operation, path):
    """Whether the call is old enough that the follower has seen it under way."""
    return operation.ask("GET", path)["age_ms"] > 1800


@scenario
def where_the_outcome_is_at_the_monitor_itself_it_is_taken_there(server):
    operation = Operation(server, finished="inline")
    follower = operation.follow("--data", "x")
    operation.complete({"inline": True})
    equal(json.loads(follower.end(0)), {"inline": True})
    equal((follower.statuses()[0], follower.statuses()[-1]), ("202", "200"))


@scenario
def a_result_that_comes_within_the_wait_is_the_plain_answer(server):
    operation = Operation(server)
    follower = operation.follow("--data", "x", "--header", "prefer: wait=20")
    operation.complete({"soon": True}, status=201)
    equal(json.loads(follower.end(0)), {"soon": True})
    equal(follower.statuses(), ["201"])


@scenario
def a_failure_is_the_workers_own_answer_and_a_cancelled_call_a_problem(server):
    operation = Operation(server)
    follower = operation.follow("--data", "x")
    operation.complete({"no": "stock"}, status=418)
    equal(json.loads(follower.end(4)), {"no": "stock"})
    equal(follower.statuses()[-2:], ["303", "418"])
    follower = operation.follow("--data", "x")
    call = operation.receive()
    equal(operation.ask("DELETE", f"/v1/calls/{call['id']}")["cancelled"], True)
    equal(json.loads(follower.end(4))["status"], 409)


@scenario
def after_its_retention_a_call_is_gone_and_one_that_never_was_is_not_there(server):
    operation = Operation(server, retention_ms=1)
    accepted = operation.ask("POST", f"/v1/calls/{operation.name}", {})
    operation.complete({})
    url = f"{server.http}/v1/calls/{accepted['id']}"
    harness.eventually(lambda: server.request("GET", f"/v1/calls/{accepted['id']}")[0] == 410)
    problem = json.loads(Follower(server, "GET", url).end(3))
    equal(problem["status"], 410)
    Follower(server, "GET", url[:-4] + "0000").end(4)


if __name__ == "__main__":
    harness.main()
