"""Which video goes into which shard: arithmetic on the manifest and on the sizes of its files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenclip_data.samples import Manifest, Sample
from tenclip_data.splits import seeded_rank
from tenclip_training.data.shards.tars import stored_bytes

DEFAULT_SHARD_MB = 500
# The .json and .cls of a video, roughly.
_MEMBERS_BESIDE_BYTES = 2048


@dataclass(frozen=True, kw_only=True)
class PlannedVideo:
    """A file and the samples that are it or parts of it, all of one split. num_bytes: 0 where it cannot be read."""

    key: str
    name: str
    path: Path
    num_bytes: int
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedShard:
    """A shard that is to be written, all of one split."""

    name: str
    videos: tuple[PlannedVideo, ...]

    def digest(self, labels: Sequence[str]) -> str:
        """Identifies what the shard will hold: the same for the same videos, sizes, labels, parts and order."""
        rows = [[v.key, v.name, v.num_bytes, [_facts(s) for s in v.samples]] for v in self.videos]
        text = json.dumps([self.name, list(labels), rows], default=str, sort_keys=True)
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def plan_shards(
    manifest: Manifest,
    *,
    shard_bytes: int | None,
    videos_per_shard: int | None,
    shuffle_seed: int | None,
) -> tuple[PlannedShard, ...]:
    """Put the videos of each split into shards of at most `shard_bytes` or `videos_per_shard`; one is always put in.

    shuffle_seed: order the videos of a split by a hash of the seed and their names, which mixes classes and does not
    hang on the order of the manifest; None keeps that.
    """
    shards: list[PlannedShard] = []
    prefixes: set[str] = set()
    for split in manifest.splits:
        videos = _videos([s for s in manifest.samples if s.split == split])
        if shuffle_seed is not None:
            videos = sorted(videos, key=lambda v: seeded_rank(shuffle_seed, v.name))
        prefix = _file_name(split, prefixes)
        prefixes.add(prefix)
        keyed = [replace(video, key=f"{i:08d}") for i, video in enumerate(videos)]
        parts = _cut(keyed, shard_bytes, videos_per_shard)
        shards += [PlannedShard(name=f"{prefix}-{i:06d}.tar", videos=tuple(part)) for i, part in enumerate(parts)]
    return tuple(shards)


def _videos(samples: Sequence[Sample]) -> list[PlannedVideo]:
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.name, []).append(sample)
    return [
        PlannedVideo(key="", name=name, path=group[0].path, num_bytes=_size(group[0].path), samples=tuple(group))
        for name, group in groups.items()
    ]


def _cut(
    videos: Sequence[PlannedVideo], shard_bytes: int | None, videos_per_shard: int | None
) -> Iterator[list[PlannedVideo]]:
    part: list[PlannedVideo] = []
    used = 0
    for video in videos:
        size = stored_bytes(video.num_bytes) + _MEMBERS_BESIDE_BYTES
        full = videos_per_shard is not None and len(part) == videos_per_shard
        if part and (full or (shard_bytes is not None and used + size > shard_bytes)):
            yield part
            part, used = [], 0
        part.append(video)
        used += size
    if part:
        yield part


def _facts(sample: Sample) -> Mapping[str, Any]:
    return {**sample_values(sample), "split": sample.split}


def sample_values(sample: Sample) -> Mapping[str, Any]:
    """What the .json of a video says of a sample."""
    values: dict[str, Any] = {"labels": list(sample.labels)}
    if sample.start_seconds is not None:
        values["start_seconds"] = sample.start_seconds
    if sample.end_seconds is not None:
        values["end_seconds"] = sample.end_seconds
    if sample.extra:
        values["extra"] = dict(sample.extra)
    return values


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _file_name(split: str, taken: Collection[str]) -> str:
    """A split as the beginning of a file's name that no other split has."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in split) or "shard"
    while name in taken:
        name += "_"
    return name
