"""What the commands of label spaces show to people."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer
from rich.markup import escape
from rich.table import Table

from tenclip_client.cli.output import output_console
from tenclip_data.wording import some_of
from tenclip_training.labels.match import MatchReport
from tenclip_training.labels.report import LabelReport
from tenclip_training.labels.subset import SubsetReport

SHOWN = 8  # labels that a summary names


def print_match(report: MatchReport) -> None:
    typer.echo(
        f"{report.videos:,} of {report.rows:,} videos have one of {report.labels:,} labels "
        f"({report.videos_with_several_labels:,} have several): {report.out}"
    )
    typer.echo(f"{report.tags_matched:,} of {report.tags:,} tags are a hashtag of a label")
    typer.echo(
        f"{report.hashtags_seen:,} of {report.hashtags:,} hashtags occur; {report.hashtags_shared:,} belong to "
        "several labels"
    )
    for count, what in (
        (report.rows_without_tags, "rows have no tags"),
        (report.repeated_rows, "rows repeat a video; its labels were united"),
        (report.missing_files or 0, f"files are gone, such as {', '.join(report.missing_examples)}"),
    ):
        if count:
            typer.echo(f"{count:,} {what}")
    if report.dropped:
        shown = some(f"{label} ({count})" for label, count in report.dropped.items())
        typer.echo(f"dropped {len(report.dropped):,} labels with fewer than {report.min_videos} videos: {shown}")
    if report.unmatched:
        typer.echo(f"no video has a hashtag of {len(report.unmatched):,} labels: {some(report.unmatched)}")
    if alone := [label for label, count in report.videos_per_label.items() if count == 1]:
        typer.echo(f"{len(alone):,} labels have one video: {some(alone)}")
    say_capped(report.capped, report.max_hashtags)


def print_report(found: LabelReport, out: Path | None) -> None:
    table = Table()
    for name in ("source", "videos", "labels", "least", "median", "most", "labels for 80%", "Gini"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for row in found.to_dict()["sources"]:
        sizes = row["videos_per_label"]
        table.add_row(
            escape(row["name"]),
            *(f"{n:,}" for n in (row["videos"], row["labels"], sizes["least"])),
            *(f"{sizes['median']:,g}", f"{sizes['most']:,}", f"{row['labels_for_80_percent']:,}", f"{row['gini']:.2f}"),
        )
    console = output_console()
    console.print(table)
    for name, overlap in zip(found.names, found.overlaps, strict=False):
        shared = overlap.overlap
        typer.echo(
            f"{name} has {shared.share_of_target:.1%} of the labels of {found.target} "
            f"({shared.shared_target_labels} of {shared.target_labels}); they are {shared.share_of_source:.1%} of its "
            f"own ({shared.shared_source_labels} of {shared.source_labels}), in {overlap.share_of_source_videos:.1%} "
            f"of its videos ({overlap.shared_videos:,})"
        )
    if out is not None:
        typer.echo(f"wrote {out}")


def print_subset(found: SubsetReport) -> None:
    typer.echo(
        f"{found.labels:,} of {found.source_labels:,} labels, {found.videos:,} videos of {found.available_videos:,} "
        f"that have one of them: {found.out}"
    )
    if found.overlapping is not None:
        typer.echo(f"{found.overlapping:,} labels mean the same as one of the target's")


def say_capped(capped: dict[str, int], max_hashtags: int | None) -> None:
    if capped:
        shown = some(f"{label} ({count:,})" for label, count in capped.items())
        typer.echo(f"{len(capped):,} labels have more than {max_hashtags} hashtags, and keep so many: {shown}")


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    return some_of(names, SHOWN)
