"""The tests that `make test` leaves out for their length, marked `long`; each has a short form beside it.

    python -m tests.soak.long_tests

pytest's own summary is the result; arguments go to pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.conftest import PROJECT


def main(argv: list[str]) -> dict[str, Any]:
    """Runs them one after the other, in a process of their own."""
    command = [sys.executable, "-u", "-m", "pytest", "-m", "long", "-q", *argv]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip("= \n") or last
    return {"passed": process.wait() == 0, "summary": last}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
