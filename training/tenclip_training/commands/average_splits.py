"""`tenclip average-splits`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_training.commands.options import Json, print_json


def average_splits(
    evaluations: Annotated[
        list[Path],
        typer.Argument(help="What tenclip evaluate --out wrote for each split: folders or JSON.", show_default=False),
    ],
    json: Json = False,
) -> None:
    """Average per-clip, top-1 and top-5 accuracy over splits (HMDB-51, UCF-101).

    Each split has the same weight. Evaluations of other classes or of another
    protocol, and two of the same videos, are refused.

    \b
    Examples:
      tenclip average-splits hmdb1/ hmdb2/ hmdb3/
      tenclip average-splits split1.json split2.json split3.json --json
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tenclip_training.evaluation.averages import FIGURES, average_evaluations

    found = average_evaluations(evaluations)
    if json:
        print_json(found.to_dict())
        return
    table = Table()
    for column in ("split", "videos", *FIGURES.values()):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in found.splits:
        table.add_row(escape(split.source), str(split.videos), *[f"{split.values[name]:.1%}" for name in FIGURES])
    spread = [found.spread[name] for name in FIGURES]
    cells = [
        f"{found.mean[name]:.1%}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")
        for name, deviation in zip(FIGURES, spread, strict=True)
    ]
    table.add_row(f"mean of {len(found.splits)}", str(sum(split.videos for split in found.splits)), *cells)
    Console().print(table)
