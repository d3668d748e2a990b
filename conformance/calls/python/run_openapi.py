"""Does the server do what its OpenAPI description says? schemathesis sends what fits it and what does not, with all its checks on."""
import argparse
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
# As schemathesis.toml names it.
OPERATION = "contract"
# The end of what it says, when something was found.
LINES_SHOWN = 200


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", required=True, help="base address of the HTTP API")
    parser.add_argument("--certificate", help="the authority of the server's certificate")
    chosen, _ = parser.parse_known_args()
    return chosen


def declare(chosen):
    """An operation to be called."""
    trust = ssl.create_default_context(cafile=chosen.certificate) if chosen.certificate else None
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{chosen.http}/v1/operations/{OPERATION}", b"{}", headers, method="PUT")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust))
    direct.open(request, timeout=30).close()


def run(chosen, name, phases):
    """Runs some phases of schemathesis; says whether they found nothing."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE.parent / "schemathesis.toml"]
    command += ["run", f"{chosen.http}/openapi.json", "--checks", "all", "--phases", phases]
    if chosen.certificate:
        command += ["--tls-verify", chosen.certificate]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "NO_PROXY": "*"}
    environment |= {"SCHEMATHESIS_HOOKS": "outcomes", "PYTHONPATH": str(HERE)}
    with tempfile.TemporaryDirectory() as folder:
        # It keeps what it has found beside where it runs; here each run starts anew.
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, cwd=folder,
        )
    said = ran.stdout + ran.stderr
    count = re.search(r"(\d+) generated", said)
    tested = re.search(r"Tested: +(\d+)", said)
    number = [int(found[1]) if found else 0 for found in (count, tested)]
    good = ran.returncode == 0 and all(number)
    if not good:
        print("\n".join(said.splitlines()[-LINES_SHOWN:]))
    detail = f"{number[0]} requests to {number[1]} operations"
    print(f"{'ok' if good else 'FAILED':8}{time.monotonic() - begun:6.1f} s  {name}: {detail}")
    return good


def main():
    chosen = options()
    declare(chosen)
    # Behind the other phases the sequences would be a tenth as many.
    good = [
        run(chosen, "every operation of the description, with all checks of schemathesis", "examples,coverage,fuzzing"),
        run(chosen, "sequences in which one answer leads to the next request", "stateful"),
    ]
    print(f"{good.count(True)} passed, {good.count(False)} failed, 0 skipped")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
