"""The process that decodes: `python -m tenclip_serving.decode_worker FD`, one video after the other.

It talks to the server over the socket FD (see `Channel`) and ends when the other end closes, so that no worker outlives
its server, however that ended. Decoders are large C libraries fed with files from strangers: a worker may crash, hang
or be killed at any time, and nothing but the request in its hands is lost.
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import traceback
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import numpy as np

from tenclip_api.errors import TenclipError, VideoTooLarge
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import CropMode
from tenclip_video.sampling import ClipSelection
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec

READY = "ready"
_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, kw_only=True)
class DecodeRequest:
    """What `read_clips` needs. `source`: a path, or the encoded file itself."""

    source: str | bytes
    name: str
    spec: ClipSpec
    selection: ClipSelection
    crop: CropMode = "center"
    fully_convolutional: bool = False
    timeline: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class WorkerFault:
    """Something that no one foresaw went wrong in the worker; `trace` is its traceback."""

    trace: str


class Channel:
    """Messages over a stream socket: an object, then raw bytes that are neither pickled nor copied on the way.

    Raises EOFError when the other end has gone.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, message: object, payload: bytes | memoryview = b"") -> None:
        pickled = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        try:
            self.sock.sendall(_LENGTH.pack(len(pickled)) + _LENGTH.pack(size) + pickled)
            self.sock.sendall(payload)
        except OSError as err:
            raise EOFError(str(err)) from err

    def receive(self) -> tuple[Any, bytearray]:
        lengths = self._exactly(2 * _LENGTH.size)
        pickled = self._exactly(_LENGTH.unpack_from(lengths)[0])
        return _load(pickled), self._exactly(_LENGTH.unpack_from(lengths, _LENGTH.size)[0])

    def _exactly(self, size: int) -> bytearray:
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            try:
                count = self.sock.recv_into(view[done:])
            except OSError as err:
                raise EOFError(str(err)) from err
            if count == 0:
                raise EOFError("the other end has closed")
            done += count
        return buffer


class _Unpickler(pickle.Unpickler):
    """Loads our own dataclasses and errors, numpy arrays, and nothing else.

    A worker may have been taken over by the file it decoded; its answer must not run anything in the server.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy._core.numeric", "numpy._core.multiarray", "numpy") and name in _NUMPY_NAMES:
            return super().find_class(module, name)
        if module.split(".")[0] in ("tenclip_api", "tenclip_video", "tenclip_serving") and "." not in name:
            found = super().find_class(module, name)
            ours = isinstance(found, type) and (is_dataclass(found) or issubclass(found, TenclipError))
            if ours or name == "_rebuild_video_error":
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed between server and decode worker")


_NUMPY_NAMES = ("ndarray", "dtype", "_reconstruct", "_frombuffer", "scalar")


def _load(pickled: bytearray) -> Any:
    return _Unpickler(io.BytesIO(pickled)).load()


def decode(request: DecodeRequest) -> VideoClips:
    """`read_clips`, raising what it raises; VideoTooLarge when memory runs out."""
    try:
        return read_clips(
            request.source,
            request.spec,
            request.selection,
            crop=request.crop,
            fully_convolutional=request.fully_convolutional,
            timeline=request.timeline,
            name=request.name,
            limits=request.limits,
        )
    except MemoryError as err:
        raise VideoTooLarge(
            f"{request.name}: decoding it needs more memory than there is", source=request.name
        ) from err


def serve(channel: Channel) -> None:
    """Answer requests until the other end closes."""
    channel.send(READY)
    while True:
        try:
            request, data = channel.receive()
        except EOFError:
            return
        if data:
            request = replace(request, source=bytes(data))
        _answer(channel, request)


def _answer(channel: Channel, request: DecodeRequest) -> None:
    try:
        result = decode(request)
    except TenclipError as err:
        err.__traceback__ = err.__cause__ = err.__context__ = None
        channel.send(err)
    except Exception:
        channel.send(WorkerFault(trace=traceback.format_exc()))
    else:
        clips = np.ascontiguousarray(result.clips)
        empty = np.empty((0, *clips.shape[1:]), np.uint8)
        channel.send((replace(result, clips=empty), clips.shape), clips.data.cast("B"))


def _exit_with_server(sock: socket.socket) -> None:
    """End at once when the server has gone, even in the middle of a decode."""
    poll = select.poll()
    poll.register(sock, 0)  # hang-ups and errors only
    poll.poll()
    os._exit(1)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_exit_with_server, args=(sock,), daemon=True).start()
    serve(Channel(sock))


if __name__ == "__main__":
    # As `__main__` the classes here would differ from those that the server pickles.
    from tenclip_serving.decode_worker import main as worker_main

    worker_main()
