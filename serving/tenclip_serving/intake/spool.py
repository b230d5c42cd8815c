"""Encoded videos that are too large for memory, on disk in files without names.

A file here has no entry in any directory: it is gone with its last descriptor, so none can be left over, however the
server ends. What all of them take together is bounded, and a chunk is taken from its source only when the one before it
has been written: a fast sender waits for a slow disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Final

from tenclip_api.errors import DeadlineExceeded, EmptyVideo, InvalidRequest, Overloaded, VideoTooLarge
from tenclip_serving.exhaustion import raise_if_out_of_descriptors
from tenclip_serving.requests import Upload
from tenclip_serving.thread_pools import Pool
from tenclip_serving.units import mib

# Room comes back when another request has been decoded; how soon is anyone's guess.
RETRY_AFTER_SECONDS: Final = 5.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WRITERS = 4
# The end of a request waits no longer for its disk to be given back.
_CLOSE_SECONDS = 1.0
# A source that sends less in `idle_seconds` stands still: it would hold its place and its room for nothing.
_MIN_PROGRESS_BYTES = 64 << 10


class Spool:
    """All spooled videos of one server.

    directory: for the files; None takes that of temporary files.
    max_bytes: of all files together. max_file_bytes: of one.
    idle_seconds: the longest that a source may send nothing, or next to nothing.
    on_bytes: called with the bytes held at every change. on_refusal: for every upload that finds no room now.
    on_too_large: for every upload that is larger than any may be.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        max_bytes: int,
        max_file_bytes: int,
        idle_seconds: float = 30.0,
        on_bytes: Callable[[int], None] | None = None,
        on_refusal: Callable[[], None] | None = None,
        on_too_large: Callable[[], None] | None = None,
    ) -> None:
        self.directory = Path(tempfile.gettempdir()) if directory is None else directory
        self.max_bytes, self.max_file_bytes = max_bytes, max_file_bytes
        self.idle_seconds = idle_seconds
        self._on_bytes = on_bytes or (lambda num_bytes: None)
        self._on_refusal = on_refusal or (lambda: None)
        self._on_too_large = on_too_large or (lambda: None)
        # Its own: a disk that hangs must not hold up what else the server does in threads.
        self._threads = Pool("spool", _WRITERS)
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes on disk, and those that were announced and are still to come."""
        return self._held

    @contextlib.asynccontextmanager
    async def file(self, name: str, *, num_bytes: int = 0) -> AsyncIterator[SpoolFile]:
        """An empty file for a video of `num_bytes`, 0 for one whose size nobody knows; gone at the end.

        Raises VideoTooLarge for what may never be so large; Overloaded where there is no room now.
        """
        file = SpoolFile(self, name, num_bytes)
        try:
            file._reserve(num_bytes)
            await file._open()
            yield file
        finally:
            file.close()
            await file._closed()

    def close(self) -> bool:
        """Returns when what is being written has been. False when it still is after a moment: the disk hangs."""
        return self._threads.close()

    def check_size(self, num_bytes: int, name: str) -> None:
        """Raises VideoTooLarge for what may never be so large."""
        if num_bytes > self.max_file_bytes:
            self._on_too_large()
            raise VideoTooLarge(
                f"{name}: {mib(num_bytes)} or more; this server takes at most {mib(self.max_file_bytes)} "
                "(max_upload_mb)",
                source=name,
            )

    def _take(self, num_bytes: int) -> None:
        if num_bytes > 0 and self._held + num_bytes > self.max_bytes:
            raise self._full(f"{mib(self.max_bytes - self._held)} of {mib(self.max_bytes)} are free (max_spool_mb)")
        self._held += num_bytes
        self._on_bytes(self._held)

    def _full(self, why: str) -> Overloaded:
        self._on_refusal()
        again = f"try again in {RETRY_AFTER_SECONDS:g} seconds"
        error = Overloaded(f"the server has no room for this video now: {why}; {again}")
        error.retry_after_seconds = RETRY_AFTER_SECONDS
        return error


class SpoolFile:
    """One video on disk. size: bytes written. seconds: that `fill` took. Made by `Spool.file`."""

    def __init__(self, spool: Spool, name: str, num_bytes: int) -> None:
        self.name = name
        self.size = 0
        self.seconds = 0.0
        self._spool = spool
        self._announced = num_bytes
        self._reserved = 0
        self._file: BinaryIO | None = None
        self._writing: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def descriptor(self) -> int:
        """Descriptor of the file, which stays this object's to close. Raises ValueError after `close`."""
        if self._file is None:
            raise ValueError(f"{self.name}: the spooled file has been closed")
        return self._file.fileno()

    async def fill(self, upload: Upload, *, charge: Callable[[int], None] | None = None) -> None:
        """Write all chunks of an upload.

        charge: called with the bytes by which the largest chunk so far has grown, to charge its memory.
        Raises EmptyVideo, VideoTooLarge, InvalidRequest for another size than was announced, Overloaded,
        DeadlineExceeded for a source that stands still.
        """
        started = time.perf_counter()
        most_in_hand = 0
        progress = _Progress(self._spool.idle_seconds)
        while (chunk := await self._next(upload.chunks, progress)) is not None:
            if len(chunk) > most_in_hand:
                if charge is not None:
                    charge(len(chunk) - most_in_hand)
                most_in_hand = len(chunk)
            await self.write(chunk)
        if self.size == 0:
            raise EmptyVideo(f"{self.name}: is empty (0 bytes)", source=self.name)
        if self._announced and self.size != self._announced:
            raise InvalidRequest(f"{self.name}: ended after {self.size} of the {self._announced} bytes announced")
        self.seconds = time.perf_counter() - started

    async def write(self, chunk: bytes) -> None:
        """Append. Returns when it is written."""
        end = self.size + len(chunk)
        if self._announced and end > self._announced:
            raise InvalidRequest(f"{self.name}: has more than the {self._announced} bytes announced")
        self._reserve(end)
        file = self._file
        assert file is not None
        self._writing = self._spool._threads.submit(_write_all, file, chunk)
        try:
            await asyncio.shield(self._writing)
        except OSError as err:
            self._raise_if_full(err)
            raise
        self.size = end

    def close(self) -> None:
        """Give the disk back, which is done a moment later. May be called again."""
        if self._writing is not None and not self._writing.done():
            # Its descriptor must not become that of another file while a thread writes to it.
            self._writing.add_done_callback(_ignore_outcome)
            self._writing.add_done_callback(lambda writing: self._close_now())
        else:
            self._close_now()

    def _close_now(self) -> None:
        file, self._file = self._file, None
        if file is None:
            if self._closing is None:
                self._give_back()
            return
        try:
            # To give back gigabytes takes the file system a while.
            self._closing = self._spool._threads.submit(file.close)
        except RuntimeError:  # the spool has been closed
            self._has_closed(file)
        else:
            self._closing.add_done_callback(lambda closing: self._has_closed(file, closing))

    def _has_closed(self, file: BinaryIO, closing: asyncio.Future[None] | None = None) -> None:
        if closing is not None:
            _ignore_outcome(closing)
        with contextlib.suppress(OSError):
            file.close()  # where no thread has begun to
        self._give_back()

    def _give_back(self) -> None:
        self._spool._take(-self._reserved)
        self._reserved = 0

    async def _closed(self) -> None:
        """Returns when the disk has been given back, or hangs, or a thread still writes to it."""
        if self._closing is not None:
            await asyncio.wait([self._closing], timeout=_CLOSE_SECONDS)

    async def _next(self, chunks: AsyncIterator[bytes], progress: _Progress) -> bytes | None:
        """The next chunk; None at the end. Raises DeadlineExceeded for a source that stands still."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(progress.seconds_left):
                chunk = await anext(chunks, None)
        except TimeoutError as err:
            raise DeadlineExceeded(
                f"{self.name}: only {progress.num_bytes} bytes of it came in {self._spool.idle_seconds:g} seconds"
            ) from err
        progress.add(len(chunk or b""), time.perf_counter() - started)
        return chunk

    def _reserve(self, num_bytes: int) -> None:
        self._spool.check_size(num_bytes, self.name)
        more = num_bytes - self._reserved
        if more > 0:
            self._spool._take(more)
            self._reserved = num_bytes

    async def _open(self) -> None:
        opening = self._spool._threads.submit(_open_file, self._spool.directory, self._announced)
        try:
            self._file = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        except OSError as err:
            self._raise_if_full(err)
            raise_if_out_of_descriptors(err, self.name)
            raise
        if self._file is None:
            raise self._spool._full(f"its disk has less than {mib(self._announced)}")

    def _raise_if_full(self, err: OSError) -> None:
        if err.errno in _FULL:
            raise self._spool._full("its disk is full") from err


class _Progress:
    """Detects sources that stand still: bytes and waiting time since the last time there were enough bytes."""

    def __init__(self, idle_seconds: float) -> None:
        self._idle_seconds = self.seconds_left = idle_seconds
        self.num_bytes = 0

    def add(self, num_bytes: int, seconds: float) -> None:
        self.num_bytes += num_bytes
        self.seconds_left = max(self.seconds_left - seconds, 0.0)
        if self.num_bytes >= _MIN_PROGRESS_BYTES:
            self.num_bytes, self.seconds_left = 0, self._idle_seconds


def _open_file(directory: Path, num_bytes: int) -> BinaryIO | None:
    """A file without a name; None where the disk has less than `num_bytes`."""
    if num_bytes and shutil.disk_usage(directory).free < num_bytes:
        return None
    return tempfile.TemporaryFile(dir=directory, buffering=0)  # `close` closes it


def _close_opened(opening: asyncio.Future[BinaryIO | None]) -> None:
    """Nobody waits for it any more."""
    if not opening.cancelled() and opening.exception() is None and (file := opening.result()) is not None:
        file.close()


def _ignore_outcome(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled():
        writing.exception()


def _write_all(file: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(file.fileno(), view) :]
