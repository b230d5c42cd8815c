"""`tenclip batch features` and `tenclip batch predict`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tenclip_batch.command_options import (
    VIDEOS,
    BatchClipOptions,
    BundleFolder,
    EarlierOptions,
    EngineOptions,
    InputOptions,
    Out,
    PartOptions,
    ProcessOptions,
)
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.options import OUTPUT
from tenclip_client.cli.signals import resumable
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_batch.options import OutputOptions

batch = typer.Typer(
    name="batch",
    help="""Features or predictions of very many videos, without a server.

    The bundle runs in this process, or in actors of Ray on many machines. The
    result is a folder of Parquet files. Stopped at any moment, the same command
    goes on where it was.

    \b
    Examples:
      tenclip batch features videos/ --bundle models/moves/1 --out features
      tenclip batch predict --manifest test.csv --bundle models/moves/1 --out predictions
      tenclip batch features shards/ --bundle models/moves/1 --out features --engine ray
    """,
    no_args_is_help=True,
)


@batch.command()
@with_option_groups
def features(
    *,
    bundle: BundleFolder,
    out: Out,
    videos: Annotated[list[str] | None, VIDEOS] = None,
    format: Annotated[
        Literal["parquet", "npy", "npz"],
        typer.Option(help="A table of all clips, or a NumPy file a video.", rich_help_panel=OUTPUT),
    ] = "parquet",
    input_options: InputOptions,
    clips: BatchClipOptions,
    process: ProcessOptions,
    engine: EngineOptions,
    earlier: EarlierOptions,
    parts: PartOptions,
) -> None:
    """Extract features of many videos into a folder of Parquet files.

    clips/ has a row a clip, with the columns of `tenclip features`; videos/ a
    row a video: done or failed, why, and what the file is. The numbers are
    those of a server with this bundle, to the bit. Stopped at any moment, the
    same command goes on: videos that are done stay, those that have changed
    are worked on anew. Exit code 3 when all is done but some
    videos failed.

    --format npy and npz write files/NAME.npy (float32, clips x features) in
    place of clips/.

    \b
    Examples:
      tenclip batch features videos/ --bundle models/moves/1 --out features
      tenclip batch features list.txt --bundle models/moves/1 --out features --window 64 --step 16
      tenclip batch features videos/ --bundle models/moves/1 --out npy --format npy --fps 25 --show
      tenclip batch features s3://bucket/a.mp4 shards/ rows.parquet --bundle models/moves/1 --out features
      tenclip batch features "s3://bucket/train-{000000..000127}.tar" --bundle models/moves/1 --out features
      tenclip batch features videos/ --bundle models/moves/1 --out features --engine ray --actors 8
      tenclip batch features videos/ --bundle models/moves/1 --out features --engine ray --actors 1 --decode-actors 4
    """
    from tenclip_batch.options import OutputOptions

    output = OutputOptions(format=format, part_clips=parts.part_clips, part_seconds=parts.part_seconds)
    _run(bundle, out, videos, output, input_options, clips, process, engine, earlier, parts)


@batch.command()
@with_option_groups
def predict(
    *,
    bundle: BundleFolder,
    out: Out,
    videos: Annotated[list[str] | None, VIDEOS] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Classes that are named.", rich_help_panel=OUTPUT)] = 5,
    per_clip: Annotated[
        bool, typer.Option("--per-clip", help="Also the scores of each clip, in clips/.", rich_help_panel=OUTPUT)
    ] = False,
    input_options: InputOptions,
    clips: BatchClipOptions,
    process: ProcessOptions,
    engine: EngineOptions,
    earlier: EarlierOptions,
    parts: PartOptions,
) -> None:
    """Predict the actions in many videos, into a folder of Parquet files.

    videos/ has a row a video: its best classes (top_labels, top_scores), the
    scores of all classes, and what the file is; --per-clip adds clips/ with a
    row a clip. Stopped at any moment, the same command goes on. Exit code 3
    when all is done but some videos failed.

    \b
    Examples:
      tenclip batch predict videos/ --bundle models/moves/1 --out predictions
      tenclip batch predict --manifest test.csv --bundle models/moves/1 --out predictions --top-k 3 --per-clip
      tenclip batch predict videos/ --bundle models/moves/1 --out predictions --show --json
    """
    from tenclip_batch.options import OutputOptions

    output = OutputOptions(
        task="predict",
        top_k=top_k,
        per_clip=per_clip,
        part_clips=parts.part_clips,
        part_seconds=parts.part_seconds,
    )
    _run(bundle, out, videos, output, input_options, clips, process, engine, earlier, parts)


def _run(
    bundle: BundleFolder,
    out: Out,
    videos: list[str] | None,
    output: OutputOptions,
    inputs: InputOptions,
    clips: BatchClipOptions,
    process: ProcessOptions,
    engine: EngineOptions,
    earlier: EarlierOptions,
    parts: PartOptions,
) -> None:
    from tenclip_batch.console import print_report, watching
    from tenclip_batch.run import BatchJob, run_local

    choices = clips.choices()
    job = BatchJob(
        bundle=bundle,
        out=out,
        videos=inputs.batch_videos(videos),
        choices=choices,
        output=output,
        runtime=process.runtime_options(),
        resume=earlier.resume(),
    )
    shown = sys.stderr.isatty()
    with (
        resumable(overwrite=job.resume.overwrite),
        watching(show=parts.show, as_json=parts.as_json, bars=shown) as watched,
    ):
        if engine.engine == "ray":
            from tenclip_batch.ray_engine import run_ray

            report = run_ray(job, engine.ray_options(), watched)
        else:
            report = run_local(job, watched)
    print_report(report, as_json=parts.as_json)
    if report.failed:
        raise typer.Exit(SOME_FAILED)
