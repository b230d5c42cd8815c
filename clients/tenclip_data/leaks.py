"""Leaks between splits: a video that is learned from and judged by.

What is found:

- the same file in two splits, under whatever names (`a.mp4`, `./a.mp4`, a link, a hard link): an error between a split
  for training and another one, a warning between two that are held out (val and test);
- parts [start, end) of one file in two splits: like the above where they overlap, else a warning;
- files of equal content in two splits: a warning. Only files of equal size are read: 16 KiB from the middle, and whole
  only where those are equal, too;
- the same file twice in one split under different names: a warning.

Split "unused" (HMDB-51) is left alone.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Leaks, Sample, place

# Splits that are judged by, not learned from: val, validation, test, test2, testing, eval, ...
_HELD_OUT = re.compile(r"(val|dev|test|eval)", re.IGNORECASE)
UNUSED_SPLIT = "unused"
_MIDDLE_BYTES = 1 << 14
_CHUNK_BYTES = 1 << 20
_THREADS = 8  # reading waits for the disk
_SHOWN = 3

_Pair = tuple[Sample, Sample]


@dataclass(frozen=True)
class FileFacts:
    """identity: equal for two names of one file. size: in bytes, None where the file is not there."""

    identity: Hashable
    size: int | None


class HasPath(Protocol):
    """A sample, or whatever else is of a file."""

    @property
    def path(self) -> Path: ...


def file_facts(samples: Iterable[HasPath]) -> dict[Path, FileFacts]:
    """Look the file of each sample up, once. A file that is not there is known by its path."""
    real_folder = functools.cache(os.path.realpath)
    return {path: _facts(path, real_folder) for path in {s.path for s in samples}}


def _facts(path: Path, real_folder: Callable[[str], str]) -> FileFacts:
    try:
        status = os.stat(path)
    except OSError:
        folder, name = os.path.split(path)
        return FileFacts(os.path.join(real_folder(folder), name), None)
    except ValueError:  # no name that a file can have
        return FileFacts(os.path.abspath(path), None)
    # Some network file systems number nothing.
    known = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
    return FileFacts(known, status.st_size)


def check_leaks(
    source: Path, samples: Sequence[Sample], facts: Mapping[Path, FileFacts], leaks: Leaks
) -> tuple[str, ...]:
    """Warn of every leak that the module's text lists; a file in training and in another split is a DatasetError.

    leaks: "warn" makes a warning of that, "allow" looks for nothing.
    """
    if leaks == "allow":
        return ()
    used = [s for s in samples if s.split != UNUSED_SPLIT]
    groups = _grouped(used, lambda s: facts[s.path].identity)
    severe: list[_Pair] = []
    mild: list[_Pair] = []
    parts: list[_Pair] = []
    twice: list[_Pair] = []
    for group in groups.values():
        for a, b in _across_splits(group):
            overlapping = _overlap(a, b)
            (
                parts if not overlapping else mild if _HELD_OUT.match(a.split) and _HELD_OUT.match(b.split) else severe
            ).append((a, b))
        twice += _listed_twice(group)
    if severe and leaks == "error":
        raise DatasetError(_message(source, severe, "is in two splits") + _FIX)
    found = [(severe + mild, "is in two splits"), (parts, "has parts in two splits, which do not overlap")]
    found.append((twice, "is listed under two names in one split, so it counts twice"))
    if len({s.split for s in used}) > 1:
        found.append((_copies(used, facts), "has a copy of equal content in another split"))
    return tuple(_message(source, pairs, what) for pairs, what in found if pairs)


def same_videos(samples: Sequence[Sample], facts: Mapping[Path, FileFacts], *, content: bool = True) -> dict[str, str]:
    """Map each name to the first name (in their order) of the same file; with `content`, of an equal file, too."""
    representative: dict[str, str] = {}
    by_name = {s.name: s for s in samples}
    of_file = _grouped([by_name[n] for n in sorted(by_name)], lambda s: facts[s.path].identity)
    firsts = [group[0] for group in of_file.values()]
    for group in of_file.values():
        representative.update((s.name, group[0].name) for s in group)
    if not content:
        return representative
    of_copy = {s.name: min(c.name for c in copies) for copies in _equal_content(firsts, facts) for s in copies}
    return {name: of_copy.get(first, first) for name, first in representative.items()}


_FIX = (
    "; take the video out of one of the splits (or allow leaks), because a result on videos that were learned from "
    "says nothing"
)


def _across_splits(group: Sequence[Sample]) -> list[_Pair]:
    """Pairs of different splits: each sample with the first one of another split that overlaps it, else the first."""
    pairs: list[_Pair] = []
    if len({s.split for s in group}) < 2:
        return pairs
    splits = _grouped(group, lambda s: s.split)
    for (_, before), (_, after) in itertools.combinations(splits.items(), 2):
        overlapping = _first_overlap(before, after)
        pairs.append(overlapping or (before[0], after[0]))
    return pairs


def _first_overlap(before: Sequence[Sample], after: Sequence[Sample]) -> _Pair | None:
    """Two samples that overlap in time, one of each; found in order of their starts, without comparing all pairs."""
    timeline = sorted([*((_start(s), 0, s) for s in before), *((_start(s), 1, s) for s in after)], key=lambda t: t[:2])
    latest: dict[int, Sample] = {}  # by side: the sample that ends last so far
    for start, side, sample in timeline:
        other = latest.get(1 - side)
        if other is not None and _end(other) > start:
            return (sample, other) if side == 0 else (other, sample)
        if side not in latest or _end(sample) > _end(latest[side]):
            latest[side] = sample
    return None


def _start(sample: Sample) -> float:
    return sample.start_seconds or 0.0


def _end(sample: Sample) -> float:
    return float("inf") if sample.end_seconds is None else sample.end_seconds


def _overlap(a: Sample, b: Sample) -> bool:
    return _start(a) < _end(b) and _start(b) < _end(a)


def _listed_twice(group: Sequence[Sample]) -> list[_Pair]:
    """Pairs of one split that are the same part of the same file under different names."""
    same = _grouped(group, lambda s: (s.split, s.start_seconds, s.end_seconds))
    return [(g[0], other) for g in same.values() for other in g[1:2] if other.name != g[0].name]


def _copies(samples: Sequence[Sample], facts: Mapping[Path, FileFacts]) -> list[_Pair]:
    firsts = list({(facts[s.path].identity, s.split): s for s in samples}.values())
    pairs = []
    for group in _equal_content(firsts, facts):
        other = next((s for s in group if s.split != group[0].split), None)
        if other is not None and facts[other.path].identity != facts[group[0].path].identity:
            pairs.append((group[0], other))
    return pairs


# -- equal content --


def _equal_content(samples: Sequence[Sample], facts: Mapping[Path, FileFacts]) -> list[list[Sample]]:
    """Groups of two or more files with equal content. Empty and missing files are in none."""
    sized = [s for s in samples if facts[s.path].size]
    groups = _repeated(_grouped(sized, lambda s: facts[s.path].size))
    return _same_digest(_same_digest(groups, _middle), _whole)


def _same_digest(groups: list[list[Sample]], digest: Callable[[Path], bytes | None]) -> list[list[Sample]]:
    """Take groups apart by the digests of their files; what is alone afterwards, or cannot be read, is left out."""
    paths = [s.path for g in groups for s in g]
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = dict(zip(paths, pool.map(digest, paths), strict=True))
    keyed = [_grouped((s for s in g if digests[s.path]), lambda s: digests[s.path]) for g in groups]
    return [again for group in keyed for again in _repeated(group)]


def _middle(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _MIDDLE_BYTES) // 2)
            return hashlib.blake2b(file.read(_MIDDLE_BYTES)).digest()
    except OSError:
        return None


def _whole(path: Path) -> bytes | None:
    digest = hashlib.blake2b()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError:
        return None
    return digest.digest()


def _grouped(samples: Iterable[Sample], key: Callable[[Sample], Hashable]) -> dict[Hashable, list[Sample]]:
    groups: dict[Hashable, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key(sample), []).append(sample)
    return groups


def _repeated(groups: Mapping[Hashable, list[Sample]]) -> list[list[Sample]]:
    return [g for g in groups.values() if len(g) > 1]


def _message(source: Path, pairs: Sequence[_Pair], what: str) -> str:
    shown = "; ".join(f"{_named(source, x)} and {_named(source, y)}" for x, y in pairs[:_SHOWN])
    more = f"; and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return f"{source}: the same video {what}: {shown}{more}"


def _named(source: Path, sample: Sample) -> str:
    """The row of a list with its split; in a folder, the name of the file."""
    named = place(source, sample) if sample.line else sample.name
    part = sample.key[len(sample.name) :]
    return f"{named}{part} in {sample.split!r}"
