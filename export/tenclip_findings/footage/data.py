"""Labelled videos that findings can be run on: their classes, how many there are of each, and how long they are."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Manifest, Sample
from tenclip_training.curation.budgets import ranked
from tenclip_training.curation.durations import Durations, find_durations
from tenclip_video.cpus import usable_cpus

TRAIN = "train"
TEST_SPLITS = ("test", "val")  # the first that there is
LEAST_CLASSES = 4
LEAST_OF_A_CLASS = 4  # training videos
LEAST_SOURCE = 64  # training videos of the half of the classes that is pre-trained on


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """classes: with enough videos, in alphabetical order. train, test: how many of each. test_split: its name.

    digest: of all names, labels, splits and sizes.
    """

    path: Path
    samples: Sequence[Sample]
    classes: tuple[str, ...]
    train: Mapping[str, int]
    test: Mapping[str, int]
    test_split: str
    digest: str

    def halves(self, seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(classes to pre-train on, classes of the target)."""
        order = ranked(self.classes, seed)
        middle = len(order) // 2
        return tuple(sorted(order[:middle])), tuple(sorted(order[middle:]))

    @property
    def name(self) -> str:
        """That of the file or folder, and which state of it: "videos-1a2b3c4d"."""
        words = re.sub(r"[^A-Za-z0-9_]+", "-", self.path.stem).strip("-")
        return f"{words or 'data'}-{self.digest[:8]}"

    @property
    def source_classes(self) -> int:
        """How many classes are pre-trained on."""
        return len(self.classes) // 2

    @property
    def target_classes(self) -> int:
        return len(self.classes) - self.source_classes

    @cached_property
    def least_source(self) -> int:
        """Training videos of the half of the classes with the fewest: any seed has as many to pre-train on."""
        return sum(sorted(self.train[c] for c in self.classes)[: self.source_classes])

    @cached_property
    def durations(self) -> Durations:
        """Of the training videos of these classes. Opens files whose table does not state it."""
        wanted = set(self.classes)
        chosen = [s for s in self.samples if s.split == TRAIN and wanted.issuperset(s.labels)]
        return find_durations(chosen, workers=usable_cpus())

    @cached_property
    def mean_seconds(self) -> float:
        """Of the training videos whose duration is known; 0 where none is."""
        known = self.durations.seconds.values()
        return sum(known) / len(known) if known else 0.0


def read_footage(path: Path) -> Footage:
    """A manifest or folder as `tenclip train` takes it. Where it says nothing of splits, a part of every class is held
    out, as there.

    Raises DatasetError for what cannot be read, has no labels or several a video, no training or no test videos, or too
    few classes or videos; it says how many there are and would be enough.
    """
    manifest = read_manifest(path, leaks="warn")
    unlabelled = [s for s in manifest.samples if not s.labels]
    if unlabelled:
        raise DatasetError(
            f"{path}: {len(unlabelled)} of {len(manifest.samples)} videos have no label, as {unlabelled[0].key}; "
            "findings need a label of each"
        )
    if manifest.multi_label:
        raise DatasetError(f"{path}: has videos of several labels; findings need one label of each")
    test_split = _test_split(path, manifest)
    train = Counter(s.labels[0] for s in manifest.samples if s.split == TRAIN)
    test = Counter(s.labels[0] for s in manifest.samples if s.split == test_split)
    classes = tuple(sorted(c for c in train if train[c] >= LEAST_OF_A_CLASS and test[c]))
    if len(classes) < LEAST_CLASSES:
        raise DatasetError(
            f"{path}: {len(classes)} of {len(manifest.labels)} classes have {LEAST_OF_A_CLASS} training videos and a "
            f"test video at least; findings need {LEAST_CLASSES} such classes, half to pre-train on and half as target"
        )
    found = Footage(
        path=path.resolve(), samples=manifest.samples, classes=classes, train=train, test=test,
        test_split=test_split, digest=_digest(manifest.samples),
    )  # fmt: skip
    if found.least_source < LEAST_SOURCE:
        raise DatasetError(
            f"{path}: half of the classes can have as few as {found.least_source} training videos; findings need "
            f"{LEAST_SOURCE} to pre-train on"
        )
    return found


def _test_split(path: Path, manifest: Manifest) -> str:
    splits = {s.split for s in manifest.samples}
    named = ", ".join(repr(s) for s in sorted(splits))
    if TRAIN not in splits:
        raise DatasetError(f"{path}: has no split 'train', only {named}; findings train on it")
    for name in TEST_SPLITS:
        if name in splits:
            return name
    raise DatasetError(f"{path}: has no split 'test' or 'val', only {named}; findings are judged on it")


def _digest(samples: Sequence[Sample]) -> str:
    rows = sorted([s.key, *s.labels, s.split, str(_size(s.path))] for s in samples)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:20]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
