"""Options that the commands share which train: `tenclip train`, `grid` and `distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenclip_training.data.clip_overrides import CLIPS
from tenclip_training.runs.sections import MODEL

INTERRUPTED = 130  # exit code

Resume = Annotated[
    Path | None, typer.Option(help="Go on with the run in this folder, by its own settings.", show_default=False)
]
RecipeName = Annotated[
    str | None, typer.Option(help="Settings of a published run; `tenclip recipes` lists them.", show_default=False)
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Any setting by its name, e.g. optimizer.lr=0.1.", show_default=False
    ),
]
ColorJitter = Annotated[
    float | None,
    typer.Option(
        help="Vary brightness, contrast and saturation by this part.", show_default=False, rich_help_panel=CLIPS
    ),
]
Width = Annotated[
    int | None,
    typer.Option(help="Planes of its first layer.", show_default="the architecture's", rich_help_panel=MODEL),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what the run would do, and its learning rates; train nothing.")
]
Processes = Annotated[
    int, typer.Option(min=1, help="Of --dry-run: as so many processes would train.", show_default=True)
]
