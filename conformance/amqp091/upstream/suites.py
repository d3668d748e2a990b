"""What do the clients' own test suites say about a server, and is it what RabbitMQ is told?

Each suite comes out of the client's source archive on PyPI or npm (or is a module of Go's module proxy), is unpacked into a folder
of its own, run with pytest, node's own runner or `go test`, and compared with what RabbitMQ 3.10 got (reference.json beside this
file): what passes there must pass here.

    suites.py --port 5672 [--tls-port 5671] [--management-port 15672] [--only aio-pika] --work DIR
              [--page FILE | --write-reference]
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree

import go_suite

HERE = pathlib.Path(__file__).parent
REFERENCE = HERE / "reference.json"
SUITES = [
    # Package, version, what of it is run, where a module that speaks to docker is replaced.
    ("aio-pika", "10.2.1", ["tests"], "tests/docker_client.py"),
    ("aiormq", "7.2.4", ["tests"], "tests/docker_client.py"),
    ("kombu", "5.7.0", ["t/integration/test_py_amqp.py"], None),
    ("amqp", "5.4.2", ["t/integration/test_rmq.py"], None),
    ("amqp091-go", "v1.14.0", ["-tags integration"], None),
]
# The same of npm: those files that find the server by an environment variable.
NODE_SUITES = [("amqplib", "2.0.1", ["test/channel_api.test.js"], None)]
# Those that are modules of Go.
GO_MODULES = {"amqp091-go": "github.com/rabbitmq/amqp091-go"}
REASON_LENGTH_MAX = 110


def fetch(package, version, work):
    """Unpacks the source archive; gives the folder."""
    folder = work / f"{package.replace('-', '_')}-{version}"
    if not folder.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                    "--no-binary", package, "--dest", str(work), f"{package}=={version}"]
        subprocess.run(download, check=True)
        (archive,) = work.glob(f"{package.replace('-', '[-_]')}-{version}.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(work, filter="data")
    return folder


def run(suite, options, work):
    """Runs one suite; gives {test: (outcome, reason)}, or nothing where what runs it is not installed."""
    package, version, targets, docker = suite
    if package in GO_MODULES:
        if not go_suite.there():
            return None
        results = go_suite.run(GO_MODULES[package], version, options, work)
        return {name: (outcome, short(said)) for name, (outcome, said) in results.items()}
    folder = fetch(package, version, work)
    if docker:
        (folder / docker).write_text((HERE / "docker_client.py").read_text())
    if (HERE / f"conftest_{package}.py").exists():
        (folder / "conftest.py").write_text((HERE / f"conftest_{package}.py").read_text())
    # The installed client is what is tested, not the copy beside the tests.
    for copy in (package.replace("-", "_"),):
        if (folder / copy).exists():
            (folder / copy).rename(folder / f"not-{copy}")
    report = work / f"{package}.xml"
    environment = os.environ | {
        "RABBITMQ_HOST": options.host, "RABBITMQ_5672_TCP": str(options.port),
        "RABBITMQ_5671_TCP": str(options.tls_port or ""), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "log_cli=false", "--timeout", "60",
               f"--junitxml={report}", *targets]
    with open(work / f"{package}.log", "wb") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log)
    return read(report)


def fetch_node(package, version, work):
    """Unpacks the package; gives the folder."""
    folder = work / f"{package}-{version}"
    if not folder.exists():
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=work, check=True)
        with tarfile.open(work / f"{package}-{version}.tgz") as tar:
            tar.extractall(folder, filter="data")
    return folder / "package"


def run_node(suite, options, work):
    """Runs one suite of npm; gives {test: (outcome, reason)}."""
    package, version, targets, _ = suite
    folder = fetch_node(package, version, work)
    report = work / f"{package}.xml"
    environment = os.environ | {"URL": f"amqp://{options.host}:{options.port}"}
    command = ["node", "--test", "--test-timeout=60000", "--test-reporter=junit",
               f"--test-reporter-destination={report}", *targets]
    with open(work / f"{package}.log", "wb") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log)
    results = {}
    read_node(xml.etree.ElementTree.parse(report).getroot(), package, results)
    return results


def read_node(element, path, results):
    """Suites within suites: a test is named by all of them."""
    for child in element:
        name = f"{path}.{child.get('name')}"
        if child.tag == "testsuite":
            read_node(child, name, results)
        elif child.tag == "testcase":
            results[name] = outcome_of(child)


def read(report):
    results = {}
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        outcome, reason = outcome_of(case)
        name = f"{case.get('classname')}.{case.get('name')}"
        # A test that fails and whose clean-up fails too is there twice.
        if results.get(name, ("passed", ""))[0] == "passed":
            results[name] = (outcome, reason)
    return results


def outcome_of(case):
    outcome, reason = "passed", ""
    for child in case:
        if child.tag in ("failure", "error", "skipped"):
            outcome = {"failure": "failed"}.get(child.tag, child.tag)
            reason = short(child.get("message") or child.text or "")
    return outcome, reason


def short(reason):
    line = reason.strip().splitlines()[0] if reason.strip() else ""
    line = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{16,}\b", "…", line)
    line = re.sub(r"(/[\w.-]+){3,}/", "…/", line)
    return line[:REASON_LENGTH_MAX]


def counted(results):
    counts = {"passed": 0, "failed": 0, "error": 0, "skipped": 0}
    for outcome, _ in results.values():
        counts[outcome] += 1
    return counts


def said(counts):
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing ran"


def compare(package, results, reference):
    """Tests that RabbitMQ passes and this server does not."""
    known = reference.get(package, {}).get("not_passed", {})
    return {name: result for name, result in results.items() if result[0] != "passed" and name not in known}


def page(every, reference):
    """The page docs/conformance/amqp091.md, written from a run."""
    lines = [
        "# AMQP 0-9-1: what the clients' own test suites say",
        "",
        "Written by `cargo xtask conformance amqp091 --write`; do not edit. Each suite comes out of the client's source",
        "archive on PyPI or npm, or is a module of Go's, in the version named, and is run against the real binary; the reference is",
        "RabbitMQ 3.10.8 from Debian's package, run by the same command. What RabbitMQ passes must pass here, or the command",
        "fails.",
        "",
        "| suite | version | Waystation | RabbitMQ 3.10.8 | passes there, not here |",
        "|---|---|---|---|---|",
    ]
    for (package, version, targets, _), results in every:
        there = reference.get(package, {}).get("counts", {})
        worse = len(compare(package, results, reference))
        lines.append(f"| {package} `{' '.join(targets)}` | {version} | {said(counted(results))} | {said(there)} | {worse} |")
    for (package, _, _, _), results in every:
        known = reference.get(package, {}).get("not_passed", {})
        rows = sorted((name, result) for name, result in results.items() if result[0] != "passed")
        lines += ["", f"## {package}: every test that did not pass", ""]
        if not rows:
            lines.append("None.")
            continue
        lines += ["| test | Waystation | RabbitMQ | reason |", "|---|---|---|---|"]
        for name, (outcome, reason) in rows:
            there = known.get(name, ["passed", ""])[0]
            lines.append(f"| `{name}` | {outcome} | {there} | {reason.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--tls-port", type=int)
    parser.add_argument("--management-port", type=int)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--page", type=pathlib.Path, help="where the results are written for readers")
    parser.add_argument("--write-reference", action="store_true", help="the server is RabbitMQ: keep its results")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    reference = json.loads(REFERENCE.read_text()) if REFERENCE.exists() else {}
    every, worse = [], 0
    for suite in SUITES + NODE_SUITES:
        if options.only and suite[0] not in options.only:
            continue
        missing = [tool for tool in ("node", "npm") if suite in NODE_SUITES and not shutil.which(tool)]
        if missing:
            print(f"{suite[0]} {suite[1]}: skipped, needs {' and '.join(missing)}")
            continue
        begun = time.monotonic()
        results = (run_node if suite in NODE_SUITES else run)(suite, options, options.work)
        if results is None:
            print(f"{suite[0]} {suite[1]}: skipped, needs go", flush=True)
            continue
        every.append((suite, results))
        print(f"{suite[0]} {suite[1]}: {said(counted(results))} in {time.monotonic() - begun:.0f} s", flush=True)
        if options.write_reference:
            not_passed = {name: list(result) for name, result in sorted(results.items()) if result[0] != "passed"}
            reference[suite[0]] = {"counts": counted(results), "not_passed": not_passed}
            REFERENCE.write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n")
            continue
        for name, (outcome, reason) in sorted(compare(suite[0], results, reference).items()):
            worse += 1
            print(f"  {outcome} here, passed by RabbitMQ: {name}: {reason}")
        expected = reference.get(suite[0], {}).get("counts", {})
        if sum(counted(results).values()) < sum(expected.values()):
            worse += 1
            print(f"  only {sum(counted(results).values())} tests ran, of {sum(expected.values())}")
    if options.write_reference:
        return
    if options.page:
        options.page.write_text(page(every, reference))
    print(f"{sum(counted(results)['passed'] for _, results in every)} passed, {worse} failed")
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
