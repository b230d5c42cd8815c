"""`tenclip features`."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.options import (
    OUTPUT,
    VIDEO_ARGUMENT,
    ClipOptions,
    Concurrency,
    ConnectionOptions,
    Json,
    ListRoot,
    ReportPath,
    ServerPaths,
    TimeoutSeconds,
)
from tenclip_client.cli.output import output_console, print_json
from tenclip_client.cli.reports import NUM_PICTURES, reported
from tenclip_client.cli.signals import resumable
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_client._extraction import EarlierRows, ExtractionReport
    from tenclip_client._types import ModelInfo
    from tenclip_client.report.writer import Report

_EARLIER = "Rows of an earlier run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierRowsOptions:
    """How the rows of an earlier run are treated."""

    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Also the videos that failed in an earlier run.", rich_help_panel=_EARLIER),
    ] = False
    by_content: Annotated[
        bool,
        typer.Option(
            "--by-content",
            help="Tell changed videos by their SHA-256 as well, not only by size and time of change.",
            rich_help_panel=_EARLIER,
        ),
    ] = False
    trust_unstamped: Annotated[
        bool,
        typer.Option(
            "--trust-unstamped",
            help="Keep the rows of a file that says nothing of its videos' state.",
            rich_help_panel=_EARLIER,
        ),
    ] = False
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Drop the rows of videos that are gone or not named any more.", rich_help_panel=_EARLIER
        ),
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again, whatever is there.", rich_help_panel=_EARLIER)
    ] = False

    def earlier_rows(self) -> EarlierRows:
        from tenclip_client._extraction import EarlierRows

        return EarlierRows(by_content=self.by_content, trust_unstamped=self.trust_unstamped, prune=self.prune)


@with_option_groups
def features(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="F.parquet", help="The file to write.", rich_help_panel=OUTPUT)
    ],
    videos: Annotated[list[str] | None, VIDEO_ARGUMENT] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Take the videos from a list or table as training reads it, or a text file of one path a line."
        ),
    ] = None,
    list_root: ListRoot = None,
    connection: ConnectionOptions,
    clip_options: ClipOptions,
    server_path: ServerPaths = False,
    timeout: TimeoutSeconds = 600.0,
    concurrency: Concurrency = 4,
    earlier: EarlierRowsOptions,
    as_json: Json = False,
    report: ReportPath = None,
) -> None:
    """Extract features of many videos into one Parquet file.

    One row a clip: video, clip_index, start_seconds, end_seconds, features, model, version, and the size and time of
    change of the video's file (video_bytes, video_mtime_ns; with --by-content video_sha256).
    Stopped at any moment, the same command goes on where it was and ends with the same file. Until every video is
    done, the state is in F.parquet.partial/. Videos that fail are listed at the end, and the exit code is then 3.
    A finished file is brought up to date: videos that are new or have changed are extracted; rows of videos that are
    gone or not named any more are kept and said. Paths on the server and URIs are not looked at again.

    --report shows the videos that are extracted now, with pictures and the similarity of their clips; of earlier runs,
    a folder keeps the pages.

    Examples:

    \b
      tenclip features clips/ --out clips.parquet
      tenclip features --manifest train.csv --out train.parquet --concurrency 16
      tenclip features --manifest trainlist01.txt --videos UCF-101/ --out ucf.parquet
      tenclip features clips/ --out clips.parquet --retry-failed
      tenclip features archery.avi --out archery.parquet --report archery.html
    """
    from tenclip_client._inputs import expand_inputs, read_manifest

    if (manifest is None) == (not videos):
        raise typer.BadParameter("name videos (files, folders, patterns) or a --manifest: one of the two")
    if list_root is not None and server_path:
        raise typer.BadParameter("--videos is a folder on this machine; with --server-path, lists name whole paths")
    if manifest is None:
        inputs = expand_inputs(videos or (), server_paths=server_path, videos=list_root)
    else:
        inputs = read_manifest(manifest, server_paths=server_path, videos=list_root)
    settings, choice = connection.client_settings(timeout), clip_options.choice()
    pages = reported(report, [v.name for v in inputs], "Features of", settings, choice.model)
    with resumable(overwrite=earlier.overwrite), pages as written:
        extracted = asyncio.run(
            _extract_all(
                settings,
                written,
                videos=inputs,
                out=out,
                choice=choice,
                concurrency=concurrency,
                retry_failed=earlier.retry_failed,
                overwrite=earlier.overwrite,
                earlier=earlier.earlier_rows(),
            )
        )
    _print_report(extracted, as_json)
    if extracted.failures:
        raise typer.Exit(SOME_FAILED)


async def _extract_all(settings: dict[str, Any], pages: Report | None, **arguments: Any) -> ExtractionReport:
    from tenclip_client import AsyncClient
    from tenclip_client._extract import extract_to_parquet
    from tenclip_client.cli.progress import bar_progress, line_progress

    shown = bar_progress if sys.stderr.isatty() else line_progress
    async with AsyncClient(**settings) as client:
        with shown() as progress:
            progress = dataclasses.replace(progress, on_model=_print_variant)
            if pages is not None:
                progress = dataclasses.replace(progress, on_result=pages.add)
                arguments["pictures"] = NUM_PICTURES
            return await extract_to_parquet(client, **arguments, progress=progress)


def _print_variant(model: ModelInfo) -> None:
    """Which variant of its bundle the server runs, where it says so, and the faster one that is there."""
    from tenclip_features.variants import variant_note

    if model.variant:
        note = variant_note(model.bundle, model.variant, model.runtime, how="`tenclip serve --variant NAME` takes it")
        typer.echo(f"{model.ref}, {note}", err=True)


def _print_report(report: ExtractionReport, as_json: bool) -> None:
    from tenclip_client.cli.render import print_extraction

    if as_json:
        failures = [vars(f) for f in report.failures]
        print_json({**vars(report), "out": str(report.out), "failures": failures})
    else:
        print_extraction(output_console(), report)
