"""Join a feature table to the labels of a manifest.

N clips, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, Sample
from tenclip_data.samples import place
from tenclip_features.names import path_of_name
from tenclip_features.table import FeatureTable


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClips:
    """Clips of a table with what a manifest says of their samples (videos, or parts of videos).

    features: [N,D]; samples: [N], the index of each row's sample. For each sample: names; labels, one or more;
    groups, what must never be on both sides of a split. `videos_asked` counts the rows of the manifest,
    `without_features` names those that the table does not have.
    """

    features: NDArray[np.float32]
    samples: NDArray[np.int64]
    names: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    videos_asked: int
    without_features: tuple[str, ...]

    def video_features(self) -> NDArray[np.float32]:
        """[number of samples, D]: the mean over each one's clips."""
        return mean_by_group(self.features, self.samples, len(self.names))

    def select(self, chosen: Sequence[int] | NDArray[np.int64]) -> LabelledClips:
        """Some of the samples, in their own order, with their clips."""
        wanted = np.zeros(len(self.names), bool)
        wanted[np.asarray(chosen, np.int64)] = True
        index = np.cumsum(wanted) - 1
        rows = wanted[self.samples]
        kept = np.flatnonzero(wanted)
        return LabelledClips(
            features=self.features[rows],
            samples=index[self.samples[rows]],
            names=tuple(self.names[i] for i in kept),
            labels=tuple(self.labels[i] for i in kept),
            groups=tuple(self.groups[i] for i in kept),
            videos_asked=len(kept),
            without_features=(),
        )


def mean_by_group(rows: NDArray[np.float32], groups: NDArray[np.int64], num_groups: int) -> NDArray[np.float32]:
    """Means of the rows [N,D] of each group [N]: [G,D]. Every group must have a row."""
    sums = np.zeros((num_groups, rows.shape[1]), np.float64)
    np.add.at(sums, groups, rows)
    means: NDArray[np.float32] = (sums / np.bincount(groups, minlength=num_groups)[:, None]).astype(np.float32)
    return means


def label_clips(
    table: FeatureTable, manifest: Manifest, split: str | None, *, group_column: str | None = None
) -> LabelledClips:
    """The clips of one split's videos; of all videos for None.

    Where the manifest names parts of videos, a clip belongs to the part in which its middle lies. The group of a sample
    is its video file, or what the manifest's column `group_column` says.
    Raises DatasetError when no clip of the table belongs to the split, and for a group that is missing.
    """
    samples = (manifest if split is None else manifest.split(split)).samples
    of_video = match_videos(table.videos, manifest.samples)
    rows: list[int] = []
    owners: list[int] = []
    place = {id(s): i for i, s in enumerate(samples)}
    middles = table.seconds.mean(axis=1)
    for row, video in enumerate(table.videos):
        for sample in of_video.get(video, ()):
            if id(sample) in place and contains(sample, float(middles[row])):
                rows.append(row)
                owners.append(place[id(sample)])
    if not rows:
        where = manifest.source if split is None else f"split {split!r} of {manifest.source}"
        raise DatasetError(
            f"{table.source}: none of its videos ({table.videos[0]}, ...) is in {where} ({samples[0].name}, ...)"
        )
    present, dense = np.unique(np.asarray(owners, np.int64), return_inverse=True)
    known = set(present.tolist())
    return LabelledClips(
        features=table.features[rows],
        samples=dense.astype(np.int64),
        names=tuple(samples[i].key for i in present),
        labels=tuple(samples[i].labels for i in present),
        groups=tuple(_group(manifest, samples[i], group_column) for i in present),
        videos_asked=len(samples),
        without_features=tuple(s.key for i, s in enumerate(samples) if i not in known),
    )


def match_videos(videos: Sequence[str], samples: Sequence[Sample]) -> Mapping[str, Sequence[Sample]]:
    """Which samples each video of a table is: those of the same file, else of the only file whose path ends alike.

    The table names videos as `tenclip features` was called, the manifest as seen from its own folder. A file of the
    manifest is one video: the one of the same file, else the one whose path has most of its ending in common, and
    none where several have as much.
    """
    by_file: dict[Path, list[Sample]] = {}
    by_ending: dict[str, list[Sample]] = {}
    for sample in samples:
        by_file.setdefault(sample.path.resolve(), []).append(sample)
        for ending in _endings(sample.name):
            by_ending.setdefault(ending, []).append(sample)
    claims: dict[Path, list[_Claim]] = {}
    for video in dict.fromkeys(videos):
        claim = _claim(video, by_file, by_ending)
        if claim is not None:
            claims.setdefault(claim.samples[0].path, []).append(claim)
    return {claim.video: claim.samples for of_file in claims.values() for claim in _best(of_file)}


@dataclass(frozen=True, kw_only=True)
class _Claim:
    """A video that may be some samples of one file. alike: names at the end of both paths, infinite for one file."""

    video: str
    file: Path
    samples: Sequence[Sample]
    alike: float


def _claim(video: str, by_file: Mapping[Path, list[Sample]], by_ending: Mapping[str, list[Sample]]) -> _Claim | None:
    path = path_of_name(video)
    file = path.resolve()
    samples, alike = by_file.get(file, []), math.inf
    if not samples:
        endings = _endings(str(path))
        found = next((i for i, ending in enumerate(endings) if ending in by_ending), None)
        if found is None:
            return None
        samples, alike = by_ending[endings[found]], len(endings) - found
    if len({s.path for s in samples}) > 1:
        return None
    return _Claim(video=video, file=file, samples=samples, alike=alike)


def _best(claims: Sequence[_Claim]) -> Sequence[_Claim]:
    """Those of the video that a file is, which may have several names; none where it could be several videos."""
    most = max(claim.alike for claim in claims)
    best = [claim for claim in claims if claim.alike == most]
    return best if len({claim.file for claim in best}) == 1 else []


def _group(manifest: Manifest, sample: Sample, column: str | None) -> str:
    if column is None:
        return str(sample.path.resolve())
    if column not in sample.extra:
        known = ", ".join(sample.extra) or "none beside path, label, split, start and end"
        raise DatasetError(f"{manifest.source}: no column {column!r} to group videos by; it has {known}")
    value = sample.extra[column]
    if value is None or not str(value).strip() or (isinstance(value, float) and math.isnan(value)):
        raise DatasetError(f"{place(manifest.source, sample)}: column {column!r} is empty")
    return str(value).strip()


def _endings(name: str) -> list[str]:
    """`a/b/c.mp4` -> ["a/b/c.mp4", "b/c.mp4", "c.mp4"]."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ["/".join(parts[i:]) for i in range(len(parts))]


def contains(sample: Sample, seconds: float) -> bool:
    """Whether this moment of its video is in the part that a sample marks."""
    start = sample.start_seconds or 0.0
    return start <= seconds and (sample.end_seconds is None or seconds < sample.end_seconds)
