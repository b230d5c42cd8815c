"""Run all benchmarks, or those named: `python -m tests.benchmarks decode runtimes`, or one with options of its own:
`python -m tests.benchmarks batch_speed --videos 4`.

Each is a module `bench_NAME.py` with `main(argv) -> dict`, which prints its table and returns what the JSON keeps.
"""

from __future__ import annotations

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import describe_machine
from tests.conftest import forget_proxies

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "results"


def main(arguments: list[str]) -> int:
    names, options = arguments, list[str]()
    if len(arguments) > 1 and arguments[1].startswith("-"):
        names, options = arguments[:1], arguments[1:]
    available = sorted(p.stem.removeprefix("bench_") for p in HERE.glob("bench_*.py"))
    unknown = set(names) - set(available)
    if unknown:
        print(f"no benchmark named {', '.join(sorted(unknown))}; there are: {', '.join(available)}", file=sys.stderr)
        return 2
    machine = describe_machine()
    print(f"machine: {machine}")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "bench.json"
    # What was not asked for keeps what was measured last.
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for name in names or available:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        found = importlib.import_module(f"tests.benchmarks.bench_{name}").main(options)
        results[name] = {"machine": machine, "when": when, "options": options, **found}
        out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    forget_proxies()
    sys.exit(main(sys.argv[1:]))
