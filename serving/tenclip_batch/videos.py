"""What the command line names -> the videos to work on, each name once, in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tenclip_api.errors import DatasetError, TenclipError
from tenclip_batch.containers import (
    PARQUET_SUFFIXES,
    holds_videos,
    parquet_videos,
    tar_videos,
)
from tenclip_batch.sources import BatchVideo, RemoteShard, Uri
from tenclip_client._inputs import VideoInput, expand_inputs, folder_inputs, pattern_matches, read_manifest
from tenclip_data.braces import expand_braces
from tenclip_data.scan import TAR_ENDINGS, VIDEO_SUFFIXES, Scan, is_tar, printable_name, scan_folder


def batch_videos(
    arguments: Iterable[str], *, list_root: Path | None = None, column: str | None = None
) -> list[BatchVideo]:
    """Videos of files, folders, patterns, lists (as `tenclip features` takes them), URIs, tar shards and Parquet.

    A shard at a URL is one RemoteShard here.

    list_root: the folder that relative paths in lists start from; None: the list's own. column: of a Parquet file
    with the videos themselves. What cannot be expanded stays in its place as a video with an `error`.
    """
    first: dict[str, BatchVideo] = {}
    for argument in arguments:
        for video in _expand(argument, list_root, column):
            first.setdefault(video.name, video)
    return list(first.values())


def _expand(argument: str, list_root: Path | None, column: str | None) -> Iterator[BatchVideo]:
    if "://" in argument and not os.path.lexists(argument):
        yield from _uris(argument, column)
        return
    if "{" in argument and _is_shard_name(argument) and not os.path.lexists(argument):
        expanded = expand_braces(argument)
        if expanded != [argument]:
            for one in expanded:
                yield from _expand(one, list_root, column)
            return
    if glob.has_magic(argument) and not os.path.lexists(argument):
        matches = pattern_matches(argument)
        for match in matches:
            yield from _named(match, list_root, column)
        if not matches:
            yield from _plain(argument, list_root, column)
        return
    yield from _named(argument, list_root, column)


def _named(name: str, list_root: Path | None, column: str | None) -> Iterator[BatchVideo]:
    """Of one path. (`os.path` finds nothing where a folder on the way may not be searched; `Path` raises.)"""
    if os.path.isdir(name):
        yield from _folder(Path(name), column)
    elif os.path.isfile(name) and _is_container(Path(name), column):
        yield from _container(Path(name), column)
    else:
        yield from _plain(name, list_root, column)


def _folder(folder: Path, column: str | None) -> Iterator[BatchVideo]:
    """What cannot be listed, as an error; video files; then those in tar and Parquet files. Packed tars are errors."""
    scan = scan_folder(folder, suffixes={*VIDEO_SUFFIXES, *PARQUET_SUFFIXES, *TAR_ENDINGS})
    videos = tuple(path for path in scan.videos if path.suffix.lower() in VIDEO_SUFFIXES)
    # Other Parquet files are lists, which count where they are named.
    shards = [p for p in scan.videos if p.suffix.lower() not in VIDEO_SUFFIXES and _is_container(p, column)]
    if videos or scan.problems or not shards:
        for video in folder_inputs(folder, Scan(videos, scan.problems)):
            yield from _from_input(video, column)
    for shard in shards:
        yield from _container(shard, column)


def _is_container(path: Path, column: str | None) -> bool:
    """A tar file, or a Parquet file with a column of videos; other Parquet files are lists."""
    if is_tar(path.name):
        return True
    return path.suffix.lower() in PARQUET_SUFFIXES and holds_videos(path, column)


def _container(path: Path, column: str | None) -> Iterator[BatchVideo]:
    """Its videos; an error in its place where it cannot be read."""
    name = printable_name(path)
    count = 0
    try:
        is_parquet = path.suffix.lower() in PARQUET_SUFFIXES
        for video in parquet_videos(path, column) if is_parquet else tar_videos(path):
            count += 1
            yield video
        if not count:
            raise DatasetError(f"{name}: holds no videos")
    except TenclipError as err:
        yield BatchVideo(name, path, err)


def _plain(argument: str, list_root: Path | None, column: str | None) -> Iterator[BatchVideo]:
    for video in expand_inputs([argument], videos=list_root):
        yield from _from_input(video, column)


def _from_input(video: VideoInput, column: str | None) -> Iterator[BatchVideo]:
    """Names of lists may be URIs."""
    if "://" in video.name and isinstance(video.source, Path) and not os.path.lexists(video.source):
        yield from _uris(video.name, column)
        return
    assert isinstance(video.source, Path)
    yield BatchVideo(video.name, video.source, video.error)


def _uris(uri: str, column: str | None) -> Iterator[BatchVideo]:
    """A video, or shards, whose videos are listed later (`tenclip_batch.shards`)."""
    path, mark, query = uri.partition("?")
    if not _is_shard_name(path):
        yield BatchVideo(uri, Uri(uri))
        return
    for one in expand_braces(path):
        url = f"{one}{mark}{query}"
        yield BatchVideo(url, RemoteShard(url, column if one.lower().endswith(PARQUET_SUFFIXES) else None))


def _is_shard_name(name: str) -> bool:
    return name.lower().endswith(PARQUET_SUFFIXES) or is_tar(name)


def manifest_videos(path: Path, *, list_root: Path | None = None, column: str | None = None) -> list[BatchVideo]:
    """The videos of a list or table, whatever its suffix. Raises DatasetError that names it, FileNotFoundError."""
    return [found for video in read_manifest(path, videos=list_root) for found in _from_input(video, column)]
