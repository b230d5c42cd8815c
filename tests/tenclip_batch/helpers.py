"""Running a batch in this process or as a command, and reading what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_batch.options import ClipChoices, OutputOptions, ResumeOptions, RuntimeOptions
from tenclip_batch.run import BatchJob, BatchReport, Watching, run_local
from tenclip_batch.videos import batch_videos

PROGRAM = "import sys; from tenclip_client.cli.main import main; main(sys.argv[1:])"
# One decode process and two videos at once: enough to be real, and quick to start.
SMALL = RuntimeOptions(decode_workers=1, in_flight=2, threads=1)


def run(
    bundle: Path,
    out: Path,
    *videos: Path | str,
    choices: ClipChoices = ClipChoices(),  # noqa: B008
    output: OutputOptions = OutputOptions(),  # noqa: B008
    runtime: RuntimeOptions = SMALL,
    resume: ResumeOptions = ResumeOptions(),  # noqa: B008
    watching: Watching = Watching(),  # noqa: B008
) -> BatchReport:
    """`tenclip batch` in this process."""
    found = batch_videos([str(v) for v in videos])
    job = BatchJob(bundle=bundle, out=out, videos=found, choices=choices, output=output, runtime=runtime, resume=resume)
    return run_local(job, watching)


def command(*arguments: object) -> list[str]:
    """`tenclip ARGUMENTS` of this interpreter."""
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]


def tenclip(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, whatever comes of it."""
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment, timeout=500, **options)


def rows(out: Path, table: str = "clips") -> pa.Table:
    """All rows of a dataset's table, in an order that does not depend on when they were made."""
    found = pa.concat_tables([pq.read_table(p) for p in sorted((out / table).glob("part-*.parquet"))])
    keys = [("video", "ascending"), *([("clip_index", "ascending")] if table == "clips" else [])]
    return found.sort_by(keys).replace_schema_metadata(None)


def numbers(out: Path) -> pa.Table:
    """The rows of a dataset without the names of its videos."""
    return rows(out).select(["clip_index", "start_seconds", "end_seconds", "features"])
