"""The demo's videos: generated, or a user's own; what to train on, what to be judged by, and what to probe.

A probe shows that the features are good for more than the classes they were trained for, so its label set must be
another one:

    generated videos        other motions than those of the training; besides, attributes such as how fast things move
    a user's, 4 classes up  a quarter of the classes, at least 2, is kept from training altogether and probed instead
    a user's, 2 or 3        first or second half of a video: fewer classes cannot be spared
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tenclip_api.errors import DatasetError, VideoError
from tenclip_data.manifest import Manifest, Sample, read_manifest
from tenclip_demo.config import DemoConfig
from tenclip_demo.report import DataFacts
from tenclip_training.synth import generate
from tenclip_video.video import probe

Progress = Callable[[int, int], None]

HELD_OUT = 0.25
FEWEST_TO_HOLD_OUT = 4
# Columns of the generator's manifest that the training never heard of.
ATTRIBUTES = {"speed": "How fast the objects move, whichever way.", "objects": "How many objects move."}
HALVES = ("first half", "second half")


class Part(NamedTuple):
    """A video, or the seconds of it that a row of a manifest means."""

    path: Path
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, sample: Sample) -> Part:
        return cls(sample.path, sample.start_seconds, sample.end_seconds)

    @property
    def whole(self) -> bool:
        return self.start is None and self.end is None


@dataclass(frozen=True, kw_only=True)
class ProbeSet:
    """A label set to probe: a manifest with the splits "train" and `test_split`, in which no video is on both sides.

    source: the rows whose features are extracted, where those of the manifest are parts of them.
    """

    name: str
    description: str
    manifest: Manifest
    test_split: str
    source: Manifest | None = None

    @property
    def videos(self) -> tuple[Part, ...]:
        """Each video, or part of one, once."""
        rows = (self.source or self.manifest).samples
        return tuple(dict.fromkeys(Part.of(s) for s in rows if s.split in ("train", self.test_split)))


@dataclass(frozen=True, kw_only=True)
class DemoVideos:
    """manifest: what training reads, with the splits "train", `val_split` and `test_split`. untrimmed: for the page."""

    manifest: Path
    val_split: str
    test_split: str
    test: Manifest
    probes: tuple[ProbeSet, ...]
    untrimmed: tuple[Sample, ...]
    facts: DataFacts


def generated_videos(config: DemoConfig, folder: Path, progress: Progress) -> DemoVideos:
    """Make the videos in `folder`, or find those that are there. Raises DatasetError."""
    sets = {"trimmed": config.synth, "unseen": config.unseen, "untrimmed": config.untrimmed}
    counts = {name: synth.num_classes * synth.videos_per_class for name, synth in sets.items()}
    manifests: dict[str, Path] = {}
    for name, synth in sets.items():
        before = sum(counts[n] for n in manifests)

        def report(done: int, _: int, before: int = before) -> None:
            progress(before + done, sum(counts.values()))

        manifests[name] = generate(synth, folder / name, progress=report)
    trimmed = read_manifest(manifests["trimmed"])
    train, test = trimmed.split("train"), trimmed.split("test")
    return DemoVideos(
        manifest=manifests["trimmed"],
        val_split="val",
        test_split="test",
        test=test,
        probes=(_unseen_motions(manifests["unseen"]), *(_attribute(manifests["trimmed"], n) for n in ATTRIBUTES)),
        untrimmed=read_manifest(manifests["untrimmed"]).samples,
        facts=DataFacts(
            source="Generated action videos",
            description=f"{len(trimmed.labels)} classes of motion that no single frame tells apart, as video files.",
            classes=trimmed.labels,
            train_videos=len(train.samples),
            held_out_videos=len(test.samples),
        ),
    )


def _unseen_motions(path: Path) -> ProbeSet:
    manifest = read_manifest(path)
    words = f"{len(manifest.labels)} other motions, which the network was never trained on, in videos of their own."
    return ProbeSet(name="unseen motions", description=words, manifest=manifest, test_split="test")


def _attribute(path: Path, name: str) -> ProbeSet:
    # The values themselves are the classes: a number of objects is no index into a list of classes.
    with path.open(encoding="utf-8", newline="") as file:
        values = sorted({row[name] for row in csv.DictReader(file)})
    manifest = read_manifest(path, label_column=name, labels=values)
    return ProbeSet(name=name, description=ATTRIBUTES[name], manifest=manifest, test_split="test")


def users_videos(config: DemoConfig, folder: Path) -> DemoVideos:
    """Read a user's folder (it is left as it is) and write the manifest to train on into `folder`.

    Raises DatasetError when there are fewer than two classes, or one of them has a single video.
    """
    assert config.data is not None
    everything = read_manifest(config.data, held_out=HELD_OUT, seed=config.seed)
    if everything.multi_label:
        raise DatasetError(f"{config.data}: its videos have several labels each; the demo needs one for each video")
    test_split = next((s for s in ("test", "val") if s in everything.splits), "")
    if not test_split or "train" not in everything.splits:
        raise DatasetError(f"{config.data}: has splits {', '.join(everything.splits)}; the demo needs train and val")
    kept, spared = spare_classes(everything.labels)
    manifest = _only(everything, kept)
    train, test = manifest.split("train"), manifest.split(test_split)
    _check_classes(config.data, train, test)
    probed = _class_probe(_only(everything, spared), test_split) if spared else _halves_probe(manifest, test_split)
    path = folder / "manifest.parquet"
    _write_manifest(path, manifest)
    return DemoVideos(
        manifest=path,
        val_split="val" if "val" in manifest.splits else test_split,
        test_split=test_split,
        test=test,
        probes=(probed,),
        untrimmed=(),
        facts=DataFacts(
            source=str(config.data),
            description=f"Videos of {config.data.resolve().name}.",
            classes=kept,
            held_out_classes=spared,
            train_videos=len(train.samples),
            held_out_videos=len(test.samples),
        ),
    )


def spare_classes(labels: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(classes to train on, classes to keep from training for the probe), each in the order of `labels`.

    Which ones hangs on the names alone, so that a second run spares the same.
    """
    if len(labels) < FEWEST_TO_HOLD_OUT:
        return tuple(labels), ()
    ranked = sorted(labels, key=lambda name: hashlib.sha256(name.encode()).digest())
    spared = set(ranked[: max(2, len(labels) // 4)])
    return tuple(n for n in labels if n not in spared), tuple(n for n in labels if n in spared)


def _only(manifest: Manifest, labels: Sequence[str]) -> Manifest:
    samples = tuple(s for s in manifest.samples if s.labels[0] in set(labels))
    return Manifest(source=manifest.source, samples=samples, labels=tuple(labels))


def _check_classes(source: Path, train: Manifest, test: Manifest) -> None:
    if len(train.labels) < 2:
        raise DatasetError(f"{source}: has the class {train.labels[0]!r} only; a demo needs at least two")
    for part in (train, test):
        missing = set(part.labels) - {s.labels[0] for s in part.samples}
        if missing:
            raise DatasetError(
                f"{source}: class {min(missing)!r} has too few videos to train on some and hold out others; add videos"
            )


def _class_probe(manifest: Manifest, test_split: str) -> ProbeSet:
    return ProbeSet(
        name="unseen classes",
        description=f"Classes kept from training altogether: {', '.join(manifest.labels)}.",
        manifest=manifest,
        test_split=test_split,
    )


def _halves_probe(manifest: Manifest, test_split: str) -> ProbeSet:
    return ProbeSet(
        name="half of the video",
        description="Whether a clip comes from the first or the second half of its video; with fewer than "
        f"{FEWEST_TO_HOLD_OUT} classes none can be kept from training.",
        manifest=Manifest(
            source=manifest.source,
            samples=tuple(half for s in manifest.samples for half in _halves(s)),
            labels=HALVES,
        ),
        test_split=test_split,
        source=manifest,
    )


def _halves(sample: Sample) -> tuple[Sample, ...]:
    try:
        duration = probe(sample.path).duration_seconds
    except VideoError:
        return ()  # counted where it is evaluated
    start, end = sample.start_seconds or 0.0, min(sample.end_seconds or duration, duration)
    middle = (start + end) / 2
    return (
        dataclasses.replace(sample, labels=HALVES[:1], start_seconds=start, end_seconds=middle),
        dataclasses.replace(sample, labels=HALVES[1:], start_seconds=middle, end_seconds=end),
    )


def _write_manifest(path: Path, manifest: Manifest) -> None:
    """Parquet, since in CSV a class name with a semicolon would read back as two."""
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "path": str(s.path.resolve()),
            "label": list(s.labels),
            "split": s.split,
            "start_seconds": s.start_seconds,
            "end_seconds": s.end_seconds,
        }
        for s in manifest.samples
    ]
    kinds = {
        "start_seconds": pyarrow.float64(),
        "end_seconds": pyarrow.float64(),
        "label": pyarrow.list_(pyarrow.string()),
    }
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in rows[0]])
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), path)
