"""Sends an MPEG transport stream to whoever connects: `python -m tests.tenclip_serving.live.ts_sender ...`.

In a process of its own: a writer in a thread of the reader's process would hold the interpreter while it waits.
Prints its port when it listens. The colour goes from red to blue within each `--period` seconds, as `make_video`'s.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np


class _Socket:
    """What PyAV writes to."""

    def __init__(self, sock: socket.socket, address: Any = None) -> None:
        self._sock, self._address = sock, address

    def write(self, data: bytes) -> int:
        if self._address is None:
            self._sock.sendall(data)
        else:  # a datagram holds seven packets of a transport stream
            for i in range(0, len(data), 7 * 188):
                self._sock.sendto(bytes(data[i : i + 7 * 188]), self._address)
        return len(data)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--udp", type=int, default=0, help="send to this port instead of listening")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--speed", type=float, default=1.0, help="0: as fast as it goes")
    parser.add_argument("--period", type=float, default=2.0)
    parser.add_argument("--start", type=int, default=0, help="first pts, of 90 kHz; of whole frames")
    parser.add_argument("--jump-at", type=int, default=-1, help="frame from which pts are an hour later")
    parser.add_argument("--resize-at", type=int, default=-1, help="frame from which pictures are larger")
    parser.add_argument("--audio-only", action="store_true")
    parser.add_argument("--codec", default="mpeg2video")
    parser.add_argument("--connections", type=int, default=1)
    options = parser.parse_args()
    if options.udp:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            _send(_Socket(sock, ("127.0.0.1", options.udp)), options)
        return
    with socket.create_server(("127.0.0.1", options.port)) as server:
        print(server.getsockname()[1], flush=True)
        for _ in range(options.connections):
            sock, _ = server.accept()
            with sock, contextlib.suppress(OSError, av.FFmpegError):  # the reader has gone
                _send(_Socket(sock), options)


def _send(target: Any, options: argparse.Namespace) -> None:
    if options.audio_only:
        _send_audio(target)
        return
    parts = [(0, options.frames, (64, 48))]
    if options.resize_at >= 0:
        parts = [(0, options.resize_at, (64, 48)), (options.resize_at, options.frames, (96, 80))]
    started = time.monotonic()
    for first, last, size in parts:
        _send_video(target, options, first, last, size, started)


def _send_video(
    target: Any, options: argparse.Namespace, first: int, last: int, size: tuple[int, int], started: float
) -> None:
    ticks = 90_000 // options.fps
    with av.open(target, "w", format="mpegts", options={"flush_packets": "1"}) as container:
        stream: Any = container.add_stream(options.codec, rate=options.fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, options.fps)
        stream.codec_context.gop_size = 10
        stream.codec_context.max_b_frames = 0
        for i in range(first, last):
            frame = av.VideoFrame.from_ndarray(_picture(i / options.fps % options.period / options.period, size))
            frame.time_base = Fraction(1, options.fps)
            frame.pts = options.start // ticks + i + (3600 * options.fps if 0 <= options.jump_at <= i else 0)
            for packet in stream.encode(frame):
                container.mux(packet)
            if options.speed:
                time.sleep(max(0.0, started + (i + 1) / options.fps / options.speed - time.monotonic()))
        for packet in stream.encode():
            container.mux(packet)


def _picture(share: float, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = np.empty((size[1], size[0], 3), np.uint8)
    picture[:] = (int(200 * (1 - share)), 30, int(200 * share))
    return picture


def _send_audio(target: Any) -> None:
    with av.open(target, "w", format="mpegts") as container:
        stream: Any = container.add_stream("mp2", rate=44_100)
        for i in range(200):
            silence = np.zeros((1, 1152 * stream.codec_context.channels), np.int16)
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout=stream.codec_context.layout.name)
            frame.rate, frame.pts = 44_100, i * 1152
            for packet in stream.encode(frame):
                container.mux(packet)


if __name__ == "__main__":
    main()
