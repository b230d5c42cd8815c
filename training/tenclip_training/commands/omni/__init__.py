"""`tenclip omni`: web images and videos beside a target set. Each sub-command has a file."""

from __future__ import annotations

import typer

from tenclip_training.commands.omni.duplicates import duplicates
from tenclip_training.commands.omni.filter import filter_web
from tenclip_training.commands.omni.fit_motion import fit_motion
from tenclip_training.commands.omni.mix import mix
from tenclip_training.commands.omni.preview import preview
from tenclip_training.commands.omni.scan import scan
from tenclip_training.commands.omni.untrimmed import untrimmed

omni = typer.Typer(
    name="omni",
    help="""Learn from web images and videos beside a labelled target set (OmniSource).

    Nothing is downloaded: web data are folders, lists or tables of files, as
    `tenclip train` reads them.

    \b
    Examples:
      tenclip omni scan web-images/ --out ledger.jsonl --kept readable.csv
      tenclip omni duplicates readable.csv --against test.csv --out report --kept clean.csv
      tenclip omni filter clean.csv --teacher run/best.pt --out kept.parquet
      tenclip omni fit-motion train.csv --out motion.json
      tenclip omni mix kept.parquet others.parquet --out mixes
      tenclip omni preview web-images/run/1.jpg --motion motion.json --out clips.webp
    """,
    no_args_is_help=True,
)

omni.command()(scan)
omni.command()(duplicates)
omni.command("filter")(filter_web)
omni.command("fit-motion")(fit_motion)
omni.command()(preview)
omni.command()(untrimmed)
omni.command()(mix)
