"""What the command line names -> the videos to work on, each name once, in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_batch.containers import TAR_SUFFIX, bytes_column, is_compressed_tar, parquet_videos, tar_videos
from tenclip_batch.sources import BatchVideo, RemoteShard, Uri
from tenclip_client._inputs import VideoInput, expand_inputs, read_manifest
from tenclip_data.braces import expand_braces
from tenclip_data.scan import printable_name, scan_folder

_PARQUET = (".parquet", ".pq")


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
    path = Path(argument)
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
        for match in sorted(glob.glob(argument, recursive=True), key=os.fsencode) or [argument]:
            if not glob.has_magic(match) and _is_container(Path(match)):
                yield from _container(Path(match), column)
            else:
                yield from _plain(match, list_root, column)
        return
    if path.is_dir():
        shards = scan_folder(path, suffixes={TAR_SUFFIX}).videos
        if shards:
            videos = scan_folder(path).videos
            yield from (BatchVideo(printable_name(v), v) for v in videos)
            for shard in shards:
                yield from _container(shard, column)
            return
    if path.is_file() and _is_container(path):
        yield from _container(path, column)
        return
    yield from _plain(argument, list_root, column)


def _is_container(path: Path) -> bool:
    """A tar file, or a Parquet file with a column of bytes; other Parquet files are lists."""
    if path.suffix.lower() == TAR_SUFFIX or is_compressed_tar(path.name):
        return True
    return path.suffix.lower() in _PARQUET and _bytes_column(path) is not None


def _bytes_column(path: Path) -> str | None:
    try:
        return bytes_column(path)
    except DatasetError:
        return ""  # said again where it is read


def _container(path: Path, column: str | None) -> Iterator[BatchVideo]:
    """Its videos; an error in its place where it cannot be read."""
    name = printable_name(path)
    count = 0
    try:
        if path.suffix.lower() in _PARQUET:
            found = parquet_videos(path, bytes_column(path, column) or "")
        else:
            found = tar_videos(path)
        for video in found:
            count += 1
            yield video
        if not count:
            raise DatasetError(f"{name}: holds no videos")
    except DatasetError as err:
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
        yield BatchVideo(url, RemoteShard(url, column if one.lower().endswith(_PARQUET) else None))


def _is_shard_name(name: str) -> bool:
    return name.lower().endswith((TAR_SUFFIX, *_PARQUET)) or is_compressed_tar(name)


def manifest_videos(path: Path, *, list_root: Path | None = None, column: str | None = None) -> list[BatchVideo]:
    """The videos of a list or table, whatever its suffix. Raises DatasetError that names it, FileNotFoundError."""
    return [found for video in read_manifest(path, videos=list_root) for found in _from_input(video, column)]
