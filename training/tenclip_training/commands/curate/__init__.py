"""`tenclip curate`: choosing and cleaning data. Each sub-command has a file."""

from __future__ import annotations

import typer

from tenclip_training.commands.curate.duplicates import duplicates
from tenclip_training.commands.curate.merge import merge
from tenclip_training.commands.curate.scan import scan
from tenclip_training.commands.curate.subset import subset

curate = typer.Typer(
    name="curate",
    help="""Choose and clean videos: subsets, merged datasets, near-duplicates, corrupt files.

    Every sub-command reads what `tenclip train` reads, and writes manifests
    that it reads.

    \b
    Examples:
      tenclip curate scan videos/ --out ledger.jsonl
      tenclip curate duplicates web-videos/ --against test.csv --out report
      tenclip curate subset all.csv --kind tail-preserving --num-videos 5000 --out part.csv
      tenclip curate merge K=kinetics.csv M=mit.csv --out km.csv
    """,
    no_args_is_help=True,
)

for command in (subset, merge, duplicates, scan):
    curate.command()(command)
