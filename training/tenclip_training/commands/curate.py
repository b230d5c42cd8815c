"""`tenclip curate`: choosing and cleaning data."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_training.commands.options import VIDEOS, Json, KeepMissing, print_json, usage_errors

if TYPE_CHECKING:
    from tenclip_data.samples import Manifest, Missing, Sample
    from tenclip_training.curation.duplicates import DuplicateReport, DuplicateRules
    from tenclip_training.curation.subsets import Bands, Budget, Kind
    from tenclip_training.curation.video_sets import SetVideo

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

Source = Annotated[Path, typer.Argument(help="Labelled videos, in any form that tenclip train reads.")]
Videos = Annotated[
    Path | None,
    typer.Option(help="Folder that relative paths start from.", show_default="the list's", rich_help_panel=VIDEOS),
]
Labels = Annotated[
    Path | None,
    typer.Option(help="File of class names that numbers count.", show_default=False, rich_help_panel=VIDEOS),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="Column of the table to take labels from.", show_default="label", rich_help_panel=VIDEOS),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Videos decoded at once.", show_default="one a core")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds after which a video's decoder is stopped.")]
Seed = Annotated[int, typer.Option(help="The same seed chooses the same videos, and nested ones for other budgets.")]


class Kinds(enum.StrEnum):
    """What `tenclip curate subset --kind` takes."""

    RANDOM = "random"
    TAIL_PRESERVING = "tail-preserving"
    CLASSES = "classes"
    INSTANCES = "instances"
    SHORT = "short"
    LONG = "long"
    LONG_CENTER = "long-center"


@curate.command()
def subset(
    source: Source,
    out: Annotated[Path, typer.Option(help="The manifest to write, .csv or .parquet.")],
    kind: Annotated[Kinds, typer.Option(help="How videos are chosen, see above.")] = Kinds.RANDOM,
    num_videos: Annotated[int | None, typer.Option("--num-videos", min=1, help="Budget: so many videos.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget: so many minutes.")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Budget: this part of the videos; with --kind classes, of the classes.")
    ] = None,
    seed: Seed = 0,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to choose from; the others are kept whole.", show_default="train, if there are splits"
        ),
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Leave the other splits out.")] = False,
    short: Annotated[str, typer.Option(help="Seconds of short videos, from-to.")] = "1-5",
    long: Annotated[str, typer.Option(help="Seconds of long videos, from-to.")] = "55-60",
    center: Annotated[
        float, typer.Option(min=0.1, help="Seconds in the middle of a long video for long-center.")
    ] = 4.0,
    videos: Videos = None,
    labels: Labels = None,
    label_column: LabelColumn = None,
    keep_missing: KeepMissing = False,
    workers: Workers = None,
    timeout: Timeout = 600.0,
    json: Json = False,
) -> None:
    """Choose a part of a dataset, and write it as a manifest that every command reads.

    random: videos at random. tail-preserving: all videos of rare classes; of
    frequent ones equally many. classes: all videos of a part of the classes.
    instances: a part of the videos of every class. short, long, long-center:
    videos of 1-5 s, of 55-60 s, and the middle 4 s of the latter, with equally
    many videos of each class in all three.
    A larger subset of the same seed holds the smaller one.

    \b
    Examples:
      tenclip curate subset videos/manifest.csv --out half.csv --fraction 0.5
      tenclip curate subset all.csv --kind tail-preserving --num-videos 500000 --out ig-500k.csv
      tenclip curate subset all.csv --kind classes --fraction 0.1 --out classes-10.csv
      tenclip curate subset all.csv --kind short --num-videos 5000 --out short-5k.csv
    """
    from tenclip_api.errors import DatasetError
    from tenclip_training.console import reporting
    from tenclip_training.curation.durations import find_durations
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.subsets import DURATION_KINDS

    is_timed = kind.value in DURATION_KINDS
    budget = _budget(num_videos, minutes, fraction, kind)
    with usage_errors():
        bands = _bands(short, long, center)
    manifest = _said(
        read_labelled(
            source, labels=labels, videos=videos, label_column=label_column, missing="keep" if keep_missing else "error"
        )
    )
    chosen_from, others = _choose_split(manifest, split)
    seconds: dict[str, float] | None = None
    unknown: dict[str, Any] = {}
    if is_timed or minutes is not None:
        with reporting() as reporter:
            durations = find_durations(
                chosen_from,
                workers=_workers(workers),
                timeout_seconds=timeout,
                progress=lambda done, total: reporter.update("durations", done, total, "videos"),
            )
        seconds, unknown = durations.seconds, dict(durations.unknown)
        chosen_from = [s for s in chosen_from if s.key in seconds]
        if not chosen_from:
            first = next(iter(unknown.values()))
            raise DatasetError(f"{source}: of no video is the duration known; the first: {first}")
    kept = _subset(chosen_from, kind.value, budget, bands, seed, seconds)
    if kind is Kinds.CLASSES:
        others = _of_classes(others, kept)
    write_manifest(out, [*kept, *([] if only else others)])
    summary = {
        "manifest": str(out),
        "kind": kind.value,
        "seed": seed,
        "videos": len(kept),
        "of_videos": len(chosen_from) + len(unknown),
        "minutes": None if seconds is None else round(sum(_seconds(s, seconds) for s in kept) / 60, 3),
        "classes": dict(sorted(Counter(label for s in kept for label in s.labels).items())),
        "classes_without_videos": sorted(set(manifest.labels) - {label for s in kept for label in s.labels}),
        "unknown_durations": {video: err.message for video, err in unknown.items()},
        "other_splits_videos": 0 if only else len(others),
    }
    if json:
        print_json(summary)
    else:
        _print_subset(summary)


@curate.command()
def merge(
    datasets: Annotated[list[str], typer.Argument(help="NAME=MANIFEST, two or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The manifest to write, .csv or .parquet.")],
    unify: Annotated[
        bool, typer.Option("--unify", help="Make one class of equal names; case, blanks and signs do not count.")
    ] = False,
    videos: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER that relative paths of a dataset start from.")
    ] = None,
    keep_missing: KeepMissing = False,
    json: Json = False,
) -> None:
    """Merge datasets into one, with the union of their label spaces.

    Labels become NAME/label, so that classes of equal names stay two, as in
    the K+M sets of the mega-scale paper; --unify makes them one. Names that
    collide and videos that are in several datasets are reported. The classes
    are also written to OUT.labels.txt, the first dataset's first, for
    `tenclip train --labels`.

    \b
    Examples:
      tenclip curate merge K=kinetics.csv M=mit.csv --out km.csv
      tenclip curate merge K=kinetics.csv S=stair.csv --unify --out ks.parquet
    """
    from tenclip_data.atomic import write_text
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.merging import merge as merged

    folders = {name: Path(folder) for name, folder in map(_named, videos or ())}
    sources = _unique(map(_named, datasets))
    _refuse_unknown(folders, sources)
    missing: Missing = "keep" if keep_missing else "error"
    read = {
        name: _said(read_labelled(path, videos=folders.get(name), missing=missing)) for name, path in sources.items()
    }
    result = merged(read, unify=unify)
    write_manifest(out, result.samples)
    class_file = out.with_name(f"{out.name}.labels.txt")
    write_text(class_file, "".join(f"{label}\n" for label in result.labels))
    summary = {
        "manifest": str(out),
        "labels": str(class_file),
        "videos": len(result.samples),
        "classes": len(result.labels),
        "datasets": {n: {"videos": len(m.samples), "classes": len(m.labels)} for n, m in read.items()},
        "collisions": [
            {"name": name, "classes": [f"{d}/{label}" for d, label in members], "one_class": unify}
            for name, members in result.collisions.items()
        ],
        "videos_in_several": list(result.videos_twice),
        "splits_changed": list(result.splits_changed),
    }
    if json:
        print_json(summary)
    else:
        _print_merge(summary)


@curate.command()
def duplicates(
    source: Annotated[Path, typer.Argument(help="The videos to clean: a folder, a list, a table or one video.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, duplicates.csv and duplicates.json.")],
    against: Annotated[
        Path | None, typer.Option(help="The videos that must not be in SOURCE, a test set for one.", show_default=False)
    ] = None,
    within: Annotated[bool, typer.Option("--within", help="Look for duplicates among the videos of SOURCE.")] = False,
    min_share: Annotated[float, typer.Option(help="Least part of the source's frames that match.")] = 0.05,
    min_seconds: Annotated[float, typer.Option(help="Or least seconds that match in order.")] = 2.0,
    radius: Annotated[int, typer.Option(help="Bits of 64 in which codes of matching frames may differ.")] = 6,
    mirrors: Annotated[bool, typer.Option("--mirrors", help="Look for mirrored copies, too.")] = False,
    flips: Annotated[
        int, typer.Option(help="1: find codes of up to 7 differing bits for sure; 0: of 3, and faster.")
    ] = 1,
    reviewed: Annotated[
        Path | None,
        typer.Option(help="CSV with columns source and target: pairs that are no duplicates.", show_default=False),
    ] = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            help="Write SOURCE without its duplicates as a manifest; it must have labels.", show_default=False
        ),
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(help="Folder where codes are kept; runs may share it.", show_default="OUT/codes"),
    ] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Pairs of which the report shows frames.")] = 50,
    videos: Videos = None,
    against_videos: Annotated[
        Path | None,
        typer.Option(help="As --videos, for the list of --against.", show_default=False, rich_help_panel=VIDEOS),
    ] = None,
    workers: Workers = None,
    timeout: Timeout = 600.0,
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
    from dataclasses import replace

    from tenclip_training.console import reporting
    from tenclip_training.curation.code_store import CodeStore
    from tenclip_training.curation.duplicates import find_duplicates
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.report import report_dict, write_report
    from tenclip_training.curation.reviewed import read_reviewed

    rules = _rules(radius=radius, min_share=min_share, min_seconds=min_seconds, mirrors=mirrors, flips=flips)
    allowed = read_reviewed(reviewed) if reviewed else frozenset[tuple[str, str]]()
    labelled = read_labelled(source, videos=videos, missing="keep") if kept else None
    source_set, target_set = _sets(source, against, within, videos, against_videos)
    store = CodeStore(codes or out / "codes")
    title = f"Near-duplicates: {source} " + ("within" if within else f"against {against}")
    with reporting() as reporter:
        store.update(
            [*source_set, *target_set],
            workers=_workers(workers),
            timeout_seconds=timeout,
            progress=lambda done, total: reporter.update("codes", done, total, "videos"),
        )
        source_codes, source_failures = store.read(source_set)
        target_codes, target_failures = store.read(target_set)
        report = find_duplicates(
            source_codes,
            target_codes,
            rules=rules,
            reviewed=allowed,
            within=within,
            progress=lambda done, total: reporter.update("comparing", done, total, "pairs"),
        )
        report = replace(report, source_failures=tuple(source_failures), target_failures=tuple(target_failures))
        page = write_report(
            out,
            report,
            title=title,
            source={v.name: v for v in source_set},
            target={v.name: v for v in target_set},
            num_pictured=pictures,
            progress=lambda done, total: reporter.update("pictures", done, total, "pairs"),
        )
    if labelled is not None and kept is not None:
        write_manifest(kept, _without(labelled.samples, source_set, set(report.duplicates)))
    if json:
        print_json({"report": str(page), **report_dict(report)})
    else:
        _print_duplicates(report, page, kept)


@curate.command()
def scan(
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
    workers: Workers = None,
    timeout: Timeout = 600.0,
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
    import os

    from tenclip_data.scan import printable_name
    from tenclip_training.console import reporting
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.scan import scan_videos
    from tenclip_training.curation.video_sets import read_set

    labelled = read_labelled(source, videos=videos, missing="keep") if kept else None
    found, notes = read_set(source, videos=videos)
    _note(notes)
    with reporting() as reporter:
        result = scan_videos(
            found,
            out,
            workers=_workers(workers),
            whole=not quick,
            timeout_seconds=timeout,
            progress=lambda done, total: reporter.update("decoding", done, total, "videos"),
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
        _print_scan(summary, [(f.video, f.message) for f in result.findings if f.verdict == "unreadable"])


# -- what was asked for --


def _budget(num_videos: int | None, minutes: float | None, fraction: float | None, kind: Kinds) -> Budget | None:
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.curation.subsets import DURATION_KINDS, Budget

    given = (num_videos, minutes, fraction)
    if kind.value in DURATION_KINDS and all(g is None for g in given):
        return None
    if kind in (Kinds.CLASSES, Kinds.INSTANCES) and (fraction is None or num_videos or minutes):
        raise InvalidRequest(f"--kind {kind.value} takes a --fraction, and no other budget")
    if sum(g is not None for g in given) != 1:
        raise InvalidRequest("give one budget: --num-videos, --minutes or --fraction")
    return Budget(videos=num_videos, minutes=minutes, fraction=fraction)


def _bands(short: str, long: str, center: float) -> Bands:
    from tenclip_training.curation.subsets import Bands

    return Bands(short=_band("--short", short), long=_band("--long", long), center_seconds=center)


def _band(option: str, text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        band = (float(low), float(high))
    except ValueError:
        band = (1.0, 0.0)
    if not dash or not 0 <= band[0] <= band[1] < float("inf"):
        raise ValueError(f"{option} is from-to in seconds, such as 1-5, not {text!r}")
    return band


def _rules(**options: Any) -> DuplicateRules:
    from tenclip_training.curation.duplicates import DuplicateRules

    with usage_errors():
        return DuplicateRules(**options)


def _named(text: str) -> tuple[str, Path]:
    from tenclip_api.errors import InvalidRequest

    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise InvalidRequest(f"{text!r} is not NAME=PATH; a dataset is given as K=kinetics.csv")
    return name, Path(path)


def _unique(pairs: Any) -> dict[str, Path]:
    from tenclip_api.errors import InvalidRequest

    found: dict[str, Path] = {}
    for name, path in pairs:
        if name in found:
            raise InvalidRequest(f"two datasets are called {name!r}; give each a name of its own")
        found[name] = path
    return found


def _refuse_unknown(folders: dict[str, Path], sources: dict[str, Path]) -> None:
    from tenclip_api.errors import InvalidRequest

    for name in folders:
        if name not in sources:
            raise InvalidRequest(f"--videos {name}=...: no dataset is called {name!r}; there are {', '.join(sources)}")


def _workers(wanted: int | None) -> int:
    from tenclip_video.cpus import usable_cpus

    return wanted or usable_cpus()


# -- reading --


def _choose_split(manifest: Manifest, split: str | None) -> tuple[list[Sample], list[Sample]]:
    """(videos to choose from, others). Raises DatasetError for a split that is not there."""
    name = split or ("train" if "train" in manifest.splits else None)
    if name is None:
        return list(manifest.samples), []
    chosen = manifest.split(name).samples
    ids = {id(s) for s in chosen}
    return list(chosen), [s for s in manifest.samples if id(s) not in ids]


def _subset(
    samples: Sequence[Sample],
    kind: str,
    budget: Budget | None,
    bands: Bands,
    seed: int,
    seconds: dict[str, float] | None,
) -> list[Sample]:
    from tenclip_training.curation import subsets

    if kind in subsets.DURATION_KINDS:
        named: Kind = kind  # type: ignore[assignment]
        return subsets.duration_subset(samples, named, seed=seed, seconds=seconds or {}, bands=bands, budget=budget)
    assert budget is not None
    if kind == "classes":
        return subsets.class_subset(samples, budget.fraction or 0.0, seed=seed)
    if kind == "instances":
        return subsets.instance_subset(samples, budget.fraction or 0.0, seed=seed)
    choose = subsets.random_subset if kind == "random" else subsets.tail_preserving_subset
    return choose(samples, budget, seed=seed, seconds=seconds)


def _of_classes(others: Sequence[Sample], kept: Sequence[Sample]) -> list[Sample]:
    """Videos of other splits, with the labels that the chosen classes have."""
    import dataclasses

    classes = {label for s in kept for label in s.labels}
    cut = [dataclasses.replace(s, labels=tuple(label for label in s.labels if label in classes)) for s in others]
    return [s for s in cut if s.labels]


def _seconds(sample: Sample, seconds: dict[str, float]) -> float:
    if sample.start_seconds is not None and sample.end_seconds is not None:
        return sample.end_seconds - sample.start_seconds
    return seconds[sample.key]


def _sets(
    source: Path, against: Path | None, within: bool, videos: Path | None, against_videos: Path | None
) -> tuple[list[SetVideo], list[SetVideo]]:
    from tenclip_api.errors import DatasetError, InvalidRequest
    from tenclip_training.curation.video_sets import read_set, same_files

    if within == (against is not None):
        raise InvalidRequest("give either --against TARGET or --within")
    source_set, notes = read_set(source, videos=videos)
    if against is None:
        _note(notes)
        return source_set, source_set
    target_set, more = read_set(against, videos=against_videos)
    _note([*notes, *more])
    same = same_files(source_set, target_set)
    if same == len(source_set) and same == len(target_set):
        raise DatasetError(
            f"{source} and {against} are the same {same} videos, so that each would be found as its own duplicate; "
            "name another target set, or use --within to look for duplicates among them"
        )
    if same:
        _note([f"{same} of {len(source_set)} source videos are files of the target set"])
    return source_set, target_set


def _without(samples: Sequence[Sample], source: Sequence[SetVideo], duplicates: set[str]) -> list[Sample]:
    """Samples whose video (or part) is no duplicate."""
    import os

    bad = {(os.path.abspath(v.path), v.start_seconds, v.end_seconds) for v in source if v.name in duplicates}
    whole = {path for path, start, end in bad if start is None and end is None}
    return [
        s
        for s in samples
        if (os.path.abspath(s.path), s.start_seconds, s.end_seconds) not in bad and os.path.abspath(s.path) not in whole
    ]


def _said(manifest: Manifest) -> Manifest:
    _note(manifest.warnings)
    return manifest


def _note(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(line, err=True)


# -- printing --


def _print_subset(summary: dict[str, Any]) -> None:
    minutes = "" if summary["minutes"] is None else f", {summary['minutes']:.1f} minutes"
    typer.echo(
        f"{summary['videos']} of {summary['of_videos']} videos{minutes}, {len(summary['classes'])} classes "
        f"({summary['kind']}, seed {summary['seed']})"
    )
    counts = sorted(summary["classes"].values())
    if counts:
        typer.echo(f"videos a class: {counts[0]} to {counts[-1]}, median {counts[len(counts) // 2]}")
    if summary["classes_without_videos"]:
        typer.echo(f"classes without a video: {len(summary['classes_without_videos'])}")
    if summary["unknown_durations"]:
        typer.echo(f"left out, for their durations are not known: {len(summary['unknown_durations'])} videos")
    if summary["other_splits_videos"]:
        typer.echo(f"with {summary['other_splits_videos']} videos of other splits")
    typer.echo(summary["manifest"])


def _print_merge(summary: dict[str, Any]) -> None:
    for name, counts in summary["datasets"].items():
        typer.echo(f"{name}: {counts['videos']} videos, {counts['classes']} classes")
    typer.echo(f"merged: {summary['videos']} videos, {summary['classes']} classes")
    for collision in summary["collisions"]:
        made = "one class" if collision["one_class"] else "stay apart"
        typer.echo(f"  same name: {', '.join(collision['classes'])} ({made})")
    if summary["videos_in_several"]:
        typer.echo(f"videos in several datasets, each one row now: {len(summary['videos_in_several'])}")
    if summary["splits_changed"]:
        typer.echo(f"  of these in different splits, kept where they are held out: {len(summary['splits_changed'])}")
    typer.echo(f"{summary['manifest']}\n{summary['labels']}")


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


def _print_scan(summary: dict[str, Any], unreadable: Sequence[tuple[str, str]]) -> None:
    for video, message in unreadable:
        typer.echo(message if message.startswith(video) else f"{video}: {message}")
    usable = summary["videos"] - summary["unreadable"]
    typer.echo(
        f"coverage {summary['coverage']:.2%}: {usable} of {summary['videos']} videos can be used, "
        f"{summary['damaged']} of them damaged; {summary['scanned_now']} looked at now"
    )
    for reason, count in summary["reasons"].items():
        typer.echo(f"  {reason}: {count}")
    typer.echo(summary["ledger"])
