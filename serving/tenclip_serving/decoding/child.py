"""The process that decodes: `python -m tenclip_serving.decoding.child FD ...`, one video after the other.

It talks to the server over the socket FD (see `Channel`) and ends when the other end closes, so that no worker outlives
its server, however that ended. Decoders are large C libraries fed with files from strangers: a worker may crash, hang
or be killed at any time, and nothing but the request in its hands is lost. Before it is ready it enters its sandbox.

An exchange: the server sends a DecodeRequest, pickled, with a descriptor of the encoded file where that came as bytes.
The worker answers, in the plain messages of `worker_messages`, with an error, or with ClipsWanted as soon as it knows
how much memory the clips take. The server sends a descriptor of that memory, the worker writes the clips into it, and
sends the rest of the result. All memory is the server's, so no size that a worker makes up can harm it (see
`shared_memory`). Where there is no such memory (macOS) bytes go over the socket.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from dataclasses import dataclass, field, replace
from typing import BinaryIO

# PyAV imports these when it opens its first file: by then a limit of memory may not let a library be mapped.
import av.audio.stream
import av.subtitles.stream
import av.video.stream  # noqa: F401
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tenclip_api.errors import TenclipError
from tenclip_serving.decoding import shared_memory, worker_messages
from tenclip_serving.decoding.sampler_cache import SamplerCache
from tenclip_serving.decoding.sandbox import SandboxLimits, enter_sandbox
from tenclip_serving.decoding.worker_messages import Answer, ClipsWanted, Decoded, Failure, Fault, Ready
from tenclip_video.clips import ClipAllocator, VideoClips, allocate_clips, read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import LearnedScorer, SamplerFiles
from tenclip_video.source import Limits, out_of_memory
from tenclip_video.spec import ClipSpec

# Pillow imports its formats with the first file that it writes: for the same reason, now.
Image.preinit()

# Bytes of the message, bytes of the payload.
_HEADER = struct.Struct("!QQ")


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """One video to decode: the arguments of `read_clips`.

    source: the encoded file itself, or, in the server only, the descriptor of one; or a path, for those who trust the
    directory it is in.
    sampler: the learned samplers that score its windows, motion energy without. A worker that has them already is sent
    none of their bytes (`SamplerCache`).
    """

    source: str | bytes | int
    name: str
    spec: ClipSpec
    protocol: Protocol = field(default_factory=Protocol)
    timeline: bool = False
    thumbnails: int = 0
    limits: Limits = field(default_factory=Limits)
    sampler: SamplerFiles | None = None


class ChannelClosed(EOFError):
    """The other end has gone."""


class Channel:
    """Messages over a stream socket: some bytes, then a payload that is not copied on the way.

    A descriptor may come along. Raises ChannelClosed when the other end has gone, ValueError for lengths beyond those
    that the receiver takes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, message: bytes, payload: bytes | memoryview = b"", *, descriptor: int | None = None) -> None:
        """The descriptor stays the caller's, to close."""
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        head = _HEADER.pack(len(message), size) + message
        try:
            sent = 0 if descriptor is None else socket.send_fds(self.sock, [head], [descriptor])
            self.sock.sendall(head[sent:])
            self.sock.sendall(payload)
        except OSError as err:
            raise ChannelClosed(str(err)) from err

    def receive(self, *, max_message: int, max_payload: int = 0) -> tuple[bytearray, bytearray]:
        """A message and its payload. The kernel closes descriptors that came along and were not asked for."""
        length, size = _HEADER.unpack(self._exactly(_HEADER.size))
        if length > max_message or size > max_payload:
            raise ValueError(f"{length} bytes with {size} more where {max_message} and {max_payload} are taken")
        return self._exactly(length), self._exactly(size)

    def receive_with_descriptor(self) -> tuple[bytearray, bytearray, int | None]:
        """A message of any size, its payload, and its descriptor or None, which is the caller's to close."""
        try:
            head, descriptors, _, _ = socket.recv_fds(self.sock, _HEADER.size, 1)
        except OSError as err:
            raise ChannelClosed(str(err)) from err
        if not head:
            raise ChannelClosed("the other end has closed")
        length, size = _HEADER.unpack(bytearray(head) + self._exactly(_HEADER.size - len(head)))
        return self._exactly(length), self._exactly(size), descriptors[0] if descriptors else None

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            try:
                count = self.sock.recv_into(view[done:])
            except OSError as err:
                raise ChannelClosed(str(err)) from err
            if count == 0:
                raise ChannelClosed("the other end has closed")
            done += count
        return buffer


