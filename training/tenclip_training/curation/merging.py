"""Merged datasets: the union of label spaces, as in the K+M, K+M+S and M+S sets of the mega-scale paper (4.3).

The paper concatenates label spaces: 700 classes of Kinetics and 339 of Moments in Time make 1,039. Each class is then
written as `NAME/label`, so that equal names stay two classes and every label leads back to its dataset. With `unify`,
classes whose names differ only in case, blanks and signs become one, under the name that the first dataset gives it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest, Sample

# A video that one dataset trains on and another one tests on is kept where it is held out.
_STRICTEST = ("test", "val", "train", "")


@dataclass(frozen=True, kw_only=True)
class Merged:
    """samples: with columns `source` and `source_label`. labels: the merged space, the first dataset's classes first.

    collisions: for each name that several datasets have, the dataset and the class in it. videos_twice: how many files
    are in several datasets; each is one row with all its labels. splits_changed: those of them that were in several
    splits, and are kept in the one that is held out.
    """

    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    collisions: dict[str, tuple[tuple[str, str], ...]]
    videos_twice: tuple[str, ...]
    splits_changed: tuple[str, ...]


def merge(datasets: Mapping[str, Manifest], *, unify: bool = False) -> Merged:
    """Merge datasets, given by a short name each. Raises DatasetError for fewer than two, and for names with `/`."""
    if len(datasets) < 2:
        raise DatasetError(f"a merged dataset is made of two or more; got {len(datasets)}")
    for name in datasets:
        if not re.fullmatch(r"[\w.+-]+", name):
            raise DatasetError(f"{name!r} is no name for a dataset; use letters, digits, '.', '_', '+' and '-'")
    groups = _same_names(datasets)
    new_names = _new_names(datasets, groups, unify)
    labels = tuple(dict.fromkeys(new_names[d, label] for d, m in datasets.items() for label in m.labels))
    rows: dict[tuple[object, float | None, float | None], list[Sample]] = defaultdict(list)
    for dataset, manifest in datasets.items():
        for sample in manifest.samples:
            rows[_identity(sample)].append(_renamed(sample, dataset, new_names))
    together = {key: same for key, same in rows.items() if len({s.extra["source"] for s in same}) > 1}
    samples = [s for key, same in rows.items() for s in ([_joined(same)] if key in together else same)]
    return Merged(
        samples=_all_split(samples),
        labels=labels,
        collisions={name: members for name, members in groups.items() if len({d for d, _ in members}) > 1},
        videos_twice=tuple(same[0].name for same in together.values()),
        splits_changed=tuple(same[0].name for same in together.values() if len({s.split for s in same}) > 1),
    )


def canonical(label: str) -> str:
    """A label without case, blanks and signs: names that are equal then are taken for one class.

    >>> canonical("Riding_a-bike"), canonical("riding a bike")
    ('ridingabike', 'ridingabike')
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    return re.sub(r"[\W_]+", "", text) or text


def _same_names(datasets: Mapping[str, Manifest]) -> dict[str, tuple[tuple[str, str], ...]]:
    """Canonical name -> (dataset, class) of every class that has it."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for dataset, manifest in datasets.items():
        for label in manifest.labels:
            groups[canonical(label)].append((dataset, label))
    return {name: tuple(members) for name, members in groups.items()}


def _new_names(
    datasets: Mapping[str, Manifest], groups: Mapping[str, tuple[tuple[str, str], ...]], unify: bool
) -> dict[tuple[str, str], str]:
    """(dataset, class) -> class of the merged space."""
    if not unify:
        return {(d, label): f"{d}/{label}" for d, m in datasets.items() for label in m.labels}
    names: dict[tuple[str, str], str] = {}
    for members in groups.values():
        merged: list[str] = []  # classes of the merged space under this name, the first dataset's before others
        for dataset in dict.fromkeys(d for d, _ in members):
            labels = [label for d, label in members if d == dataset]
            free = [name for name in merged if name not in labels]
            for label in labels:
                # Two classes of one dataset stay two, however alike their names.
                same = label if label in merged or not free else free.pop(0)
                names[dataset, label] = same
            merged += [name for label in labels if (name := names[dataset, label]) not in merged]
    return names


def _renamed(sample: Sample, dataset: str, names: Mapping[tuple[str, str], str]) -> Sample:
    labels = tuple(dict.fromkeys(names[dataset, label] for label in sample.labels))
    extra = {**sample.extra, "source": dataset, "source_label": ";".join(sample.labels)}
    return dataclasses.replace(sample, labels=labels, extra=extra)


def _joined(same: list[Sample]) -> Sample:
    """One row for a file that several datasets have."""
    labels = tuple(dict.fromkeys(label for s in same for label in s.labels))
    split = min((s.split for s in same), key=lambda s: _STRICTEST.index(s) if s in _STRICTEST else -1)
    extra = {name: value for s in reversed(same) for name, value in s.extra.items()}
    for column in ("source", "source_label"):
        extra[column] = ";".join(dict.fromkeys(str(s.extra[column]) for s in same))
    return dataclasses.replace(same[0], labels=labels, split=split, extra=extra)


def _all_split(samples: list[Sample]) -> tuple[Sample, ...]:
    """Videos of a dataset without splits are for training, where another dataset has splits."""
    if not any(s.split for s in samples):
        return tuple(samples)
    return tuple(s if s.split else dataclasses.replace(s, split="train") for s in samples)


def _identity(sample: Sample) -> tuple[object, float | None, float | None]:
    try:
        status = os.stat(sample.path)
        file: object = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(sample.path)
    except (OSError, ValueError):
        file = os.path.abspath(sample.path)
    return file, sample.start_seconds, sample.end_seconds
