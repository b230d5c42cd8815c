"""Reads one connection of a stream on a thread of its own: packets -> frames -> crops -> windows in a ring.

Runs in the process of `child`. The thread never waits for whoever takes windows, unless nothing may be skipped: a
stream that is not read backs up in buffers that nobody counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, TenclipError, UndecodableVideo
from tenclip_serving.live.clock import MAX_STEP_SECONDS, Lag, MediaClock
from tenclip_serving.live.descriptor_file import open_descriptor
from tenclip_serving.live.messages import Counters, Opened, OpenStream
from tenclip_serving.live.open_stream import open_stream, what_failed
from tenclip_serving.live.windows import Frame, Window, WindowRing
from tenclip_video.index import demux
from tenclip_video.protocols import CropMode
from tenclip_video.resize import FrameScaler
from tenclip_video.source import check_pixels, check_scaled
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import crop_offsets

_DEFAULT_RATE = 25.0
# A pause in a recording, at most: beyond, times are damage.
_LONGEST_FRAME_SECONDS = 86_400.0
# Packets that are passed over while a keyframe is looked for; some streams have none and refresh bit by bit.
_MOST_WITHOUT_KEYFRAME = 250


class StreamReader:
    """One connection. Raises a TenclipError where it cannot be opened, or holds no video.

    opened: what it is. `next` gives its windows, until `ended` says why there are no more.
    """

    def __init__(self, request: OpenStream, descriptor: int | None) -> None:
        self._request = request
        self._file = None
        if descriptor is not None:
            self._file = open_descriptor(descriptor, follow=request.follow, idle_seconds=request.idle_seconds)
        try:
            self._container, self._stream = open_stream(request, self._file)
        except BaseException:
            self._close_file()
            raise
        codec = self._stream.codec_context
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.opened = Opened(self._container.format.name, codec.name, codec.width, codec.height, rate)
        self.ended: str | TenclipError | Exception | None = None
        self.first_arrival = 0.0
        self._rate = rate or _DEFAULT_RATE
        self._cropper = _Cropper(request)
        side, protocol = request.protocol.crop_side(request.spec), request.protocol
        frame_bytes = protocol.views * side * side * 3
        self._ring = WindowRing(
            request.spec, step=request.step, max_latency=request.max_latency, frame_bytes=frame_bytes
        )
        self._changed = threading.Condition()  # guards the ring and what is counted
        self._progress = time.monotonic()
        self._frames_read = self._packets_dropped = self._discontinuities = 0
        self._broken = ""
        self._clock: MediaClock | None = None
        self._paced_from: tuple[float, float] | None = None
        threading.Thread(target=self._run, name="stream", daemon=True).start()

    def next(self, seconds: float) -> Window | None:
        """The next window, waiting for it so long. None: there is none yet, or `ended` is set."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                window = self._ring.take(now=time.monotonic())
                self._changed.notify_all()
                left = until - time.monotonic()
                if window is not None or self.ended is not None or left <= 0:
                    return window
                self._changed.wait(left)

    @property
    def counters(self) -> Counters:
        with self._changed:
            return Counters(
                frames_read=self._frames_read,
                frames_dropped=self._packets_dropped + self._ring.num_dropped,
                windows_skipped=self._ring.num_skipped,
                discontinuities=self._discontinuities,
                silent_seconds=time.monotonic() - self._progress,
                frame_seconds=0.0 if self._clock is None else self._clock.frame_seconds,
            )

    def _run(self) -> None:
        why: str | Exception = ""
        try:
            for frame, arrival, follows in self._frames():
                self._put(frame, arrival, follows)
        except TenclipError as err:
            why = err
        except (av.FFmpegError, OSError) as err:
            why = what_failed(err)
        except Exception as err:  # a bug, told as one
            why = err
        finally:
            with self._changed:
                if not self._request.live:
                    self._ring.end()
                self.ended = why or self._why_ended()
                self._changed.notify_all()
            self._container.close()
            self._close_file()

    def _why_ended(self) -> str | TenclipError:
        """Without an error; "" for a file that was read to its end."""
        request = self._request
        if not self._frames_read and not request.live:
            return UndecodableVideo(f"{request.name}: none of its frames can be decoded", source=request.name)
        if self._file is not None and self._file.timed_out and not request.follow:
            return f"it sent nothing for {request.idle_seconds:g} seconds"
        return (self._broken or "it ended") if request.live else ""

    def _frames(self) -> Iterator[tuple[VideoFrame, float, bool]]:
        """(frame, when it came, whether it follows the one before it) of all packets that are decoded."""
        codec = self._stream.codec_context
        follows = True
        for packet, arrival, after_hole in self._packets():
            if after_hole:
                codec.flush_buffers()
                follows = False
            try:
                frames: list[Any] = codec.decode(packet)
            except EOFError:
                return
            except av.FFmpegError:
                continue  # a damaged packet costs its own frames only
            for frame in frames:
                yield frame, arrival, follows
                follows = True

    def _packets(self) -> Iterator[tuple[Packet[VideoStream], float, bool]]:
        """(packet, when it came, whether packets before it were passed over).

        Of a stream that does not end, those are passed over that come before its first keyframe, and, where the decoder
        is behind, those up to the first keyframe with which it has caught up.
        """
        lag, base = Lag(), self._stream.time_base or Fraction(1, 90_000)
        most = self._request.max_latency
        begun, skipping, hole = False, self._request.live, False
        passed = 0
        before = time.monotonic()
        for packet, broken in demux(self._container, self._stream):
            now = time.monotonic()
            self._broken = self._broken or broken
            if self._request.live and packet.size:
                stamp = packet.dts if packet.dts is not None else packet.pts
                behind = lag.measure(None if stamp is None else float(stamp * base), now=now, waited=now - before)
                late = most is not None and behind > most
                passed = 0 if late else passed + 1
                skipping = late or (skipping and not packet.is_keyframe and passed <= _MOST_WITHOUT_KEYFRAME)
                if skipping:
                    with self._changed:
                        self._packets_dropped += begun
                        self._progress = now
                    hole, before = True, now
                    continue
            begun = True
            yield packet, now, hole
            hole, before = False, time.monotonic()

    def _put(self, frame: VideoFrame, arrival: float, follows: bool) -> None:
        request = self._request
        if self._clock is None:
            self._clock = self._start_clock(frame, arrival)
        placed = self._clock.place(frame.pts, arrival=arrival)
        if placed is None:
            with self._changed:
                self._packets_dropped += 1
            return
        pixels = self._cropper.crop(frame)
        end = self._clock.end(frame.duration or 0)
        self._pace(placed.seconds)
        if request.paced:
            arrival = time.monotonic()
        with self._changed:
            while request.max_latency is None and self._ring.is_full:
                self._progress = time.monotonic()  # it is not the stream that is waited for
                self._changed.wait(1.0)
            now = time.monotonic()
            if placed.jumped or not follows:
                self._discontinuities += placed.jumped
                self._ring.restart()
            self._frames_read += 1
            self._progress = now
            self._ring.push(Frame(pixels, placed.seconds, end, arrival), now=now)
            self._changed.notify_all()

    def _start_clock(self, frame: VideoFrame, arrival: float) -> MediaClock:
        self.first_arrival = arrival
        start = self._request.start_seconds
        if self._request.epoch is not None:
            start = max(start, arrival - self._request.epoch)
        base = frame.time_base or self._stream.time_base or Fraction(1, 90_000)
        longest = MAX_STEP_SECONDS if self._request.live else _LONGEST_FRAME_SECONDS
        return MediaClock(base, start=start, frame_seconds=1 / self._rate, max_step_seconds=longest)

    def _pace(self, seconds: float) -> None:
        """Wait until a frame is due, by the speed of its own clock."""
        if not self._request.paced:
            return
        now = time.monotonic()
        if self._paced_from is None:
            self._paced_from = now, seconds
        due = self._paced_from[0] + seconds - self._paced_from[1]
        while (left := due - time.monotonic()) > 0:
            with self._changed:
                self._progress = time.monotonic()
            time.sleep(min(left, 0.5))

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()


