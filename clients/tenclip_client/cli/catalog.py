"""`tenclip models --catalog`: the architectures and families that the installed packages can train, load and export.

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
_WIDE_COLUMNS = 110  # from this width the whole table fits


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
    """A table by architecture, then each published accuracy with its protocol and source once."""
    wide = console.width >= _WIDE_COLUMNS
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("architecture", "--family"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters" if wide else "params", "GMACs"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("clip", overflow="fold")
    if wide:
        table.add_column("protocol", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [
            Text(row["architecture"], style="bold"),
            Text(row["preset"] or ""),
            f"{row['parameters']:,}" if wide else f"{row['parameters'] / 1e6:.1f}M",
            f"{row['gmacs']:.1f}",
            Text(row["clip"]),
        ]
        table.add_row(*cells, *([Text(row["protocol"] or "")] if wide else []))
    console.print(table)
    console.print("Rows without a family have no public weights; train them with `tenclip train`.", style="dim")
    published = {(r["preset"], r["protocol"], r["published"], r["source"]): None for r in rows if r["preset"]}
    console.print("\nPublished by the authors, each with its protocol:", style="dim")
    for preset, protocol, accuracy, source in published:
        name = f"  {preset}, {protocol}: " if protocol else f"  {preset}: "
        console.print(Text.assemble((name, "bold"), accuracy or "no accuracy published", (f"  ({source})", "dim")))
