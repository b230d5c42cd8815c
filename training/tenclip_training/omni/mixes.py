"""Auxiliary sets of equal size: one of each source alone, and mixtures of all (OmniSource, figure 4).

The paper keeps the size of the auxiliary set and replaces files of one source by those of another, to see whether
several sources are better than one at the same budget. It does not say whether classes keep their numbers. Here they
do, so that sources are all that differs: of each class every set has as many files as the source with the fewest has,
and classes that a source lacks are left out. What a source gives to a mixture is a part of its own set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.samples import Sample
from tenclip_data.splits import seeded_rank
from tenclip_training.curation.budgets import capped_counts
from tenclip_training.omni.web_files import WebFiles, as_video, read_web

MIXED = "mixed"

# Of a file: what it was asked for by, or its pseudo-label; several labels are a class of their own.
_Class = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mixes:
    """sets: rows by the name of the set, equally many in each: each source, then mixtures. shares: how many of its rows
    are from each source. classes: files of each in every set. left_out: those that a source has none of. available:
    files of each source.
    """

    sets: Mapping[str, tuple[Sample, ...]]
    shares: Mapping[str, Mapping[str, int]]
    classes: Mapping[str, int]
    left_out: tuple[str, ...]
    available: Mapping[str, int]

    @property
    def size(self) -> int:
        """Files in each set."""
        return sum(self.classes.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the rows."""
        return {
            "size": self.size,
            "sets": {name: dict(shares) for name, shares in self.shares.items()},
            "classes": dict(self.classes),
            "classes_left_out": list(self.left_out),
            "available": dict(self.available),
        }


def read_sources(manifests: Sequence[Path], *, videos: Path | None = None, label_column: str | None = None) -> WebFiles:
    """The files of several manifests, each with its source, see `read_web`; what an earlier one has does not count.

    Raises DatasetError.
    """
    parts = [read_web(path, videos=videos, label_column=label_column) for path in manifests]
    rows = [pair for part in parts for pair in zip(part.samples, part.sources, strict=True)]
    once: dict[str, tuple[Sample, str]] = {}
    for sample, source in rows:
        once.setdefault(as_video(sample).key, (sample, source))
    notes = tuple(note for part in parts for note in part.notes)
    if len(once) < len(rows):
        notes += (f"{len(rows) - len(once)} files are in several manifests, and count for the first",)
    samples, sources = zip(*once.values(), strict=True)
    return WebFiles(samples=samples, sources=sources, notes=notes)


def mix_sources(
    web: WebFiles, *, ratios: Sequence[tuple[float, ...]] = (), size: int | None = None, seed: int = 0
) -> Mixes:
    """Sets of equal size from the sources of `web`.

    ratios: of the mixtures, numbers in the order of the sources; none: one mixture of equal parts. size: the most files
    that a set may have, of which rare classes stay whole. Raises DatasetError for fewer than two sources or without a
    class that all have; InvalidRequest for ratios that do not fit, and sources whose names are no names of files.
    """
    names = web.source_names
    _check(names, ratios)
    members = {name: _by_class([web.samples[i] for i in web.of_source(name)], seed) for name in names}
    every = dict.fromkeys(c for of_source in members.values() for c in of_source)
    counts = {c: min(len(members[name].get(c, ())) for name in names) for c in every}
    left_out = tuple(_written(c) for c, count in counts.items() if not count)
    counts = {c: count for c, count in counts.items() if count}
    if not counts:
        raise DatasetError(f"the sources {', '.join(names)} have no class in common, of which sets could be made")
    if size is not None:
        kept = capped_counts({_written(c): count for c, count in counts.items()}, size, seed=seed)
        counts = {c: kept[_written(c)] for c in counts if kept[_written(c)]}
    sets = {name: _set(members, counts, {name: 1.0}) for name in names}
    for ratio in ratios or [(1.0,) * len(names)]:
        label = MIXED if not ratios else f"{MIXED}-{'-'.join(f'{part:g}' for part in ratio)}"
        sets[label] = _set(members, counts, dict(zip(names, ratio, strict=True)))
    return Mixes(
        sets={name: tuple(sample for _, sample in rows) for name, rows in sets.items()},
        shares={name: dict(Counter(source for source, _ in rows)) for name, rows in sets.items()},
        classes={_written(c): count for c, count in counts.items()},
        left_out=left_out,
        available={name: len(web.of_source(name)) for name in names},
    )


def shares_of(counts: Iterable[int], ratio: Mapping[str, float]) -> list[dict[str, int]]:
    """How many files of each class to take from each source, so that all of them together are at the ratio.

    No source is ever a whole file ahead of its part of the classes so far.

    >>> shares_of([3, 3, 2], {"a": 1, "b": 1})
    [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}, {'a': 1, 'b': 1}]
    """
    whole = sum(ratio.values())
    given = dict.fromkeys(ratio, 0)
    found = []
    for count in counts:
        here = dict.fromkeys(ratio, 0)
        for _ in range(count):
            total = sum(given.values()) + 1
            name = max(ratio, key=lambda n: total * ratio[n] / whole - given[n])
            given[name] += 1
            here[name] += 1
        found.append(here)
    return found


def _set(
    members: Mapping[str, Mapping[_Class, Sequence[Sample]]], counts: Mapping[_Class, int], ratio: Mapping[str, float]
) -> list[tuple[str, Sample]]:
    shares = shares_of(counts.values(), ratio)
    return [
        (name, sample)
        for c, of_class in zip(counts, shares, strict=True)
        for name, count in of_class.items()
        for sample in members[name][c][:count]
    ]


def _by_class(samples: Sequence[Sample], seed: int) -> dict[_Class, list[Sample]]:
    """Samples of each class in a seeded order: a smaller number of them lies within a larger one."""
    found: dict[_Class, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: (seeded_rank(seed, s.key), as_video(s).key)):
        found.setdefault(sample.labels, []).append(sample)
    return dict(sorted(found.items()))


def _written(labels: _Class) -> str:
    return ";".join(labels)


def _check(names: Sequence[str], ratios: Sequence[tuple[float, ...]]) -> None:
    if len(names) < 2:
        raise DatasetError(
            f"all files are of the source {names[0]!r}: mixtures need two or more, by the column 'source' or in "
            "manifests of their own"
        )
    for name in names:
        if not re.fullmatch(r"[\w .+-]+", name) or name.startswith((".", MIXED)):
            raise InvalidRequest(
                f"the source {name!r} cannot be the name of a manifest; rename it in the column 'source'"
            )
    for ratio in ratios:
        if len(ratio) != len(names) or any(part <= 0 for part in ratio):
            raise InvalidRequest(
                f"ratio {':'.join(f'{part:g}' for part in ratio)} does not fit: it needs a number above 0 for each of "
                f"the sources {', '.join(names)}"
            )
