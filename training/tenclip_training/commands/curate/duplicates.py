"""`tenclip curate duplicates`: videos that are near-duplicates of a target set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.duplicate_options import RuleOptions, TargetOptions
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn
from tenclip_training.commands.options import Json, print_json

if TYPE_CHECKING:
    from tenclip_data.samples import Sample
    from tenclip_training.console import Reporter
    from tenclip_training.curation.code_store import CodeStore
    from tenclip_training.curation.duplicates import DuplicateReport
    from tenclip_training.curation.video_sets import SetVideo

Sets = tuple[list["SetVideo"], list["SetVideo"]]


@with_option_groups
def duplicates(
    *,
    source: Annotated[Path, typer.Argument(help="The videos to clean: a folder, a list, a table or one video.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, duplicates.csv and duplicates.json.")],
    target: TargetOptions,
    counting: RuleOptions,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Write SOURCE without its duplicates as a manifest; it must have labels.", show_default=False
        ),
    ] = None,
    label_column: LabelColumn = None,
    codes: Annotated[
        Path | None,
        typer.Option(help="Folder where codes are kept; runs may share it.", show_default="OUT/codes"),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Pairs of which the report shows frames.")] = 50,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Find videos that are near-duplicates of a target set.

    Frames at 16 a second become 64-bit census codes, which are compared by
    locality-sensitive hashing and then exactly (IG-65M, appendix A.2). Copies
    that are scaled, encoded again, trimmed, letterboxed or only a small part
    of a video are found; cropped ones mostly not, mirrored ones with --mirrors.
    Codes are computed once; a run that was stopped goes on where it was.

    \b
    Examples:
      tenclip curate duplicates web-videos/ --against ucf/test.csv --out report
      tenclip curate duplicates all.csv --against test.csv --out report --kept clean.csv
      tenclip curate duplicates all.csv --against test.csv --out report --reviewed fine.csv
      tenclip curate duplicates videos/ --within --out report
    """
    from tenclip_training.console import reporting
    from tenclip_training.curation.code_store import CodeStore
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.report import report_dict, write_report

    rules, reviewed = counting.rules(), counting.reviewed_pairs()
    labelled = read_labelled(source, videos=target.videos, label_column=label_column, missing="keep") if kept else None
    sets = source_set, target_set = target.read(source)
    store = CodeStore(codes or out / "codes")
    with reporting() as reporter:
        _update_codes(store, sets, decoding, reporter)
        report = _compare(store, sets, reporter, rules=rules, reviewed=reviewed, within=target.within)
        page = write_report(
            out,
            report,
            title=target.title(source),
            source={v.name: v for v in source_set},
            target={v.name: v for v in target_set},
            num_pictured=pictures,
            progress=lambda done, total: reporter.update("pictures", done, total, "pairs"),
        )
    if labelled is not None and kept is not None:
        write_manifest(kept, without(labelled.samples, source_set, set(report.duplicates)))
    if json:
        print_json({"report": str(page), **report_dict(report)})
    else:
        _print_duplicates(report, page, kept)


def _update_codes(store: CodeStore, sets: Sets, decoding: DecodingOptions, reporter: Reporter) -> None:
    source_set, target_set = sets
    store.update(
        [*source_set, *target_set],
        workers=decoding.num_workers(),
        timeout_seconds=decoding.timeout,
        progress=lambda done, total: reporter.update("codes", done, total, "videos"),
    )


def _compare(
    store: CodeStore,
    sets: Sets,
    reporter: Reporter,
    **settings: Any,
) -> DuplicateReport:
    """settings: the other arguments of `find_duplicates`."""
    from dataclasses import replace

    from tenclip_api.errors import DatasetError
    from tenclip_training.curation.duplicates import find_duplicates

    (source_codes, source_failures), (target_codes, target_failures) = map(store.read, sets)
    for kind, codes, failures in (("source", source_codes, source_failures), ("target", target_codes, target_failures)):
        if not len(codes):
            first = f"; the first: {failures[0].video}: {failures[0].message}" if failures else ""
            raise DatasetError(
                f"no {kind} video of {len(failures)} could be read, so there is nothing to compare{first}"
            )
    report = find_duplicates(
        source_codes,
        target_codes,
        **settings,
        progress=lambda done, total: reporter.update("comparing", done, total, "pairs"),
    )
    return replace(report, source_failures=tuple(source_failures), target_failures=tuple(target_failures))


def without(samples: Sequence[Sample], source: Sequence[SetVideo], duplicates: set[str]) -> list[Sample]:
    """Samples whose video (or part) is no duplicate."""
    import os

    bad = {(os.path.abspath(v.path), v.start_seconds, v.end_seconds) for v in source if v.name in duplicates}
    whole = {path for path, start, end in bad if start is None and end is None}
    return [
        s
        for s in samples
        if (os.path.abspath(s.path), s.start_seconds, s.end_seconds) not in bad and os.path.abspath(s.path) not in whole
    ]


def _print_duplicates(report: DuplicateReport, page: Path, kept: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from tenclip_client.cli.output import output_console

    console = output_console()
    if report.pairs:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("source", "target", "share of source", "in source", "in target", ""):
            table.add_column(column, overflow="fold", justify="right" if column.startswith("share") else "left")
        for pair in report.pairs:
            longest = pair.match.stretches[0]
            notes = [name for name in ("reviewed", "mirrored") if getattr(pair, name)]
            table.add_row(
                Text(pair.source),
                Text(pair.target),
                f"{pair.match.source_share:.1%}",
                f"{longest.source_from:.1f}-{longest.source_to:.1f} s",
                f"{longest.target_from:.1f}-{longest.target_to:.1f} s",
                ", ".join(notes),
            )
        console.print(table)
    lines = [
        f"{len(report.duplicates)} of {report.source_videos} source videos are suspected duplicates "
        f"({len(report.pairs)} pairs with {report.target_videos} target videos)",
        f"flat frames left out: {report.flat_frames[0]} of {report.frames[0]} of the source, "
        f"{report.flat_frames[1]} of {report.frames[1]} of the target",
    ]
    failed = len(report.source_failures), len(report.target_failures)
    if any(failed):
        lines.append(f"not readable, so not compared: {failed[0]} source videos, {failed[1]} target videos")
    lines += report.warnings
    if report.unused_reviews:
        lines.append(f"reviewed pairs that match no more: {len(report.unused_reviews)}")
    lines += [str(page)] + ([str(kept)] if kept else [])
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
