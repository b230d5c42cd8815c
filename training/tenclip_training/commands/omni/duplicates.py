"""`tenclip omni duplicates`: web images and videos that are near-duplicates of a target set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, LabelColumn, Videos, print_notes
from tenclip_training.commands.omni.duplicate_options import CosineOptions, FeatureOptions
from tenclip_training.commands.options import Json, print_json

if TYPE_CHECKING:
    from tenclip_training.console import Reporter
    from tenclip_training.curation.video_sets import SetVideo
    from tenclip_training.omni.cosine_duplicates import CosineReport
    from tenclip_training.omni.networks import FrameNetwork

# With fewer directions the cosine of unrelated frames is often large: by one over their root.
FEW_DIRECTIONS = 32


@with_option_groups
def duplicates(
    *,
    source: Annotated[Path, typer.Argument(help="Web images and videos: a folder, a list, a table or one file.")],
    against: Annotated[Path, typer.Option(help="What must not be in SOURCE, a test set for one; as SOURCE.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, duplicates.csv and duplicates.json.")],
    counting: CosineOptions,
    feature: FeatureOptions,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Write SOURCE without its duplicates as a manifest; it must have labels.", show_default=False
        ),
    ] = None,
    videos: Videos = None,
    label_column: LabelColumn = None,
    pictures: Annotated[int, typer.Option(min=0, help="Pairs of which the report shows frames.")] = 50,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Find web images and videos that are near-duplicates of a target set.

    Features of frames are whitened, and compared by their cosine; what is more
    alike than different crops of the same frame are on the average is suspect
    (OmniSource, section 3.3). Most of what is found are no duplicates: look at
    the report, and give what is none to the next run with --reviewed.
    Features are computed once; a run that was stopped goes on where it was.

    \b
    Examples:
      tenclip omni duplicates web-images/ --against test.csv --out report
      tenclip omni duplicates web.csv --against val.csv --fit-on train.csv --out report --kept clean.csv
      tenclip omni duplicates web.csv --against test.csv --out report --network models/resnet/1
    """
    from tenclip_training.commands.curate.duplicates import without
    from tenclip_training.console import reporting
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.reviewed import read_reviewed
    from tenclip_training.curation.video_sets import read_set
    from tenclip_training.omni.duplicate_report import report_dict, write_report
    from tenclip_training.omni.networks import open_network

    reviewed = read_reviewed(counting.reviewed) if counting.reviewed else frozenset()
    labelled = (
        read_labelled(source, videos=videos, label_column=label_column, missing="keep", images=True) if kept else None
    )
    sets = Sets(*(_read(path, read_set, videos=videos if i == 0 else None) for i, path in enumerate((source, against))))
    _refuse_same(source, against, sets)
    more = _read(counting.fit_on, read_set) if counting.fit_on else []
    network = open_network(feature.network, threads=feature.threads)
    with reporting() as reporter:
        report = _compare(network, sets, more, counting, feature, decoding, reviewed, out, reporter)
        page = write_report(
            out,
            report,
            title=f"Near-duplicates: {source} against {against}",
            source={v.name: v for v in sets.source},
            target={v.name: v for v in sets.target},
            num_pictured=pictures,
            progress=lambda done, total: reporter.update("pictures", done, total, "pairs"),
        )
    if labelled is not None and kept is not None:
        write_manifest(kept, without(labelled.samples, sets.source, set(report.duplicates)))
    if json:
        print_json({"report": str(page), "network": network.identity, **report_dict(report)})
    else:
        _print_duplicates(report, page, kept)


@dataclass(frozen=True)
class Sets:
    """The files of both sides."""

    source: list[SetVideo]
    target: list[SetVideo]


def _read(path: Path, read_set: Any, *, videos: Path | None = None) -> list[SetVideo]:
    found, notes = read_set(path, videos=videos, images=True)
    print_notes(notes)
    files: list[SetVideo] = found
    return files


def _refuse_same(source: Path, against: Path, sets: Sets) -> None:
    """Raise DatasetError where both sides are the same files: each would be found as its own duplicate."""
    from tenclip_api.errors import DatasetError
    from tenclip_training.curation.video_sets import same_files

    same = same_files(sets.source, sets.target)
    if same == len(sets.source) == len(sets.target):
        raise DatasetError(f"{source} and {against} are the same {same} files; name another target set")
    if same:
        print_notes([f"{same} of {len(sets.source)} source files are files of the target set"])


