"""Reading frames by index, so that a sparse read gives what decoding the whole video in sequence gives.

Each frame is decoded from the keyframe before it, and frames that no other refers to are dropped on the way. That is
right as long as nothing is damaged: a decoder conceals damage from whatever it has decoded before. From the first
damage on, frames are decoded from the beginning of the video.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from tenclip_api.errors import UndecodableVideo
from tenclip_video.decoder import NO_TIME, FrameDecoder
from tenclip_video.index import FrameIndex
from tenclip_video.resize import FrameScaler
from tenclip_video.source import out_of_memory

# A seek empties the decoder and costs about as much as decoding this many frames.
_SEEK_WORTH_FRAMES = 8
# A frame that seeking did not give is looked for once more, from a keyframe this many before its own, and then from the
# beginning of the video.
_RETRY_KEYFRAMES = 2
# No decoder holds back more frames than this to reorder them.
_MAX_REORDERED_FRAMES = 16
# FFmpeg's picture types of frames that are decoded from others.
_PREDICTED = frozenset({2, 3})


class FrameSink(Protocol):
    """Where frames go as they are decoded. They come in any order, and each of them is put or repeated at least once:
    what is put last counts, since a frame that turns out to be wrong is decoded again.
    """

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        """frame: uint8 RGB [H,W,3], the slot-th of those asked for. The sink copies what it keeps."""
        ...

    def repeat(self, slot: int, of: int) -> None:
        """The slot-th cannot be had: another one, which was put, stands in for it."""
        ...


@dataclass(frozen=True, eq=False)
class Outlet:
    """Where the frames of a read go, and how they are scaled. slots: those that it takes; None: all. Of others it is
    told nothing, but one of them may stand in for one that it takes.
    """

    sink: FrameSink
    scaler: FrameScaler
    slots: frozenset[int] | None = None

    def takes(self, slot: int) -> bool:
        return self.slots is None or slot in self.slots


@dataclass
class ReadRequest:
    """One read: each of `outlets` has frame `wanted[i]` as its i-th once `found[i]`."""

    wanted: NDArray[np.int64]
    outlets: tuple[Outlet, ...]
    found: NDArray[np.bool_] = field(init=False)
    corrupt: NDArray[np.bool_] = field(init=False)
    out_of_memory: bool = False
    preprocess_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.found = np.zeros(len(self.wanted), bool)
        self.corrupt = np.zeros(len(self.wanted), bool)

    def put(self, slot: int, frame: VideoFrame) -> None:
        started = time.perf_counter()
        try:
            for outlet in self.outlets:
                if outlet.takes(int(slot)):
                    outlet.sink.put(int(slot), outlet.scaler.scaled(frame))
        except av.FFmpegError as err:
            self.out_of_memory |= isinstance(err, MemoryError)
            return  # damage beyond what can be scaled: as good as not there
        finally:
            self.preprocess_seconds += time.perf_counter() - started
        self.found[slot] = True
        self.corrupt[slot] = frame.is_corrupt

    def repeat(self, slot: int, of: int) -> None:
        for outlet in self.outlets:
            if outlet.takes(slot):
                outlet.sink.repeat(slot, of)

    def forget(self, slots: NDArray[np.int64]) -> None:
        """Look for these again: they may be wrong."""
        self.found[slots] = self.corrupt[slots] = False


class FrameReader:
    """Reads frames of one indexed video, remembering what it learns of its damage."""

    def __init__(self, decoder: FrameDecoder, index: FrameIndex) -> None:
        self._decoder, self._index = decoder, index
        # Nothing is damaged before this time; what follows is decoded from the beginning, as players do.
        self._sound_until = NO_TIME
        # Frames that even a decode from the beginning does not give.
        self._lost: set[int] = set()
        if index.damage_pts is not None:
            self._doubt(index.damage_pts)

    def read(self, request: ReadRequest) -> int:
        """Put every frame of a request; how many of them a neighbour had to stand in for.

        Raises UndecodableVideo when none of them can be decoded, VideoTooLarge when that is for lack of memory.
        """
        if self._index.timed:
            self._read_by_seeking(request, keyframes_back=0)
            self._read_by_seeking(request, keyframes_back=_RETRY_KEYFRAMES)
        if self._missing(request).any():
            # No usable times, or seeks that did not give what the index promises.
            self._read_from_start(request)
        return self._substitute(request)

    def _missing(self, request: ReadRequest) -> NDArray[np.bool_]:
        """[M] frames that are not found yet and may still be."""
        missing = ~request.found
        if self._lost:
            missing[[slot for slot, index in enumerate(request.wanted.tolist()) if index in self._lost]] = False
        return missing

    def _doubt(self, pts: int) -> None:
        """Something at this time is damaged: the frames from its keyframe on may differ from those of a full decode."""
        keyframes = self._index.keyframe_pts
        at = int(np.searchsorted(keyframes, pts, side="right")) - 1
        self._sound_until = min(self._sound_until, int(keyframes[at]) if at >= 0 else -NO_TIME)

    def _read_by_seeking(self, request: ReadRequest, *, keyframes_back: int) -> None:
        """Fill what can be had from the nearest keyframes, before the first damage.

        keyframes_back: begin so many keyframes earlier, and drop no frames on the way.
        """
        is_sound = self._index.pts[request.wanted] < self._sound_until
        slots = np.flatnonzero(self._missing(request) & is_sound)
        for first, last in _runs(request.wanted[slots], self._index):
            if self._index.pts[request.wanted[slots[first]]] < self._sound_until:
                landing = self._decoder.seek_before(
                    int(request.wanted[slots[first]]), self._index, keyframes_back=keyframes_back
                )
                self._collect(request, slots[first:last], landing=landing, drop=not keyframes_back)

    def _read_from_start(self, request: ReadRequest) -> None:
        """Fill all that a decode from the beginning gives, damaged frames included; remember what it does not give."""
        self._decoder.reopen()
        if self._index.timed:
            missing = np.flatnonzero(self._missing(request))
            self._put_all_frames(request, missing)
            self._lost.update(request.wanted[~request.found].tolist())
            return
        slots = {int(index): slot for slot, index in enumerate(request.wanted)}
        last = int(request.wanted[-1])
        for position, frame in enumerate(self._decoder.decode(None)):
            if position in slots:
                request.put(slots[position], frame)
            if position >= last:
                return

    def _collect(self, request: ReadRequest, slots: NDArray[np.int64], *, landing: int | None, drop: bool) -> None:
        """Keep the frames of `slots` that a seek leads to, as far as they are sure to be those of a full decode.

        landing: time of the keyframe that the seek has found; None at the beginning of the file. The keyframe must be
        a true one, and nothing may be damaged from there on: damage is concealed from whatever was decoded before, or
        even from what memory held. `_doubt` keeps where that ends.
        """
        self._decoder.damage.clear()
        self._put_frames(request, slots, landing=landing, drop=drop)
        self._decoder.decode_packet(None)  # a frame that comes out later than those that refer to it may be damaged
        if self._is_damaged_since(landing):
            request.forget(slots[self._index.pts[request.wanted[slots]] >= self._sound_until])

    def _put_frames(self, request: ReadRequest, slots: NDArray[np.int64], *, landing: int | None, drop: bool) -> None:
        """Like `_collect`, for what is known when each frame comes out; stops after the last of them."""
        slot_at, last_pts = self._slots_by_time(request, slots)
        later_frames = 0
        has_landed = landing is None
        for frame in self._decoder.decode(frozenset(slot_at) if drop else None):
            if self._decoder.damage and self._is_damaged_since(landing):
                return
            if frame.pts is None:
                continue
            if landing is not None and not has_landed and frame.pts >= landing:
                if frame.pts == landing and _is_predicted(frame):
                    self._doubt(-NO_TIME)  # what it calls keyframes are none
                    return
                has_landed = True
            slot = slot_at.pop(frame.pts, None)
            if slot is not None:
                request.put(slot, frame)
            later_frames += frame.pts > last_pts
            if not slot_at or later_frames > _MAX_REORDERED_FRAMES:
                return

    def _put_all_frames(self, request: ReadRequest, slots: NDArray[np.int64]) -> None:
        """Keep the frames of `slots`, decoded from the beginning as a player does, damaged ones included."""
        slot_at, last_pts = self._slots_by_time(request, slots)
        later_frames = 0
        for frame in self._decoder.decode(None):
            if frame.pts is None:
                continue
            slot = slot_at.pop(frame.pts, None)
            if slot is not None:
                request.put(slot, frame)
            later_frames += frame.pts > last_pts
            if not slot_at or later_frames > _MAX_REORDERED_FRAMES:
                return

    def _slots_by_time(self, request: ReadRequest, slots: NDArray[np.int64]) -> tuple[dict[int, int], int]:
        """(slot by presentation time, the last of these times).

        Damaged streams may give frames in another order than that of their times, so a later frame does not end the
        search; more of them than any decoder reorders do.
        """
        times = self._index.pts[request.wanted[slots]]
        return dict(zip(times.tolist(), slots.tolist(), strict=True)), int(times[-1])

    def _is_damaged_since(self, landing: int | None) -> bool:
        """Whether something was damaged at or after a time: leading frames of a keyframe need what lies before it."""
        damage = [pts for pts in self._decoder.damage if landing is None or pts >= landing]
        if damage:
            self._doubt(min(damage))
        return bool(damage)

    def _substitute(self, request: ReadRequest) -> int:
        """Stand in for what is missing with its nearest neighbours; how many."""
        missing, have = np.flatnonzero(~request.found), np.flatnonzero(request.found)
        if len(missing) and not len(have) and (self._decoder.out_of_memory or request.out_of_memory):
            raise out_of_memory(self._decoder.name)
        if len(missing) and not len(have):
            raise UndecodableVideo(
                f"{self._decoder.name}: none of the {len(missing)} frames asked for can be decoded",
                source=self._decoder.name,
            )
        for slot in missing:
            nearest = have[np.argmin(np.abs(request.wanted[have] - request.wanted[slot]))]
            request.repeat(int(slot), int(nearest))
        return len(missing)


def _is_predicted(frame: VideoFrame) -> bool:
    return not frame.key_frame and frame.pict_type in _PREDICTED


def _runs(wanted: NDArray[np.int64], index: FrameIndex) -> list[tuple[int, int]]:
    """Split [0, M) so that each run is decoded from one keyframe: a seek where it saves decoding."""
    keyframes = index.keyframe_pts
    # The keyframe from which each wanted frame is decoded, as a frame index.
    at = np.maximum(np.searchsorted(keyframes, index.pts[wanted], side="right") - 1, 0)
    start = np.searchsorted(index.pts, keyframes[at]) if len(keyframes) else np.zeros(len(wanted), np.int64)
    cuts = [0]
    cuts += [i for i in range(1, len(wanted)) if start[i] > wanted[i - 1] + _SEEK_WORTH_FRAMES]
    return list(zip(cuts, [*cuts[1:], len(wanted)], strict=True)) if len(wanted) else []
