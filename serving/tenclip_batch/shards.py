"""The videos in shards at URLs: tar files and Parquet files that are listed when a run begins.

A listing is kept in the dataset, with the state that the shard had (size, ETag, time of change). A later run asks for
that state alone: where it is the same, rows that are there are of this shard, and nothing else of it is fetched again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tenclip_api.errors import DatasetError, InvalidRequest, TenclipError, VideoNotFound
from tenclip_api.uris import without_secrets
from tenclip_batch.containers import PARQUET_SUFFIXES, parquet_cells, tar_members
from tenclip_batch.ledger import LedgerEntry
from tenclip_batch.remote import BlockReader, RemoteFile, RemoteFiles
from tenclip_batch.sources import BatchVideo, RemoteCell, RemoteMember, RemoteShard
from tenclip_data.atomic import write_text
from tenclip_data.scan import is_packed_tar
from tenclip_serving.intake.parts import FileStamp

# Shards that are listed at once.
_CONCURRENCY = 4
# Headers of small members that lie side by side come with one request.
_AHEAD_BYTES = 64 << 10


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a shard. name: its URL without secrets.

    members: (what is put behind `name`, the first byte or the row, bytes) of each video. asked: the column of bytes
    that was named, column: that they are in. problem: what was wrong after the last of them.
    """

    name: str
    size: int
    tag: str
    modified_ns: int
    members: tuple[tuple[str, int, int], ...]
    asked: str | None = None
    column: str | None = None
    problem: str = ""

    @property
    def stamp(self) -> FileStamp:
        """The state that the shard had."""
        return FileStamp(size=self.size, tag=self.tag, modified_ns=self.modified_ns)

    def videos(self, file: RemoteFile, source: RemoteShard, *, known: bool) -> Iterator[BatchVideo]:
        """See `RemoteMember` for `known`."""
        for name, place, size in self.members:
            found = (
                RemoteMember(file, place, size, known)
                if self.column is None
                else RemoteCell(file, place, self.column, known)
            )
            yield BatchVideo(f"{self.name}{name}", found)
        if self.problem:
            yield BatchVideo(self.name, source, DatasetError(self.problem))


@dataclass(frozen=True)
class ListedShards:
    """videos: those in shards, and the others as they were, in their order. new: listings to be kept in `folder`."""

    videos: Sequence[BatchVideo]
    new: Sequence[Listing]
    folder: Path

    def keep(self) -> None:
        """Write the new listings. Raises OSError, which `open_dataset` reports."""
        for listing in self.new:
            write_text(_path(self.folder, listing.name), msgspec.json.encode(listing).decode())


async def list_shards(
    videos: Sequence[BatchVideo], remote: Callable[[], RemoteFiles], folder: Path, ledger: Mapping[str, LedgerEntry]
) -> ListedShards:
    """Put the videos of shards at URLs in the place of the shards.

    folder: that has the listings of earlier runs. A shard that cannot be listed is a video with an error; where it may
    be there nevertheless, its videos that are done count as they are.
    Raises InvalidRequest for two URLs that only what is secret in them tells apart.
    """
    _check_names(videos)
    places = asyncio.Semaphore(_CONCURRENCY)
    async with remote() as files:

        async def listed(video: BatchVideo) -> tuple[list[BatchVideo], Listing | None]:
            if not isinstance(video.source, RemoteShard):
                return [video], None
            async with places:
                return await _listed(files, video.source, folder, ledger)

        found = await asyncio.gather(*(listed(video) for video in videos))
    first = {video.name: video for several, _ in reversed(found) for video in reversed(several)}
    return ListedShards(list(first.values())[::-1], [new for _, new in found if new is not None], folder)


async def _listed(
    files: RemoteFiles, shard: RemoteShard, folder: Path, ledger: Mapping[str, LedgerEntry]
) -> tuple[list[BatchVideo], Listing | None]:
    """(the videos of a shard, its listing where there is a new one)."""
    name = without_secrets(shard.url)
    kept = _kept(folder, name, shard.column)
    try:
        if is_packed_tar(name):
            raise DatasetError(f"{name}: is compressed, so that no part of it can be read by itself; unpack it to .tar")
        file = await files.look(shard.url)
        if kept is not None and _is_current(kept.stamp, file.stamp):
            return list(kept.videos(file, shard, known=True)), None
        new = await _list(files, file, shard)
    except TenclipError as err:
        done: list[BatchVideo] = []
        if kept is not None and not isinstance(err, VideoNotFound):
            every = kept.videos(RemoteFile(shard.url, kept.stamp, in_parts=True), shard, known=True)
            done = [v for v in every if (entry := ledger.get(v.name)) is not None and entry.done]
        return [*done, BatchVideo(name, shard, err)], None
    return list(new.videos(file, shard, known=False)), new


async def _list(files: RemoteFiles, file: RemoteFile, shard: RemoteShard) -> Listing:
    if file.in_parts and not file.stamp.size:
        raise DatasetError(f"{file.name}: is empty (0 bytes)")
    async with files.reader(file, ahead_bytes=_AHEAD_BYTES) as reader:
        read = _read_parquet if file.name.lower().endswith(PARQUET_SUFFIXES) else _read_tar
        return await asyncio.to_thread(read, file, reader, shard.column)


def _read_tar(file: RemoteFile, reader: BlockReader, asked: str | None) -> Listing:
    members: list[tuple[str, int, int]] = []
    problem = ""
    try:
        for name, offset, size in tar_members(reader, reader.size, file.name):
            members.append((f"/{name}", offset, size))
    except DatasetError as err:
        if not members:
            raise
        problem = err.message
    return _listing(file, members, problem=problem)


def _read_parquet(file: RemoteFile, reader: BlockReader, asked: str | None) -> Listing:
    column, names = parquet_cells(reader, file.name, asked)
    return _listing(file, [(name, row, 0) for row, name in enumerate(names)], asked=asked, column=column)


def _listing(
    file: RemoteFile,
    members: Sequence[tuple[str, int, int]],
    *,
    asked: str | None = None,
    column: str | None = None,
    problem: str = "",
) -> Listing:
    if not members:
        raise DatasetError(f"{file.name}: holds no videos")
    stamp = file.stamp
    return Listing(
        name=file.name,
        size=stamp.size,
        tag=stamp.tag,
        modified_ns=stamp.modified_ns,
        members=tuple(members),
        asked=asked,
        column=column,
        problem=problem,
    )


def _kept(folder: Path, name: str, asked: str | None) -> Listing | None:
    """The listing of an earlier run, None without one and where it is damaged, or is of another column."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        found = msgspec.json.decode(_path(folder, name).read_bytes(), type=Listing)
        return found if found.name == name and found.asked == asked else None
    return None


def _is_current(kept: FileStamp, now: FileStamp) -> bool:
    """False also where the store says nothing at all of the file."""
    return kept.is_same(now) and bool(now.size or now.tag or now.modified_ns)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"


def _check_names(videos: Sequence[BatchVideo]) -> None:
    urls: dict[str, str] = {}
    for video in videos:
        if isinstance(video.source, RemoteShard):
            url, name = video.source.url, without_secrets(video.source.url)
            if urls.setdefault(name, url) != url:
                raise InvalidRequest(
                    f"{name}: is named twice with different queries (what follows the ?), which are in no video's "
                    "name; name it once, or write into two datasets"
                )
