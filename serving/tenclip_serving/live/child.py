"""The process that reads one stream: `python -m tenclip_serving.live.child FD ...`, in the sandbox of decode workers.

An exchange: the server sends an OpenStream, with a descriptor where bytes come through one, and is answered with what
the stream is, or why it cannot be read. Then it sends NextWindow with the descriptor of its own memory; the window is
written there. As long as there is none, a Beat goes out every second. A stream that has ended may be opened again.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback

# PyAV imports these when it opens its first file: by then a limit of memory may not let a library be mapped.
import av.audio.stream
import av.subtitles.stream
import av.video.stream
import numpy as np

from tenclip_api.errors import TenclipError
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.child import Channel, ChannelClosed, exit_with_server
from tenclip_serving.decoding.sandbox import SandboxLimits, enter_sandbox
from tenclip_serving.decoding.worker_messages import Failure, Fault, Ready
from tenclip_serving.live import messages
from tenclip_serving.live.messages import Beat, NextWindow, OpenStream, StreamEnded, WindowReady
from tenclip_serving.live.stream_reader import StreamReader
from tenclip_serving.live.windows import Window

BEAT_SECONDS = 1.0
# A stream that gives no picture for so much longer than it may be silent is stuck somewhere in FFmpeg.
_STUCK_SECONDS = 2.0


def serve(channel: Channel) -> None:
    """Answer until the other end closes."""
    _send(channel, Ready())
    stream: StreamReader | None = None
    request: OpenStream | None = None
    while True:
        pickled, _, descriptor = channel.receive_with_descriptor()
        message = pickle.loads(pickled)  # of our own server, which started this process
        if isinstance(message, OpenStream):
            stream, request = _open(channel, message, descriptor), message
        elif isinstance(message, NextWindow) and stream is not None and request is not None:
            with shared_memory.closing(descriptor) as memory:
                _next(channel, stream, request, memory)


def _open(channel: Channel, request: OpenStream, descriptor: int | None) -> StreamReader | None:
    try:
        stream = StreamReader(request, descriptor)
    except TenclipError as err:
        _send(channel, Failure.of(err))
        return None
    except Exception:
        _send(channel, Fault.of(traceback.format_exc()))
        return None
    _send(channel, stream.opened)
    return stream


def _next(channel: Channel, stream: StreamReader, request: OpenStream, memory: int | None) -> None:
    while True:
        window = stream.next(BEAT_SECONDS)
        counters = stream.counters
        if window is not None:
            pixels = _write(window, memory)
            start, end = window.seconds
            ready = WindowReady(start, end, window.arrival, stream.first_arrival, window.missed_seconds, counters)
            channel.send(messages.encode(ready), b"" if pixels is None else np.ascontiguousarray(pixels).data.cast("B"))
            return
        if stream.ended is not None:
            _send(channel, _ending(stream.ended, counters))
            return
        if counters.silent_seconds > request.idle_seconds + _STUCK_SECONDS:
            _send(channel, StreamEnded(f"it gave no picture for {counters.silent_seconds:.0f} seconds", counters))
            time.sleep(0.1)
            os._exit(1)  # its thread cannot be ended otherwise
        _send(channel, Beat(counters))


def _write(window: Window, memory: int | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """Into the memory; without one, the pixels to send."""
    shape = (len(window.frames[0].pixels), len(window.frames), *window.frames[0].pixels.shape[1:])
    if memory is None:
        out = np.empty(shape, np.uint8)
        window.write(out)
        return out
    window.write(shared_memory.map_writable(memory, shape))
    return None


def _ending(ended: str | Exception, counters: messages.Counters) -> messages.Answer:
    if isinstance(ended, str):
        return StreamEnded(ended, counters)
    if isinstance(ended, TenclipError):
        return Failure.of(ended)
    return Fault.of("".join(traceback.format_exception(ended)))


def _send(channel: Channel, answer: messages.Answer) -> None:
    channel.send(messages.encode(answer))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    av.logging.set_level(None)
    sock = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=exit_with_server, args=(sock,), daemon=True).start()
    enter_sandbox(SandboxLimits.from_arguments(sys.argv[2:]))
    try:
        serve(Channel(sock))
    except ChannelClosed:
        os._exit(0)  # without waiting for the stream's thread


if __name__ == "__main__":
    # As `__main__` the classes here would differ from those that the server pickles.
    from tenclip_serving.live.child import main as child_main

    child_main()
