"""Files by URL that hold videos: any part of them is read, and what is interrupted goes on where it was.

A store that sends parts (ranges) is asked for the bytes of a video alone. From one that does not, a file is fetched
whole onto disk, for as long as its videos are worked on.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self

from tenclip_api.errors import (
    DatasetError,
    DeadlineExceeded,
    FetchFailed,
    TenclipError,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_api.uris import without_secrets
from tenclip_serving.intake.fetch import PartFetcher
from tenclip_serving.intake.parts import FileStamp
from tenclip_serving.intake.spool import Spool, SpoolFile
from tenclip_serving.intake.uri_policy import UriPolicy
from tenclip_serving.requests import Upload
from tenclip_serving.units import mib

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# What fails is tried again after these, until nothing has come for so long: less than what `Spool` waits for a source.
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
_GIVE_UP_SECONDS = 28.0
_IDLE_SECONDS = 9.0
# A file that was given up is tried only once for each of its videos, so that they do not all wait.
_NO_PATIENCE_SECONDS = 60.0
# Files on disk at once: the one whose videos are worked on, and the next one.
_MOST_WHOLE = 2
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL in one state. in_parts: whether its store sends parts."""

    url: str
    stamp: FileStamp
    in_parts: bool

    @property
    def name(self) -> str:
        """For messages, without secrets."""
        return without_secrets(self.url)


@dataclass
class _Whole:
    """A file on disk, or on its way there. users: those that read it."""

    fetching: asyncio.Task[SpoolFile]
    held: AsyncExitStack
    users: int = 0


@dataclass
class _Patience:
    """How long what fails is tried again: counted from when bytes came last."""

    tries: int = 0
    since: float = field(default_factory=time.monotonic)

    def progress(self) -> None:
        self.tries, self.since = 0, time.monotonic()

    async def pause(self, err: FetchFailed | DeadlineExceeded, *, once: bool) -> None:
        """Wait before the next try. Raises the error, with what was tried, where there is to be none."""
        self.tries += 1
        pause = _PAUSES_SECONDS[min(self.tries, len(_PAUSES_SECONDS)) - 1]
        waited = time.monotonic() - self.since
        if once or self.tries > len(_PAUSES_SECONDS) or waited + pause > _GIVE_UP_SECONDS:
            tried = f"tried {self.tries} times in {waited:.0f} seconds; " if self.tries > 1 else ""
            message = f"{err.message} ({tried}--retry-failed tries it again)"
            raise FetchFailed(message, source=err.source) if isinstance(err, FetchFailed) else type(err)(message)
        await asyncio.sleep(pause)