def _compare(
    network: FrameNetwork,
    sets: Sets,
    more: list[SetVideo],
    counting: CosineOptions,
    feature: FeatureOptions,
    decoding: DecodingOptions,
    reviewed: frozenset[tuple[str, str]],
    out: Path,
    reporter: Reporter,
) -> CosineReport:
    """Compute the features that are missing, and compare. Raises DatasetError where no source file can be read."""
    from dataclasses import replace

    from tenclip_api.errors import DatasetError
    from tenclip_training.omni.cosine_duplicates import Threshold, find_duplicates, find_threshold, fit_to
    from tenclip_training.omni.frame_features import FeatureStore

    folder = feature.features or out / "features"

    def update(store: FeatureStore, files: list[SetVideo], title: str) -> None:
        store.update(
            files,
            workers=decoding.num_workers(),
            timeout_seconds=decoding.timeout,
            progress=lambda done, total: reporter.update(title, done, total, "files"),
        )

    whole = FeatureStore(folder / "whole", network, rate=feature.rate)
    update(whole, [*sets.source, *sets.target, *more], "features")
    failures = whole.failures_of(sets.source)
    if len(failures) == len(sets.source):
        raise DatasetError(f"none of the {len(sets.source)} source files can be read; the first: {failures[0].message}")
    target = whole.read(sets.target)
    whitening = fit_to(target, *([whole.read(more)] if more else []), shrinkage=counting.shrinkage)
    crops = FeatureStore(folder / "crops", network, rate=feature.rate, views="crops")
    chosen = _spread(sets.target, counting.crop_files)
    update(crops, chosen, "crops")
    threshold = find_threshold(crops.read(chosen), whitening)
    if counting.threshold is not None:
        threshold = Threshold(
            value=counting.threshold, crops=threshold.crops, crop_pairs=threshold.crop_pairs, is_given=True
        )
    report = find_duplicates(
        whole.tables(sets.source),
        target,
        whitening,
        threshold,
        reviewed=reviewed,
        progress=lambda done: reporter.update("comparing", done, done, "frames"),
    )
    return replace(
        report,
        source_failures=tuple(failures),
        target_failures=tuple(whole.failures_of(sets.target)),
    )


def _spread(files: list[SetVideo], count: int) -> list[SetVideo]:
    """So many files, evenly spaced over the set."""
    step = max(1, len(files) / count)
    return [files[int(i * step)] for i in range(min(count, len(files)))]


def _about(count: float) -> str:
    return f"about {count:.3g}" if count >= 0.01 else "less than 0.01"


def _print_duplicates(report: CosineReport, page: Path, kept: Path | None) -> None:
    from rich.table import Table
    from rich.text import Text

    from tenclip_client.cli.output import output_console

    console = output_console()
    if report.pairs:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("source", "target", "cosine", "share of source", "at", ""):
            table.add_column(column, overflow="fold")
        for pair in report.pairs:
            table.add_row(
                Text(pair.source),
                Text(pair.target),
                f"{pair.similarity:.4f}",
                f"{pair.source_share:.1%}",
                f"{pair.source_seconds:.1f} s, {pair.target_seconds:.1f} s",
                "reviewed" if pair.reviewed else "",
            )
        console.print(table)
    threshold, lines = report.threshold, []
    few = report.whitening.directions < FEW_DIRECTIONS
    if threshold.crops is not None:
        lines.append(
            f"mean cosine between crops of the same frame: {threshold.crops:.4f} ({threshold.crop_pairs} pairs)"
        )
    if threshold.is_given:
        lines.append(f"threshold as given: {threshold.value:.4f}")
    lines += [
        f"whitening fitted to {report.whitening.frames} frames of {report.dimensions} features: "
        f"{report.whitening.directions} directions"
        + (", few: unrelated frames may seem alike; name more with --fit-on" if few else ""),
        f"{len(report.duplicates)} of {report.source_files} source files are suspected duplicates ({len(report.pairs)} "
        f"pairs with {report.target_files} target files); by chance {_about(report.by_chance)} of "
        f"{report.frames[0] * report.frames[1]} pairs of frames are to be expected",
    ]
    failed = len(report.source_failures), len(report.target_failures)
    if any(failed):
        lines.append(f"not readable, so not compared: {failed[0]} source files, {failed[1]} target files")
    if report.unused_reviews:
        lines.append(f"reviewed pairs that match no more: {len(report.unused_reviews)}")
    for line in [*lines, str(page), *([str(kept)] if kept else [])]:
        console.print(line, markup=False, soft_wrap=True)
