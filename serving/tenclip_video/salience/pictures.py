"""Windows as pictures: some frames of each at low resolution (`iter_rgb`), or key frames alone (`iter_keyframes`).

Key frames are decoded from themselves, so all others are left out before they reach the decoder. Asking FFmpeg to skip
them (skip_frame=nokey) costs more: it still parses each packet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tenclip_video.resize import FrameScaler
from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.salience.windows import WindowInputs, frames_at, middle_frames, windows_at_once
from tenclip_video.sampling import Clip
from tenclip_video.spec import Resize
from tenclip_video.video import Video

NO_KEYFRAME = "most key frames cannot be decoded by themselves: the sampler sees the middle of each window"


def iter_rgb(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """T frames of each window, evenly spaced: uint8 RGB [M,T,H,W,3]. A frame of several windows is decoded once."""
    resize = Resize(mode="squash", height=spec.height, width=spec.width)
    known: dict[int, NDArray[np.uint8]] = {}
    step = windows_at_once(spec)
    for at in range(0, len(clips), step):
        wanted = frames_at(clips[at : at + step], spec.samples)
        frames, places = np.unique(wanted, return_inverse=True)
        # The windows of the group before may overlap with these.
        missing = [i for i in frames.tolist() if i not in known]
        known = {i: known[i] for i in frames.tolist() if i in known}
        known.update(zip(missing, video.read_frames(missing, resize), strict=True))
        stack = np.stack([known[i] for i in frames.tolist()])
        yield WindowInputs(stack[places.reshape(wanted.shape)])


def iter_keyframes(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """The T key frames nearest to the middle of each window, in order of time: uint8 RGB [M,T,H,W,3].

    Where there are fewer, the last is repeated. One that cannot be decoded is replaced by the nearest that can.
    """
    if not len(video.index.keyframe_pts):
        yield from _middles(video, clips, spec)
        return
    chosen = choose_nearest(video.index.keyframe_pts, video.index.pts[middle_frames(clips)], spec.samples)
    pictures = _Keyframes(video, np.unique(chosen), spec)
    step = windows_at_once(spec)
    for at in range(0, len(clips), step):
        group = pictures.get(chosen[at : at + step])
        if group is None:
            yield from _middles(video, clips[at:], spec)
            return
        yield WindowInputs(group)


def choose_nearest(keyframes: NDArray[np.int64], times: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """[M, count]: places of the `count` key frames nearest to each time, ascending; fewer, and the last one repeats.

    keyframes: [N] times, ascending, at least one. times: [M], in the same unit.

    >>> choose_nearest(np.array([0, 10, 20]), np.array([11]), 2).tolist()
    [[1, 2]]
    """
    last_place = len(keyframes) - 1
    right = np.minimum(np.searchsorted(keyframes, times), last_place)
    left = np.maximum(right - 1, 0)
    first = np.where(np.abs(times - keyframes[left]) <= np.abs(keyframes[right] - times), left, right)
    last = first.copy()
    for _ in range(count - 1):
        # One more, on the nearer side of those that are chosen.
        before, after = np.maximum(first - 1, 0), np.minimum(last + 1, last_place)
        goes_back = (first > 0) & ((last == last_place) | (times - keyframes[before] <= keyframes[after] - times))
        first, last = np.where(goes_back, before, first), np.where(goes_back, last, after)
    return np.minimum(first[:, None] + np.arange(count), last[:, None])


class _Keyframes:
    """Key frames, decoded as they are asked for in order of time; those before are forgotten."""

    def __init__(self, video: Video, needed: NDArray[np.int64], spec: SamplerSpec) -> None:
        self._frames = _decode_keyframes(video, video.index.keyframe_pts[needed], spec)
        self._num_needed, self._num_decoded = len(needed), 0
        self._has_ended = False
        # Places in keyframe_pts of what is decoded and may still be asked for, ascending, and their pictures.
        self._places: list[int] = []
        self._pictures: list[NDArray[np.uint8]] = []
        self._keyframes = video.index.keyframe_pts

    def get(self, chosen: NDArray[np.int64]) -> NDArray[np.uint8] | None:
        """[M,T,H,W,3] of places [M,T]; None where most key frames cannot be decoded by themselves.

        Streams that are refreshed bit by bit (x264's intra-refresh) call frames key frames that are none.
        """
        last = int(chosen.max())
        while not self._places or self._places[-1] < last:
            found = next(self._frames, None)
            if found is None:
                self._has_ended = True
                break
            self._num_decoded += 1
            pts, picture = found
            self._places.append(max(int(np.searchsorted(self._keyframes, pts, side="right")) - 1, 0))
            self._pictures.append(picture)
        if not self._places or (self._has_ended and 2 * self._num_decoded < self._num_needed):
            return None
        places = np.array(self._places)
        at = np.abs(places[None, None, :] - chosen[:, :, None]).argmin(-1)
        result: NDArray[np.uint8] = np.stack(self._pictures)[at]
        keep = max(int(np.searchsorted(places, chosen.min())) - 1, 0)
        self._places, self._pictures = self._places[keep:], self._pictures[keep:]
        return result


def _decode_keyframes(
    video: Video, wanted: NDArray[np.int64], spec: SamplerSpec
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(time, picture) of key frames, given their times in ticks, ascending. One that cannot be decoded is left out."""
    decoder = video.decoder
    scaler = FrameScaler(Resize(mode="squash", height=spec.height, width=spec.width), video.first_frame)
    decoder.reopen()
    decoder.stream.codec_context.skip_frame = "NONKEY"
    remaining = set(wanted.tolist())
    for packet in decoder.packets():
        time = packet.pts if packet.pts is not None else packet.dts
        if packet.size and not (packet.is_keyframe and time in remaining):
            continue
        remaining.discard(time)
        frames = decoder.decode_packet(packet)
        if not remaining and packet.size:
            frames += decoder.decode_packet(None)
        for frame in frames:
            picture = _scaled(scaler, frame)
            if picture is not None:
                yield (frame.pts if frame.pts is not None else time or 0), picture
        if not remaining:
            return


def _scaled(scaler: FrameScaler, frame: av.VideoFrame) -> NDArray[np.uint8] | None:
    try:
        return scaler.scaled(frame).copy()
    except av.FFmpegError:
        return None


def _middles(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """Windows by the frame in their middle, for streams whose key frames are none."""
    resize = Resize(mode="squash", height=spec.height, width=spec.width)
    step = windows_at_once(spec)
    for at in range(0, len(clips), step):
        frames, places = np.unique(middle_frames(clips[at : at + step]), return_inverse=True)
        pictures: NDArray[Any] = video.read_frames(frames, resize)[places]
        yield WindowInputs(np.repeat(pictures[:, None], spec.samples, axis=1), (NO_KEYFRAME,))
