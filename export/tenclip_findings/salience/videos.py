"""The videos of one seed: generated, and read with what is known about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenclip_data.manifest import Manifest, Sample, read_manifest
from tenclip_findings.salience.config import SeedConfig
from tenclip_training.synth import generate

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TrueVideo:
    """A video with its class as an index, and the interval of its action in seconds; None: all of it."""

    path: Path
    label: int
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The sets that arms are judged on, by name; and the manifests that training reads."""

    trimmed: Path
    untrimmed: Path
    labels: tuple[str, ...]
    judged: dict[str, tuple[TrueVideo, ...]]


def make_videos(config: SeedConfig, folder: Path, progress: Progress) -> Sets:
    """Make the videos below `folder`, or find those that are there. Raises DatasetError."""
    counts = {name: synth.num_classes * synth.videos_per_class for name, synth in config.synth.items()}
    manifests: dict[str, Path] = {}
    for name, synth in config.synth.items():
        before = sum(counts[n] for n in manifests)

        def report(done: int, _: int, before: int = before) -> None:
            progress(before + done, sum(counts.values()))

        manifests[name] = generate(synth, folder / name, progress=report)
    read = {name: read_manifest(path, labels=config.classes, leaks="allow") for name, path in manifests.items()}
    return Sets(
        trimmed=manifests["trimmed"],
        untrimmed=manifests["untrimmed"],
        labels=config.classes,
        judged={
            "calibration": _true_videos(read["untrimmed"].split("calibration")),
            "test": _true_videos(read["untrimmed"].split("test")),
            "trimmed": _true_videos(read["trimmed_test"]),
            "elsewhere": _true_videos(read["elsewhere"]),
        },
    )


def _true_videos(manifest: Manifest) -> tuple[TrueVideo, ...]:
    return tuple(_true_video(manifest, sample) for sample in manifest.samples)


def _true_video(manifest: Manifest, sample: Sample) -> TrueVideo:
    start, end = sample.start_seconds, sample.end_seconds
    return TrueVideo(
        path=sample.path,
        label=manifest.targets(sample)[0],
        interval=None if start is None or end is None else (start, end),
    )
