"""The one way from a request to the bytes of its video, whatever way they come.

    async with intake.open(request, ticket) as video:   # bytes, a path, a URI or an upload
        DecodeRequest(source=video.source, name=video.name, ...)
        ...                                             # decode
        video.release()

Within, all of the bytes are at hand: in memory, on disk, or in an open file that stays the same whatever becomes of its
name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tenclip_api.errors import EmptyVideo, InvalidRequest
from tenclip_serving.decoding.shared_memory import WORTH_SHARING_BYTES, MemoryFile
from tenclip_serving.intake.admission import Ticket
from tenclip_serving.intake.fetch import fetch
from tenclip_serving.intake.path_access import file_stamp, open_path
from tenclip_serving.intake.spool import Spool, SpoolFile
from tenclip_serving.intake.uri_policy import UriPolicy, file_path
from tenclip_serving.requests import RecognitionRequest, Upload
from tenclip_serving.telemetry.tracing import stage
from tenclip_serving.thread_pools import Pool, Threads


class VideoFile(Protocol):
    """An open file: `MemoryFile` (inline bytes), `SpoolFile` (an upload or a fetch) or `OpenFile` (a path)."""

    @property
    def descriptor(self) -> int:
        """Its descriptor, which stays the file's to close."""

    def close(self) -> None:
        """Give the memory, disk or descriptor back. May be called again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenVideo:
    """The encoded bytes of one video. Made by `Intake.open`.

    name: what messages and logs call the video.
    source: for `DecodeRequest.source`: a descriptor, or bytes where they are few.
    file: what the descriptor belongs to.
    fetch_seconds: what the upload or the fetch took; None where nothing was transferred.
    is_path: the caller named a path, so others may write to the file, and its file system may hang.
    readers: threads that may read all of it, for a hash.
    """

    name: str
    source: bytes | int
    readers: Pool
    file: VideoFile | None = None
    fetch_seconds: float | None = None
    is_path: bool = False

    def release(self) -> None:
        """The video is decoded: give back its memory or its disk. A path stays open, for its `stamp`."""
        if self.file is not None and not self.is_path:
            self.file.close()

    async def stamp(self) -> tuple[int, int] | None:
        """(size in bytes, time of the last change) of a path, to be compared later; None for what nobody can change."""
        if self.file is None or not self.is_path:
            return None
        return await self.readers.run(file_stamp, self.file.descriptor)


class Intake:
    """Opens the videos of one server.

    roots: directories whose files a request may name. policy: what may be fetched. spool: where uploads and fetched
    videos are kept. threads: for what may block.
    """

    def __init__(self, *, roots: Sequence[Path], policy: UriPolicy, spool: Spool, threads: Threads) -> None:
        self._roots, self._policy, self._spool, self._threads = roots, policy, spool, threads

    @asynccontextmanager
    async def open(self, request: RecognitionRequest, ticket: Ticket) -> AsyncIterator[OpenVideo]:
        """The video of a request, all of it; its memory, disk and descriptors are given back at the end.

        ticket: is charged for the memory that the pieces of an upload or a fetch take.
        Raises InvalidRequest where there is none, EmptyVideo, and what `open_path`, `fetch` and `SpoolFile.fill` do.
        """
        async with AsyncExitStack() as held:
            with stage("fetch"):
                video = await self._open(request, ticket, held)
            del request  # the bytes in it are where they have to be
            yield video

    async def _open(self, request: RecognitionRequest, ticket: Ticket, held: AsyncExitStack) -> OpenVideo:
        name = request.source
        path = request.path if request.uri is None else file_path(request.uri)
        if path is not None:
            return await self._open_path(path, held)
        if request.file is not None:
            file = request.file
            return OpenVideo(name=name, source=file.descriptor, file=file, readers=self._threads.files, is_path=True)
        if request.uri is not None:
            # Names, connections and headers included: a host that is silent holds a place of uploads as well.
            with ticket.filling():
                async with fetch(request.uri, self._policy, names=self._threads.names) as upload:
                    return await self._spooled(name, upload, ticket, held)
        if request.upload is not None:
            with ticket.filling():
                return await self._spooled(name, request.upload, ticket, held)
        if request.spooled is not None:
            return self._of_spool(request.spooled)
        if request.data is not None:
            return await self._inline(name, request.data, held)
        raise InvalidRequest(
            "no video: set video.data to the bytes of a file, video.path to a path on the server, or video.uri"
        )

    async def _open_path(self, path: str, held: AsyncExitStack) -> OpenVideo:
        file = await self._threads.files.run(open_path, path, self._roots)  # the file system may be a slow network
        held.callback(file.close)
        return OpenVideo(name=path, source=file.descriptor, file=file, readers=self._threads.files, is_path=True)

    async def _spooled(self, name: str, upload: Upload, ticket: Ticket, held: AsyncExitStack) -> OpenVideo:
        file = await held.enter_async_context(self._spool.file(name, num_bytes=upload.num_bytes))
        await file.fill(upload, charge=ticket.grow)
        return self._of_spool(file)

    def _of_spool(self, file: SpoolFile) -> OpenVideo:
        return OpenVideo(
            name=file.name, source=file.descriptor, file=file, readers=self._threads.hashes, fetch_seconds=file.seconds
        )

    async def _inline(self, name: str, data: bytes, held: AsyncExitStack) -> OpenVideo:
        """Many bytes are moved to memory that can be given back as soon as they are decoded.

        As a Python object they would stay until the last function that was given them returns, with the answer.
        """
        if not data:
            raise EmptyVideo(f"{name}: is empty (0 bytes)", source=name)
        readers = self._threads.hashes
        file = await readers.run(MemoryFile.of, name, data) if len(data) >= WORTH_SHARING_BYTES else None
        if file is None:
            return OpenVideo(name=name, source=data, readers=readers)
        held.callback(file.close)
        return OpenVideo(name=name, source=file.descriptor, file=file, readers=readers)