def decode(
    request: DecodeRequest,
    *,
    file: BinaryIO | None = None,
    allocate: ClipAllocator = allocate_clips,
    samplers: SamplerCache | None = None,
) -> VideoClips:
    """`read_clips`, raising what it raises; VideoTooLarge when memory runs out. file: stands for `request.source`.

    samplers: those that this process has already.
    """
    source = request.source if file is None else file
    assert not isinstance(source, int)
    try:
        scorer = None if request.sampler is None else _scorer(request.sampler, request.name, samplers or SamplerCache())
        return read_clips(
            source,
            request.spec,
            request.protocol,
            scorer=scorer,
            timeline=request.timeline,
            thumbnails=request.thumbnails,
            name=request.name,
            limits=request.limits,
            allocate=allocate,
        )
    except MemoryError as err:
        raise out_of_memory(request.name) from err


def _scorer(files: SamplerFiles, name: str, samplers: SamplerCache) -> LearnedScorer:
    """name: of the video that waits for it."""
    try:
        return samplers.scorer(files)
    except MemoryError as err:
        raise out_of_memory(name, "loading the sampler of its windows") from err


def serve(channel: Channel) -> None:
    """Answer requests until the other end closes."""
    samplers = SamplerCache()
    try:
        _send(channel, Ready())
        while True:
            pickled, data, descriptor = channel.receive_with_descriptor()
            request: DecodeRequest = pickle.loads(pickled)  # of our own server, which started this process
            if descriptor is not None:
                with open(descriptor, "rb") as file:
                    _answer(channel, request, file, samplers)
            else:
                _answer(channel, replace(request, source=bytes(data)) if data else request, None, samplers)
    except ChannelClosed:
        return


def _answer(channel: Channel, request: DecodeRequest, file: BinaryIO | None, samplers: SamplerCache) -> None:
    allocator = _Allocator(channel)
    try:
        result = decode(request, file=file, allocate=allocator, samplers=samplers)
    except TenclipError as err:
        _send(channel, Failure.of(err))
    except ChannelClosed:
        raise
    except Exception:
        _send(channel, Fault.of(traceback.format_exc()))
    else:
        pixels = b"" if allocator.shared else np.ascontiguousarray(result.clips).data.cast("B")
        _send(channel, Decoded.of(result), pixels)


def _send(channel: Channel, answer: Answer, payload: bytes | memoryview = b"") -> None:
    channel.send(worker_messages.encode(answer), payload)


class _Allocator:
    """Asks the server for memory. `shared`: it was given, so that the clips need not be sent."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.shared = False

    def __call__(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        num_clips, length, height, width, channels = shape
        _send(self._channel, ClipsWanted((num_clips, length, height, width, channels)))
        _, _, given = self._channel.receive_with_descriptor()
        with shared_memory.closing(given) as descriptor:
            if descriptor is None:
                return allocate_clips(shape)
            try:
                clips = shared_memory.map_writable(descriptor, shape)
            except OSError as err:  # the limit of the address space
                raise MemoryError(str(err)) from err
        self.shared = True
        return clips


def exit_with_server(sock: socket.socket) -> None:
    """End at once when the server has gone, even in the middle of a decode."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups and errors only
    poll.poll()
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=exit_with_server, args=(sock,), daemon=True).start()
    enter_sandbox(SandboxLimits.from_arguments(sys.argv[2:]))
    serve(Channel(sock))


if __name__ == "__main__":
    # As `__main__` the classes here would differ from those that the server pickles.
    from tenclip_serving.decoding.child import main as worker_main

    worker_main()
