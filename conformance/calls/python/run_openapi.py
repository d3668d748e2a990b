"""Does the server do what its OpenAPI description says? schemathesis sends what fits it and what does not, with all its checks on."""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The end of what it says, when something was found.
LINES_SHOWN = 200


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--http", required=True, help="base address of the HTTP API")
    parser.add_argument("--certificate", help="the authority of the server's certificate")
    chosen, _ = parser.parse_known_args()
    return chosen


def main():
    chosen, begun = options(), time.monotonic()
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE.parent / "schemathesis.toml"]
    command += ["run", f"{chosen.http}/openapi.json", "--checks", "all"]
    if chosen.certificate:
        command += ["--tls-verify", chosen.certificate]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120", "NO_PROXY": "*"}
    with tempfile.TemporaryDirectory() as folder:
        # It keeps what it has found beside where it runs; here each run starts anew.
        ran = subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, cwd=folder,
        )
    said = ran.stdout + ran.stderr
    count = re.search(r"(\d+) generated", said)
    tested = re.search(r"Tested: +(\d+)", said)
    name = "every operation of the description, with all checks of schemathesis"
    detail = f"{count[1] if count else 0} requests to {tested[1] if tested else 0} operations"
    good = ran.returncode == 0 and count and tested
    if not good:
        print("\n".join(said.splitlines()[-LINES_SHOWN:]))
    print(f"{'ok' if good else 'FAILED':8}{time.monotonic() - begun:6.1f} s  {name}: {detail}")
    print(f"{int(bool(good))} passed, {int(not good)} failed, 0 skipped")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
