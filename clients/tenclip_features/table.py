"""Tables of features, as `tenclip features` writes them, joined to labels: what a probe is fitted on.

No torch here: features are made where the network runs, probes wherever there is Python.

N clips, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, Sample

COLUMNS = ("video", "clip_index", "start_seconds", "end_seconds", "features", "model", "version")


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureTable:
    """One row a clip. videos: N names, as they were given to `tenclip features`; seconds: [N,2], half open;
    features: float32 [N,D]. All rows are of one version of one model.
    """

    source: str
    videos: tuple[str, ...]
    clip_indices: NDArray[np.int64]
    seconds: NDArray[np.float64]
    features: NDArray[np.float32]
    model: str
    version: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledClips:
    """Clips of one split with what a manifest says of them.

    features: [N,D]; samples: [N], which of `names` each row belongs to; labels: one for each name. `videos_asked`
    counts the split's rows in the manifest, `without_features` lists those that the table does not have.
    """

    features: NDArray[np.float32]
    samples: NDArray[np.int64]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    videos_asked: int
    without_features: tuple[str, ...]

    def video_features(self) -> NDArray[np.float32]:
        """[number of names, D]: the mean over each one's clips."""
        return mean_by_group(self.features, self.samples, len(self.names))


def mean_by_group(rows: NDArray[np.float32], groups: NDArray[np.int64], num_groups: int) -> NDArray[np.float32]:
    """[N,D], [N] -> [G,D]; every group must have a row."""
    sums = np.zeros((num_groups, rows.shape[1]), np.float64)
    np.add.at(sums, groups, rows)
    means: NDArray[np.float32] = (sums / np.bincount(groups, minlength=num_groups)[:, None]).astype(np.float32)
    return means


def read_features(paths: Sequence[Path | str]) -> FeatureTable:
    """Read one table from one or more Parquet files.

    Raises DatasetError that names the file: absent, not Parquet, a column missing, no rows, vectors of different
    lengths or with values that are not finite, clips of different models, a clip that stands twice.
    """
    tables = [_read_table(Path(path)) for path in paths]
    if not tables:
        raise DatasetError("no table of features was given")
    first = tables[0]
    for table in tables[1:]:
        if (table.model, table.version) != (first.model, first.version):
            raise DatasetError(
                f"{table.source} is of {table.model} version {table.version}, {first.source} of {first.model} version "
                f"{first.version}; features of different models cannot be mixed"
            )
        lengths = table.features.shape[1], first.features.shape[1]
        if lengths[0] != lengths[1]:
            raise DatasetError(f"{table.source} has {lengths[0]} features a clip, {first.source} {lengths[1]}")
    joined = FeatureTable(
        source=", ".join(t.source for t in tables),
        videos=tuple(v for t in tables for v in t.videos),
        clip_indices=np.concatenate([t.clip_indices for t in tables]),
        seconds=np.concatenate([t.seconds for t in tables]),
        features=np.concatenate([t.features for t in tables]),
        model=first.model,
        version=first.version,
    )
    _check_unique(joined)
    return joined


def label_clips(table: FeatureTable, manifest: Manifest, split: str) -> LabelledClips:
    """The clips of one split's videos. Where the manifest names parts of videos, a clip belongs to the part in which
    its middle lies.

    Raises DatasetError when a video has several labels, or no clip of the table belongs to the split.
    """
    samples = manifest.split(split).samples
    for sample in samples:
        if len(sample.labels) != 1:
            raise DatasetError(
                f"{manifest.source}, line {sample.line} ({sample.name}): has labels {', '.join(sample.labels)}; "
                "a probe needs one for each video"
            )
    of_video = _match(table.videos, manifest.samples)
    rows: list[int] = []
    owners: list[int] = []
    place = {id(s): i for i, s in enumerate(samples)}
    for row, video in enumerate(table.videos):
        middle = float(table.seconds[row].mean())
        for sample in of_video.get(video, ()):
            if id(sample) in place and _contains(sample, middle):
                rows.append(row)
                owners.append(place[id(sample)])
    if not rows:
        raise DatasetError(
            f"{table.source}: none of its videos ({table.videos[0]}, ...) is in split {split!r} of {manifest.source} "
            f"({samples[0].name}, ...)"
        )
    present, dense = np.unique(np.asarray(owners, np.int64), return_inverse=True)
    return LabelledClips(
        features=table.features[rows],
        samples=dense.astype(np.int64),
        names=tuple(samples[i].key for i in present),
        labels=tuple(samples[i].labels[0] for i in present),
        videos_asked=len(samples),
        without_features=tuple(s.key for i, s in enumerate(samples) if i not in set(present.tolist())),
    )


