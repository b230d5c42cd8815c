"""Shards as a manifest: what `tenclip train` and `tenclip evaluate` are given in the place of a list."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import DatasetError, InvalidRequest, VideoError, VideoNotFound
from tenclip_data.checks import check_samples
from tenclip_data.heads import SEPARATOR
from tenclip_data.labels import ClassNames, label_space, read_class_names
from tenclip_data.leaks import FileFacts, check_leaks
from tenclip_data.manifest import DEFAULT_HELD_OUT, Leaks, Manifest, Missing, read_manifest
from tenclip_data.samples import Sample
from tenclip_data.splits import stratified_split
from tenclip_training.data.shards.index import INDEX_NAME, ShardIndex, ShardRow, read_index
from tenclip_training.data.shards.places import as_path, as_url, find_index, open_file_system, shown
from tenclip_training.data.shards.samples import ShardSample
from tenclip_training.data.shards.storage import (
    DEFAULT_CACHE_GIB,
    LocalShards,
    RemoteShards,
    Retries,
    ShardStorage,
    default_cache,
    with_retries,
)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheOptions:
    """Where shards behind URLs are kept: `folder` None: in the user's cache. gib: how much of it at most."""

    folder: str | None = None
    gib: float = DEFAULT_CACHE_GIB
    retries: Retries = dataclasses.field(default_factory=Retries)


def read_videos(
    source: str | os.PathLike[str],
    *,
    labels: Sequence[str] | Path | str | None = None,
    videos: Path | str | None = None,
    label_column: str | None = None,
    heads: Sequence[str] = (),
    whole_videos: bool = False,
    missing: Missing = "error",
    held_out: float | None = DEFAULT_HELD_OUT,
    seed: int = 0,
    leaks: Leaks = "error",
    images: bool = False,
    cache: CacheOptions | None = None,
) -> Manifest:
    """Read shards by their index, or anything that `read_manifest` reads, with its options.

    source: a folder or URL with `index.parquet`, or the index itself. Raises DatasetError, InvalidRequest for options
    that shards do not have, also where a URL cannot be read.
    """
    index_place = find_index(source)
    if index_place is None:
        return read_manifest(
            as_path(source),
            labels=labels,
            videos=videos,
            label_column=label_column,
            heads=heads,
            whole_videos=whole_videos,
            missing=missing,
            held_out=held_out,
            seed=seed,
            leaks=leaks,
            images=images,
        )
    if videos is not None or label_column is not None:
        raise InvalidRequest(
            f"{shown_source(source)}: shards hold their videos and labels; give --videos and --label-column to "
            "tenclip shards write"
        )
    index, storage = open_shards(index_place, cache or CacheOptions())
    name = Path(shown_source(source))
    classes = _class_names(labels, index, heads)
    if isinstance(storage, LocalShards) and missing == "error":
        _require_files(index, storage)
    stored = [_sample(index, row, i, storage) for i, row in enumerate(index.rows, start=1)]
    digests = {sample.path: sample.sha256 for sample in stored}
    samples: Sequence[Sample] = stored
    if whole_videos:
        samples = [dataclasses.replace(s, start_seconds=None, end_seconds=None) for s in samples]
    check_samples(name, samples, {}, "keep")
    samples, space, warnings = label_space(classes, None, samples, source=name, fill=True)
    manifest = Manifest(source=name, samples=tuple(samples), labels=()).with_labels(space)
    # Not files, but contents: a copy of a video is the same video.
    facts = {path: FileFacts(digest, None) for path, digest in digests.items()}
    if not any(s.split for s in samples) and held_out is not None:
        first: dict[str, str] = {}
        same = {s.name: first.setdefault(digests[s.path], s.name) for s in samples}
        manifest = stratified_split(manifest, held_out=held_out, seed=seed, same_video=same)
    warnings += check_leaks(name, manifest.samples, facts, leaks)
    for warning in warnings:
        _log.warning("%s", warning)
    return dataclasses.replace(manifest, warnings=warnings)


def open_shards(index_place: Path | str, cache: CacheOptions) -> tuple[ShardIndex, ShardStorage]:
    """The index and where its shards lie. Raises DatasetError, also where a URL cannot be read."""
    if isinstance(index_place, Path):
        index = read_index(index_place, name=str(index_place))
        folder: Path | str = index_place.parent
    else:
        index = read_index(_fetch(index_place, cache.retries), name=shown(index_place))
        folder = index_place.rpartition("/")[0]
    if not index.rows:
        raise DatasetError(f"{shown(index_place)}: lists no videos")
    base = index.base or folder
    url = as_url(base)
    if url is None:
        return index, LocalShards(as_path(base))
    where = default_cache() if cache.folder is None else Path(cache.folder)
    return index, RemoteShards(url=url, cache=where, max_bytes=int(cache.gib * 2**30), retries=cache.retries)


def shown_source(source: str | os.PathLike[str]) -> str:
    """A source for messages."""
    return shown(as_url(source) or as_path(source))


def _fetch(url: str, retries: Retries) -> bytes:
    files, name = open_file_system(url)
    try:
        data: bytes = with_retries(lambda: files.cat_file(name), shown(url), retries)
    except VideoNotFound as err:
        raise DatasetError(f"{err.message}; a URL is read as shards with their {INDEX_NAME}") from err
    except VideoError as err:
        raise DatasetError(err.message) from err
    return data


def _class_names(labels: Sequence[str] | Path | str | None, index: ShardIndex, heads: Sequence[str]) -> ClassNames:
    own = index.labels
    if heads:
        own = tuple(label for head in heads for label in index.labels if label.startswith(f"{head}{SEPARATOR}"))
        if len(own) < len(index.labels) or any(len(row.labels) != len(heads) for row in index.rows):
            raise InvalidRequest(
                f"the shards have no heads {', '.join(heads)}; give --heads {','.join(heads)} to tenclip shards write"
            )
    if labels is None:
        return ClassNames(own)
    return read_class_names(labels) if isinstance(labels, str | Path) else ClassNames(tuple(labels))


def _require_files(index: ShardIndex, storage: LocalShards) -> None:
    gone = [shard for shard in index.shards if not storage.file_of(shard).is_file()]
    if gone:
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        raise DatasetError(
            f"{storage.place_of(gone[0])}{more}: no such shard of {len(index.shards)}; "
            "missing videos can be kept and counted instead"
        )


def _sample(index: ShardIndex, row: ShardRow, line: int, storage: ShardStorage) -> ShardSample:
    shard = index.shards[row.shard]
    return ShardSample(
        path=Path(shard.name) / f"{row.key}@{row.offset}",
        name=row.name,
        labels=row.labels,
        split=row.split,
        start_seconds=row.start_seconds,
        end_seconds=row.end_seconds,
        extra=row.extra,
        line=line,
        shard=shard,
        number=row.shard,
        offset=row.offset,
        num_bytes=row.num_bytes,
        sha256=row.sha256,
        storage=storage,
    )
