"""`tenclip curate scan`: which videos can be used."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn, Videos, print_notes
from tenclip_training.commands.options import Json, print_json


@with_option_groups
def scan(
    *,
    source: Annotated[Path, typer.Argument(help="A folder, a list, a table or one video; labels are not needed.")],
    out: Annotated[Path, typer.Option(help="The ledger: JSON lines, one a video.")],
    quick: Annotated[bool, typer.Option("--quick", help="Decode the first frame only.")] = False,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Write SOURCE without unreadable videos as a manifest; it must have labels.", show_default=False
        ),
    ] = None,
    videos: Videos = None,
    label_column: LabelColumn = None,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Find corrupt videos, and say which part of a dataset can be used.

    Every frame is decoded, in processes of their own, so a video that crashes
    or hangs its decoder costs itself only. A scan that was stopped goes on
    where it was, and a file that has changed is looked at again.

    \b
    Examples:
      tenclip curate scan videos/ --out ledger.jsonl
      tenclip curate scan all.csv --out ledger.jsonl --kept readable.csv
      tenclip curate scan videos/ --out ledger.jsonl --quick --json
    """
    run_scan(
        source, out, quick=quick, kept=kept, videos=videos, label_column=label_column, decoding=decoding, json=json
    )


def run_scan(
    source: Path,
    out: Path,
    *,
    quick: bool,
    kept: Path | None,
    videos: Path | None,
    label_column: str | None,
    decoding: DecodingOptions,
    json: bool,
    images: bool = False,
) -> None:
    """`tenclip curate scan`, and with images `tenclip omni scan`."""
    import os

    from tenclip_data.scan import printable_name
    from tenclip_training.console import reporting
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.scan import scan_videos
    from tenclip_training.curation.video_sets import read_set

    labelled = (
        read_labelled(source, videos=videos, label_column=label_column, missing="keep", images=images) if kept else None
    )
    found, notes = read_set(source, videos=videos, images=images)
    print_notes(notes)
    with reporting() as reporter:
        result = scan_videos(
            found,
            out,
            workers=decoding.num_workers(),
            whole=not quick,
            timeout_seconds=decoding.timeout,
            progress=lambda done, total: reporter.update("decoding", done, total, "files" if images else "videos"),
        )
    bad = {f.key for f in result.findings if f.verdict == "unreadable"}
    if labelled is not None and kept is not None:
        write_manifest(kept, [s for s in labelled.samples if printable_name(os.path.abspath(s.path)) not in bad])
    summary = {
        "ledger": str(out),
        "videos": len(result.findings),
        "scanned_now": result.scanned,
        **result.counts,
        "coverage": round(result.coverage, 6),
        "reasons": result.reasons,
        "whole": not quick,
    }
    if json:
        print_json(summary)
    else:
        unreadable = [(f.video, f.message) for f in result.findings if f.verdict == "unreadable"]
        _print_scan(summary, unreadable, "files" if images else "videos")


def _print_scan(summary: dict[str, Any], unreadable: Sequence[tuple[str, str]], noun: str) -> None:
    for video, message in unreadable:
        typer.echo(message if message.startswith(video) else f"{video}: {message}")
    usable = summary["videos"] - summary["unreadable"]
    typer.echo(
        f"coverage {summary['coverage']:.2%}: {usable} of {summary['videos']} {noun} can be used, "
        f"{summary['damaged']} of them damaged; {summary['scanned_now']} looked at now"
    )
    for reason, count in summary["reasons"].items():
        typer.echo(f"  {reason}: {count}")
    typer.echo(summary["ledger"])