def _read_table(path: Path) -> FeatureTable:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; `tenclip features VIDEO... --out {path}` writes one")
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    missing = [c for c in COLUMNS if c not in table.column_names]
    if missing:
        raise DatasetError(f"{path}: no column {missing[0]!r}; it has {', '.join(table.column_names)}")
    if not table.num_rows:
        raise DatasetError(f"{path}: holds no clips")
    models = {(str(m), str(v)) for m, v in zip(*(table[c].to_pylist() for c in ("model", "version")), strict=True)}
    if len(models) > 1:
        names = ", ".join(sorted(f"{m} version {v}" for m, v in models))
        raise DatasetError(f"{path}: has features of {names}; features of different models cannot be mixed")
    ((model, version),) = models
    try:
        seconds = np.stack([table[c].to_numpy() for c in ("start_seconds", "end_seconds")], axis=1).astype(np.float64)
        indices = table["clip_index"].to_numpy().astype(np.int64)
    except (ValueError, TypeError) as err:
        raise DatasetError(f"{path}: {err}") from err
    return FeatureTable(
        source=str(path),
        videos=tuple(str(v) for v in table["video"].to_pylist()),
        clip_indices=indices,
        seconds=seconds,
        features=_vectors(path, table["features"]),
        model=model,
        version=version,
    )


def _vectors(path: Path, column: pyarrow.ChunkedArray) -> NDArray[np.float32]:
    """A column of lists of equal lengths -> [N,D]."""
    kind = column.type
    if not (pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind)):
        raise DatasetError(f"{path}: column 'features' holds {kind}, not lists of numbers")
    array = column.combine_chunks()
    lengths = np.asarray(pyarrow.compute.list_value_length(array).fill_null(0))
    if not lengths[0] or np.any(lengths != lengths[0]):
        row = int(np.argmax(lengths != lengths[0])) if lengths[0] else 0
        raise DatasetError(f"{path}, row {row + 1}: {lengths[row]} features where the first row has {lengths[0]}")
    flat = np.asarray(pyarrow.compute.list_flatten(array).fill_null(np.nan), np.float32)
    vectors: NDArray[np.float32] = flat.reshape(len(lengths), -1)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DatasetError(f"{path}, row {int(np.argmin(finite)) + 1}: features that are not finite")
    return vectors


def _check_unique(table: FeatureTable) -> None:
    seen: set[tuple[str, int]] = set()
    for key in zip(table.videos, table.clip_indices.tolist(), strict=True):
        if key in seen:
            raise DatasetError(f"{table.source}: clip {key[1]} of {key[0]} stands there twice")
        seen.add(key)


def _match(videos: Sequence[str], samples: Sequence[Sample]) -> Mapping[str, Sequence[Sample]]:
    """Which samples each video of the table is: the same file, else the only one whose path ends alike.

    The table names videos as `tenclip features` was called, the manifest as seen from its own folder.
    """
    by_file: dict[Path, list[Sample]] = {}
    by_ending: dict[str, list[Sample]] = {}
    for sample in samples:
        by_file.setdefault(sample.path.resolve(), []).append(sample)
        for ending in _endings(sample.name):
            by_ending.setdefault(ending, []).append(sample)
    found: dict[str, Sequence[Sample]] = {}
    for video in dict.fromkeys(videos):
        candidates = by_file.get(Path(video).resolve(), [])
        for ending in () if candidates else _endings(video):
            candidates = by_ending.get(ending, [])
            if candidates:
                break
        if len({s.name for s in candidates}) == 1:
            found[video] = candidates
    return found


def _endings(name: str) -> list[str]:
    """`a/b/c.mp4` -> ["a/b/c.mp4", "b/c.mp4", "c.mp4"]."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return ["/".join(parts[i:]) for i in range(len(parts))]


def _contains(sample: Sample, seconds: float) -> bool:
    start = sample.start_seconds or 0.0
    return start <= seconds and (sample.end_seconds is None or seconds < sample.end_seconds)
