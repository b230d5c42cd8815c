"""Run all long proofs, or those named: `python -m tests.soak fuzz_videos worker_kills`.

Each is a module with `main(argv) -> dict`, which prints its table and returns what the JSON keeps; "passed" in it says
whether the proof holds, and "summary" is its line in docs/soak.md. Short forms of them run with the tests.
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
from tests.soak._table import Row, read_table, write_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "results"
TABLE = HERE.parent.parent / "docs" / "soak.md"


def main(names: list[str]) -> int:
    available = sorted(p.stem for p in HERE.glob("*.py") if not p.stem.startswith("_"))
    unknown = set(names) - set(available)
    if unknown:
        print(f"no proof named {', '.join(sorted(unknown))}; there are: {', '.join(available)}", file=sys.stderr)
        return 2
    machine = describe_machine()
    print(f"machine: {machine}")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / "soak.json"
    # Proofs that were not asked for keep what they gave last.
    results: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for name in names or available:
        when = datetime.now(UTC).isoformat(timespec="seconds")
        found = importlib.import_module(f"tests.soak.{name}").main([])
        results[name] = {"machine": machine, "when": when, **found}
        out.write_text(json.dumps(results, indent=2) + "\n")
        row = Row(
            proof=name,
            passed=found["passed"],
            when=when.partition("T")[0],
            summary=found.get("summary", "see results/soak.json"),
            machine=machine,
        )
        write_table(TABLE, {**read_table(TABLE), name: row})
    failed = [name for name in names or available if not results[name]["passed"]]
    print(f"written to {out} and {TABLE}")
    print(f"FAILED: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    forget_proxies()
    sys.exit(main(sys.argv[1:]))