class RemoteFiles:
    """Reads files at URLs by a policy. An asynchronous context manager.

    max_whole_bytes: the largest file that is kept on disk, where its store sends no parts.
    """

    def __init__(self, policy: UriPolicy, *, max_whole_bytes: int) -> None:
        self._max_seconds, self._max_whole_bytes = policy.max_seconds, max_whole_bytes
        self._fetcher = PartFetcher(replace(policy, idle_seconds=min(policy.idle_seconds, _IDLE_SECONDS)))
        # It waits longer than a fetch, whose error says more.
        self._spool = Spool(
            max_bytes=_MOST_WHOLE * max_whole_bytes, max_file_bytes=max_whole_bytes, idle_seconds=2 * _IDLE_SECONDS
        )
        self._wholes: dict[str, _Whole] = {}
        self._freed = asyncio.Condition()
        self._given_up: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for whole in self._wholes.values():
            await _dispose(whole)
        self._wholes.clear()
        await self._fetcher.__aexit__(*error)
        await asyncio.to_thread(self._spool.close)

    async def look(self, url: str) -> RemoteFile:
        """The file as it is now. Raises what `fetch` does; FetchFailed, DeadlineExceeded after several tries."""
        patience = _Patience()
        while True:
            try:
                return RemoteFile(url, *await self._fetcher.look(url))
            except (FetchFailed, DeadlineExceeded) as err:
                await self._pause(url, patience, err)

    async def pieces(self, file: RemoteFile, first: int, num_bytes: int, name: str) -> AsyncGenerator[bytes, None]:
        """`num_bytes` bytes from `first` on. name: of the video that they are.

        Raises what `fetch` does; FetchFailed, DeadlineExceeded after several tries; VideoNotReadable where the file is
        in another state by now.
        """
        until = time.monotonic() + self._max_seconds
        pieces = self._parts if file.in_parts else self._pieces_of_whole
        async with contextlib.aclosing(pieces(file, first, num_bytes, name)) as found:
            async for piece in found:
                if time.monotonic() > until:
                    raise DeadlineExceeded(f"{name}: not fetched in {self._max_seconds:g} seconds (max_fetch_seconds)")
                yield piece

    @asynccontextmanager
    async def reader(self, file: RemoteFile, *, ahead_bytes: int) -> AsyncIterator[BlockReader]:
        """The file for code that reads in threads of its own, `ahead_bytes` at once at least.

        Reading it raises what `pieces` does.
        """
        if file.in_parts:
            loop = asyncio.get_running_loop()

            def read(first: int, num_bytes: int) -> bytes:
                return asyncio.run_coroutine_threadsafe(self._bytes(file, first, num_bytes), loop).result()

            yield BlockReader(read, file.stamp.size, ahead_bytes)
            return
        async with self._whole(file) as spooled:
            yield BlockReader(lambda first, size: os.pread(spooled.descriptor, size, first), spooled.size, ahead_bytes)

    async def _bytes(self, file: RemoteFile, first: int, num_bytes: int) -> bytes:
        return b"".join([piece async for piece in self._parts(file, first, num_bytes, file.name)])

    async def _parts(self, file: RemoteFile, first: int, num_bytes: int, name: str) -> AsyncGenerator[bytes, None]:
        patience, left = _Patience(), num_bytes
        while left:
            try:
                async with self._fetcher.part(file.url, first + num_bytes - left, left) as part:
                    _check_same(file, part.stamp, name)
                    if not part.is_part:
                        raise FetchFailed(f"{file.name}: all of it came where a part was asked for", source=file.name)
                    async for piece in part.chunks:
                        given = piece[:left]
                        left -= len(given)
                        patience.progress()
                        yield given
                    if left:
                        raise FetchFailed(f"{file.name}: {left} bytes of a part did not come", source=file.name)
            except (FetchFailed, DeadlineExceeded) as err:
                await self._pause(file.url, patience, err)

    async def _pause(self, url: str, patience: _Patience, err: FetchFailed | DeadlineExceeded) -> None:
        once = time.monotonic() - self._given_up.get(url, -_NO_PATIENCE_SECONDS) < _NO_PATIENCE_SECONDS
        try:
            await patience.pause(err, once=once)
        except TenclipError:
            self._given_up[url] = time.monotonic()
            raise

    # -- stores that send no parts ------------------------------------------------------------------------------------

    async def _pieces_of_whole(
        self, file: RemoteFile, first: int, num_bytes: int, name: str
    ) -> AsyncGenerator[bytes, None]:
        async with self._whole(file) as spooled:
            end = first + num_bytes
            while first < end:
                read = partial(os.pread, spooled.descriptor, min(end - first, _PIECE_BYTES), first)
                piece = await asyncio.to_thread(read)
                if not piece:
                    raise VideoNotReadable(f"{name}: {file.name} ends before it does", source=name)
                first += len(piece)
                yield piece

    @asynccontextmanager
    async def _whole(self, file: RemoteFile) -> AsyncIterator[SpoolFile]:
        """The file on disk, fetched once for all who read it meanwhile. An error is theirs, too."""
        whole = await self._place(file)
        whole.users += 1
        try:
            yield await asyncio.shield(whole.fetching)
        finally:
            whole.users -= 1
            async with self._freed:
                self._freed.notify_all()

    async def _place(self, file: RemoteFile) -> _Whole:
        async with self._freed:
            while (whole := self._wholes.get(file.url)) is None and len(self._wholes) >= _MOST_WHOLE:
                idle = next((url for url, other in self._wholes.items() if not other.users), None)
                if idle is None:
                    await self._freed.wait()
                else:
                    await _dispose(self._wholes.pop(idle))
            if whole is None:
                held = AsyncExitStack()
                whole = self._wholes[file.url] = _Whole(asyncio.create_task(self._fetch_whole(file, held)), held)
            return whole

    async def _fetch_whole(self, file: RemoteFile, held: AsyncExitStack) -> SpoolFile:
        patience = _Patience()
        while True:
            try:
                async with self._fetcher.whole(file.url) as part:
                    _check_same(file, part.stamp, file.name)
                    spooled = await held.enter_async_context(self._spool.file(file.name, num_bytes=part.stamp.size))
                    await spooled.fill(Upload(chunks=part.chunks, num_bytes=part.stamp.size))
                    return spooled
            except VideoTooLarge:
                raise DatasetError(
                    f"{file.name}: is larger than {mib(self._max_whole_bytes)} (--max-shard-mb), and its server sends "
                    "no parts of files, so that all of it would have to lie on disk; raise that, or put it on a server "
                    "that answers requests for ranges"
                ) from None
            except (FetchFailed, DeadlineExceeded) as err:
                await held.aclose()
                await patience.pause(err, once=False)


class BlockReader(io.RawIOBase):
    """A file to be read and sought in, by a function (first byte, number of bytes) -> bytes, a block at a time.

    Reading raises what that function does.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, block_bytes: int) -> None:
        super().__init__()
        self._read, self.size, self._block_bytes = read, size, block_bytes
        self._position = self._first = 0
        self._block = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._position < self.size:
            place = self._position - self._first
            if not 0 <= place < len(self._block):
                wanted = min(max(len(view) - done, self._block_bytes), self.size - self._position)
                self._block, self._first, place = self._read(self._position, wanted), self._position, 0
                if not self._block:
                    break
            given = self._block[place : place + len(view) - done]
            view[done : done + len(given)] = given
            done += len(given)
            self._position += len(given)
        return done


async def _dispose(whole: _Whole) -> None:
    whole.fetching.cancel()
    await asyncio.gather(whole.fetching, return_exceptions=True)
    await whole.held.aclose()


def _check_same(file: RemoteFile, now: FileStamp, name: str) -> None:
    if not file.stamp.is_same(now):
        raise VideoNotReadable(
            f"{name}: {file.name} was changed while it was worked on: it had {_state(file.stamp)}, and has "
            f"{_state(now)}; run again for what it is now",
            source=name,
        )


def _state(stamp: FileStamp) -> str:
    return f"{stamp.size} bytes and the ETag {stamp.tag}" if stamp.tag else f"{stamp.size} bytes"
