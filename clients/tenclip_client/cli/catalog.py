"""`tenclip models --catalog`: what can be trained, loaded and exported, told by the packages that do it.

A package registers, in the entry-point group `tenclip.catalog`, a function that returns rows: mappings of plain values
with `architecture`, `family`, `parameters`, `gmacs`, `clip`, `protocol`, `published`, `source` and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenclip_api.errors import MissingDependency

GROUP = "tenclip.catalog"
Row = Mapping[str, Any]


def load_catalog(entries: Sequence[EntryPoint] | None = None) -> list[Row]:
    """The rows of every package that has some. Raises MissingDependency where what they need is not installed."""
    rows: list[Row] = []
    for entry in sorted(entry_points(group=GROUP)) if entries is None else entries:
        try:
            rows += entry.load()()
        except ModuleNotFoundError as err:
            if err.name is None or err.name.startswith("tenclip"):
                raise
            package = f"tenclip[{','.join(entry.extras)}]" if entry.extras else "tenclip"
            raise MissingDependency(
                f"the catalog needs {err.name}, which is not installed: pip install '{package}'"
            ) from err
    return rows


def print_catalog(console: Console, rows: Sequence[Row]) -> None:
    """A table by architecture, then each published accuracy with its source once."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("architecture", "--family"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "GMACs"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("clip", "protocol"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            Text(row["architecture"], style="bold"),
            Text(row["preset"] or ""),
            f"{row['parameters']:,}",
            f"{row['gmacs']:.1f}",
            Text(row["clip"]),
            Text(row["protocol"] or ""),
        )
    console.print(table)
    console.print("Rows without a family have no public weights; train them with `tenclip train`.", style="dim")
    published = {(r["preset"], r["published"], r["source"]): None for r in rows if r["preset"]}
    console.print("\nPublished by the authors, with the protocol above:", style="dim")
    for preset, accuracy, source in published:
        line = Text.assemble((f"  {preset}: ", "bold"), accuracy or "no accuracy published", (f"  ({source})", "dim"))
        console.print(line)