class _Cropper:
    """From a decoded frame to its crops, uint8 [V,S,S,3], as `read_clips` makes them; whatever size it comes in."""

    def __init__(self, request: OpenStream) -> None:
        self._name, self._limits = request.name, request.limits
        self._spec: ClipSpec = request.protocol.apply(request.spec)
        self._side = request.protocol.crop_side(request.spec)
        self._mode: CropMode = request.protocol.crop
        self._size: tuple[int, int, str] | None = None

    def crop(self, frame: VideoFrame) -> NDArray[np.uint8]:
        size = (frame.width, frame.height, frame.format.name)
        if size != self._size:
            self._prepare(frame)
            self._size = size
        scaled = self._scaler.scaled(frame)
        views = [scaled[top : top + self._side, left : left + self._side] for top, left in self._offsets]
        pixels = np.stack(views)
        return pixels[..., ::-1] if self._spec.color_order == "bgr" else pixels

    def _prepare(self, frame: VideoFrame) -> None:
        check_pixels(frame.width, frame.height, self._name, self._limits)
        self._scaler = FrameScaler(self._spec.resize, frame)
        size = self._scaler.height, self._scaler.width
        check_scaled((frame.height, frame.width), size, self._name)
        try:
            self._offsets = crop_offsets(*size, self._side, self._mode)
        except ValueError as err:
            raise InvalidRequest(f"{self._name}: {err}") from err
