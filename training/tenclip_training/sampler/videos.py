"""The videos that a sampler is trained on, chosen by and judged on: whole files, whatever part of them is annotated.

Split val is halved by a hash of each video's name: by one half the best epoch is chosen, and on the other everything is
measured and calibrated that is to hold for videos that chose nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.leaks import file_facts
from tenclip_data.samples import Manifest, Sample, place
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.web_files import check_classes

Interval = tuple[float, float]
# Of videos without labels and splits, this share becomes val.
_UNLABELLED_VAL = 0.2


@dataclass(frozen=True, kw_only=True)
class SamplerVideo:
    """video: the whole file. label: its class among the teacher's; None: as the teacher says.

    action: where in it the class is shown, [start, end) in seconds; empty where nobody says.
    """

    video: SetVideo
    label: int | None
    action: tuple[Interval, ...] = ()

    @property
    def name(self) -> str:
        return self.video.name


@dataclass(frozen=True, kw_only=True)
class SamplerVideos:
    """train: learned from. select: chooses the epoch. held_out: chose nothing."""

    train: tuple[SamplerVideo, ...]
    select: tuple[SamplerVideo, ...]
    held_out: tuple[SamplerVideo, ...]

    @property
    def all(self) -> tuple[SamplerVideo, ...]:
        return (*self.train, *self.select, *self.held_out)


def labelled_videos(manifest: Manifest, classes: Sequence[str], *, val: str = "val") -> SamplerVideos:
    """The videos of splits train and `val`. classes: those of the teacher, in order.

    Rows that name the same file with the same label are one video that shows the class several times.
    Raises DatasetError for splits that are not there, labels that the teacher does not know (all by name), videos of
    several labels, images, and for a file in both splits, whichever parts of it they name: windows are of whole files.
    """
    for split in ("train", val):
        if not any(s.split == split for s in manifest.samples):
            known = ", ".join(repr(s) for s in manifest.splits if s) or "none"
            raise DatasetError(
                f"{manifest.source}: a sampler learns from split 'train' and is chosen by split {val!r}, and there is "
                f"no video in {split!r} (its splits: {known}); --val-split names another one to choose by"
            )
    samples = [s for s in manifest.samples if s.split in ("train", val)]
    for sample in samples:
        if len(sample.labels) != 1 or sample.is_image:
            what = "is an image" if sample.is_image else f"has {len(sample.labels)} labels"
            raise DatasetError(
                f"{place(manifest.source, sample)}: {what}; a sampler is trained on videos of one label each"
            )
    _require_apart(manifest.source, samples, val)
    check_classes(manifest.source, samples, classes, "The sampler's teacher must know every class")
    index = {label: i for i, label in enumerate(classes)}
    found: dict[tuple[str, int, bool], list[Sample]] = {}
    for sample in samples:
        found.setdefault((sample.name, index[sample.labels[0]], sample.split == "train"), []).append(sample)
    train: list[SamplerVideo] = []
    rest: list[SamplerVideo] = []
    for (name, label, is_train), rows in found.items():
        action = tuple(sorted({i for row in rows for i in action_of(row, manifest.source)}))
        video = SamplerVideo(video=SetVideo(name=name, path=rows[0].path), label=label, action=action)
        (train if is_train else rest).append(video)
    return _halved(train, rest)


def _require_apart(source: Path, samples: Sequence[Sample], val: str) -> None:
    facts = file_facts(samples)
    learned = {facts[s.path].identity: s for s in samples if s.split == "train"}
    both = [(learned[of], s) for s in samples if s.split == val and (of := facts[s.path].identity) in learned]
    if both:
        files = len({facts[s.path].identity for _, s in both})
        raise DatasetError(
            f"{source}: {files} files are in split 'train' and in split {val!r}, {place(source, both[0][0])} and "
            f"{place(source, both[0][1])} the first; a sampler looks at whole files, so parts of one file are not kept "
            "apart: leave it in one of the splits"
        )


def unlabelled_videos(videos: Sequence[SetVideo]) -> SamplerVideos:
    """Videos without labels or splits: a fifth of them, by a hash of the name, is val. Of names of one file, the first
    counts.
    """
    facts = file_facts(videos)
    first: dict[Hashable, SetVideo] = {}
    for v in videos:
        first.setdefault(facts[v.path].identity, v)
    made = [SamplerVideo(video=SetVideo(name=v.name, path=v.path), label=None) for v in first.values()]
    is_val = [_hash_of("val", v.name) < _UNLABELLED_VAL for v in made]
    return _halved(
        [v for v, held in zip(made, is_val, strict=True) if not held],
        [v for v, held in zip(made, is_val, strict=True) if held],
    )


def action_of(sample: Sample, source: Path) -> tuple[Interval, ...]:
    """Where a row says that its class is shown: column `intervals` ("0.5-1.2 3-3.7"), else start and end.

    Raises DatasetError for intervals that are none.
    """
    text = next((v for k, v in sample.extra.items() if k.lower() == "intervals"), None)
    if text is not None and str(text).strip():
        return tuple(_interval(part, sample, source) for part in str(text).split())
    if sample.start_seconds is None and sample.end_seconds is None:
        return ()
    return ((sample.start_seconds or 0.0, math.inf if sample.end_seconds is None else sample.end_seconds),)


def _interval(text: str, sample: Sample, source: Path) -> Interval:
    start, _, end = text.partition("-")
    try:
        found = float(start), float(end)
    except ValueError:
        found = 0.0, 0.0
    if not 0 <= found[0] < found[1]:
        raise DatasetError(f"{place(source, sample)}: interval {text!r}; write seconds, like '0.5-1.2 3-4'")
    return found


def _halved(train: Sequence[SamplerVideo], rest: Sequence[SamplerVideo]) -> SamplerVideos:
    chooses = [_hash_of("half", v.name) < 0.5 for v in rest]
    return SamplerVideos(
        train=tuple(train),
        select=tuple(v for v, c in zip(rest, chooses, strict=True) if c),
        held_out=tuple(v for v, c in zip(rest, chooses, strict=True) if not c),
    )


def _hash_of(purpose: str, name: str) -> float:
    """A number from 0 to 1 that follows from the name."""
    digest = hashlib.sha256(f"{purpose}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
