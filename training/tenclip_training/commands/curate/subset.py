"""`tenclip curate subset`: a part of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions, Source
from tenclip_training.commands.curate.subset_options import (
    BandOptions,
    ChoiceOptions,
    Kinds,
    LabelledOptions,
    SplitOptions,
)
from tenclip_training.commands.options import Json, print_json

if TYPE_CHECKING:
    from tenclip_data.samples import Sample
    from tenclip_training.curation.durations import Durations
    from tenclip_training.curation.subsets import Bands, Budget, Kind


@with_option_groups
def subset(
    *,
    source: Source,
    out: Annotated[Path, typer.Option(help="The manifest to write, .csv or .parquet.")],
    choice: ChoiceOptions,
    splits: SplitOptions,
    band: BandOptions,
    labelled: LabelledOptions,
    decoding: DecodingOptions,
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
    from tenclip_training.curation.manifests import write_manifest
    from tenclip_training.curation.subsets import DURATION_KINDS

    budget = choice.budget()
    bands = band.bands()
    manifest = labelled.read(source)
    chosen_from, others = splits.choose(manifest)
    durations: Durations | None = None
    if choice.kind.value in DURATION_KINDS or choice.minutes is not None:
        durations = _durations(source, chosen_from, decoding)
        chosen_from = [s for s in chosen_from if s.key in durations.seconds]
    seconds = None if durations is None else durations.seconds
    kept = _subset(chosen_from, choice.kind.value, budget, bands, choice.seed, seconds)
    if choice.kind is Kinds.CLASSES:
        others = _of_classes(others, kept)
    if splits.only:
        others = []
    write_manifest(out, [*kept, *others])
    labels = Counter(label for s in kept for label in s.labels)
    unknown = {} if durations is None else durations.unknown
    summary = {
        "manifest": str(out),
        "kind": choice.kind.value,
        "seed": choice.seed,
        "videos": len(kept),
        "of_videos": len(chosen_from) + len(unknown),
        "minutes": None if seconds is None else round(sum(_seconds(s, seconds) for s in kept) / 60, 3),
        "classes": dict(sorted(labels.items())),
        "classes_without_videos": sorted(set(manifest.labels) - set(labels)),
        "unknown_durations": {video: err.message for video, err in unknown.items()},
        "other_splits_videos": len(others),
    }
    if json:
        print_json(summary)
    else:
        _print_subset(summary)


def _durations(source: Path, samples: Sequence[Sample], decoding: DecodingOptions) -> Durations:
    """Raises DatasetError where no duration at all is known."""
    from tenclip_api.errors import DatasetError
    from tenclip_training.console import reporting
    from tenclip_training.curation.durations import find_durations

    with reporting() as reporter:
        durations = find_durations(
            samples,
            workers=decoding.num_workers(),
            timeout_seconds=decoding.timeout,
            progress=lambda done, total: reporter.update("durations", done, total, "videos"),
        )
    if not any(s.key in durations.seconds for s in samples):
        first = next(iter(durations.unknown.values()))
        raise DatasetError(f"{source}: of no video is the duration known; the first: {first}")
    return durations


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
