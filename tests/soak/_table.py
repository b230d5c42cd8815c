"""docs/soak.md: the newest result of each proof, one row each. Rows of proofs that did not run stay as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEAD = """# Long proofs

`make soak` runs them all, `make soak ARGS="memory sigterm"` those named, and each run writes its rows here;
`results/soak.json` has the figures. Short forms of the same code run in `make test`. A row that says
FAILED stands until its proof holds. Machines are shared with other work while this runs, so times are worse than on
one that is not.

| proof | holds | when | what was measured | machine |
|---|---|---|---|---|
"""
_ROW = re.compile(r"\| `(\w+)` \| (yes|\*\*FAILED\*\*) \| (\S+) \| (.*) \| (.*) \|")


@dataclass(frozen=True, kw_only=True)
class Row:
    """when: a date, YYYY-MM-DD."""

    proof: str
    passed: bool
    when: str
    summary: str
    machine: str

    def __str__(self) -> str:
        holds = "yes" if self.passed else "**FAILED**"
        summary, machine = (" ".join(text.replace("|", "/").split()) for text in (self.summary, self.machine))
        return f"| `{self.proof}` | {holds} | {self.when} | {summary} | {machine} |"


def read_table(path: Path) -> dict[str, Row]:
    """Rows by proof; none where there is no file yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = (_ROW.fullmatch(line) for line in text.splitlines())
    return {
        m[1]: Row(proof=m[1], passed=m[2] == "yes", when=m[3], summary=m[4], machine=m[5])
        for m in found
        if m is not None
    }


def write_table(path: Path, rows: dict[str, Row]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(_HEAD + "".join(f"{rows[name]}\n" for name in sorted(rows)), encoding="utf-8")
