"""What do the tests of a client written in Go say? The module comes through Go's module proxy, tests and all, at a pinned
version, is copied so that it may be changed, and is run with `go test`."""
import collections
import json
import os
import pathlib
import shutil
import subprocess

# Where the module's tests look for RabbitMQ's management interface, whatever the address of the broker.
MANAGEMENT_PORT = "15672"
TIMEOUT = "600s"


def there():
    return shutil.which("go") is not None


def fetch(module, version, work):
    """A copy of the module that may be written to."""
    folder = work / f"{module.rsplit('/', 1)[-1]}-{version}"
    if not folder.exists():
        download = ["go", "mod", "download", "-json", f"{module}@{version}"]
        told = json.loads(subprocess.run(download, check=True, capture_output=True, cwd=work).stdout)
        shutil.copytree(told["Dir"], folder, copy_function=shutil.copyfile)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def point_to(folder, port):
    """Lets the tests find the management interface, from whatever port they were pointed to before."""
    note = folder / "management-port"
    before = note.read_text() if note.exists() else MANAGEMENT_PORT
    for source in folder.rglob("*.go"):
        text = source.read_text()
        if before in text:
            source.write_text(text.replace(before, port))
    note.write_text(port)


def run(module, version, options, work):
    """Gives {test: (outcome, what it said last)}."""
    folder = fetch(module, version, work)
    if options.management_port:
        point_to(folder, str(options.management_port))
    environment = os.environ | {"AMQP_URL": f"amqp://guest:guest@{options.host}:{options.port}/"}
    command = ["go", "test", "-tags", "integration", "-json", "-timeout", TIMEOUT, "."]
    report = work / f"{folder.name}.json"
    with open(report, "wb") as out, open(work / f"{folder.name}.log", "wb") as log:
        subprocess.run(command, cwd=folder, env=environment, stdout=out, stderr=log)
    return read(report)


def read(report: pathlib.Path):
    results, said = {}, collections.defaultdict(str)
    for line in report.read_text().splitlines():
        event = json.loads(line)
        test = event.get("Test")
        if test is None:
            continue
        if event["Action"] == "output" and not event["Output"].lstrip().startswith(("=== ", "--- ")):
            said[test] = event["Output"]
        outcome = {"pass": "passed", "fail": "failed", "skip": "skipped"}.get(event["Action"])
        if outcome:
            results[test] = (outcome, "" if outcome == "passed" else said[test])
    return results
