"""Windows in the compressed domain: motion vectors, frame differences and the key frame, at low resolution.

SCSampler looks at motion displacement, RGB residuals and I-frames. FFmpeg exports motion vectors (of H.264, MPEG-1, -2
and -4, H.263 and their relatives; not of HEVC, VP8, VP9, AV1 or Motion JPEG), and no residuals. What stands in for them
here is the absolute difference of luma between neighbouring frames: plainly not the paper's residual, which is what is
left of that difference after motion compensation.

Tried and left out: decoding without the loop filter, of frames that no other refers to or of all. It is at most a fifth
faster, and in the latter case errors add up until the next key frame. FFmpeg has no way to parse motion vectors and
reconstruct no pictures.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from tenclip_video.orientation import frame_orientation
from tenclip_video.resize import FrameScaler
from tenclip_video.salience.motion_vectors import ReferenceDistances, grid_size, rasterize, turned
from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.salience.windows import WindowInputs, middle_frames, windows_at_once
from tenclip_video.sampling import Clip
from tenclip_video.spec import Resize
from tenclip_video.video import Video

# Horizontal and vertical displacement, absolute frame difference, red, green and blue of the key frame.
CHANNELS = ("motion_x", "motion_y", "difference", "red", "green", "blue")
# Codecs whose packets say, by `droppable_packets`, whether other frames refer to their frame.
_MARKING_CODECS = frozenset({"h264"})
# The codec for whose B-frames FFmpeg exports vectors that are all zero, whatever moves.
_ZERO_IN_B_FRAMES = "mpeg4"


def iter_compressed(video: Video, clips: Sequence[Clip], spec: SamplerSpec) -> Iterator[WindowInputs]:
    """float32 [M,T,H,W,6] of windows, in the channels of `CHANNELS`. The T parts of a window follow each other in time.

    motion: the mean displacement for each frame of a part, as a fraction of the picture's width and height, as shown;
    0 where the codec exports no vectors. difference: mean absolute difference of luma from one frame to the next, 0-1.
    colours, 0-1, the same in all parts: the last key frame at or before the middle of the window.
    """
    low, high = part_bounds(clips, spec.samples)
    middles = middle_frames(clips)
    step = windows_at_once(spec)
    last = int(high.max())
    kept = _KeptFrames(spec)
    source = read_motion(video, int(low.min()), last, spec)
    try:
        for at in range(0, len(clips), step):
            group = slice(at, at + step)
            kept.fill(source, int(high[group].max()))
            inputs = kept.windows(low[group], high[group], middles[group])
            kept.forget(int(low[at + step :].min()) if at + step < len(clips) else last)
            yield WindowInputs(inputs, kept.notes(video) if at + step >= len(clips) else ())
    finally:
        source.close()


def part_bounds(clips: Sequence[Clip], parts: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first frame, first frame after) of the T parts of each window: two of [M,T]; no part is empty.

    >>> part_bounds([Clip((10, 12, 14, 16))], 2)
    (array([[10, 14]]), array([[14, 17]]))
    """
    frames = np.array([clip.frames for clip in clips], np.int64)
    length = frames.shape[1]
    edges = np.arange(parts + 1) * length // parts
    low = frames[:, np.minimum(edges[:-1], length - 1)]
    high = np.concatenate([frames[:, np.minimum(edges[1:-1], length - 1)], frames.max(1, keepdims=True) + 1], axis=1)
    # Frames that are repeated, and clips that begin anew where a video is too short.
    return low, np.where(high > low, high, low + 1)


class _KeptFrames:
    """The frames that windows still need, and the inputs made of them."""

    def __init__(self, spec: SamplerSpec) -> None:
        self._spec = spec
        self._frames: list[FrameMotion] = []
        self._pictures: list[FrameMotion] = []
        self._grid: tuple[int, int] | None = None
        self._latest = -1

    def fill(self, source: Iterator[FrameMotion], until: int) -> None:
        """Take frames from `source` up to index `until`, which is not needed itself."""
        while self._latest < until - 1:
            frame = next(source, None)
            if frame is None:
                return
            self._latest = frame.index
            self._frames.append(frame)
            if frame.picture is not None:
                self._pictures.append(frame)
            if frame.motion is not None and self._grid is None:
                self._grid = (frame.motion.shape[0], frame.motion.shape[1])

    def forget(self, before: int) -> None:
        """No window needs frames before this one any more, but for the colours of the last key frame."""
        self._frames = [frame for frame in self._frames if frame.index >= before]
        older = [frame for frame in self._pictures if frame.index < before]
        self._pictures = [*older[-1:], *(frame for frame in self._pictures if frame.index >= before)]

    def notes(self, video: Video) -> tuple[str, ...]:
        if self._grid is not None or self._latest < 1:
            return ()
        return (f"no motion vectors come with this {video.info.codec} video: the sampler sees frame differences alone",)

    def windows(
        self, low: NDArray[np.int64], high: NDArray[np.int64], middles: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """float32 [M,T,H,W,6]."""
        height, width = self._spec.height, self._spec.width
        inputs = np.zeros((*low.shape, height, width, len(CHANNELS)), np.float32)
        base, end = int(low.min()), int(high.max())
        frames = [frame for frame in self._frames if base <= frame.index < end]
        motions = {f.index - base: f.motion for f in frames if f.motion is not None}
        differences = {f.index - base: f.difference for f in frames if f.difference is not None}
        if self._grid is not None:
            motion = _part_means({i: _resampled(m, *self._grid) for i, m in motions.items()}, low - base, high - base)
            if motion is not None:
                inputs[..., :2] = _resampled(motion, height, width, axis=2)
        difference = _part_means(differences, low - base, high - base)
        if difference is not None:
            inputs[..., 2] = difference / 255
        if self._pictures:
            at = np.searchsorted([f.index for f in self._pictures], middles, side="right") - 1
            pictures = np.stack([f.picture for f in self._pictures if f.picture is not None])
            inputs[..., 3:] = (pictures[np.maximum(at, 0)] / np.float32(255))[:, None]
        return inputs


def _part_means(
    frames: Mapping[int, NDArray[np.uint8] | NDArray[np.float32]], low: NDArray[np.int64], high: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Means [M,T,...] of frames by index over [low, high); frames that are not there do not count. None without any."""
    if not frames:
        return None
    shape = next(iter(frames.values())).shape
    # One more than is needed: `reduceat` takes no index beyond the last.
    stack = np.zeros((int(high.max()) + 1, *shape), np.float32)
    there = np.zeros(len(stack), np.float32)
    for index, values in frames.items():
        stack[index], there[index] = values, 1
    bounds = np.stack([low, high], axis=-1).ravel()
    sums = np.add.reduceat(stack, bounds)[::2].reshape(*low.shape, *shape)
    counts = np.add.reduceat(there, bounds)[::2].reshape(low.shape)
    return np.asarray(sums / np.maximum(counts, 1).reshape(*low.shape, *(1 for _ in shape)), np.float32)


def _resampled(values: NDArray[np.float32], rows: int, columns: int, *, axis: int = 0) -> NDArray[np.float32]:
    """[...,rows,columns,...] by the nearest cell, where the two axes begin at `axis`."""
    for size, along in ((rows, axis), (columns, axis + 1)):
        if values.shape[along] != size:
            values = values.take(np.arange(size) * values.shape[along] // size, axis=along)
    return values


@dataclass(frozen=True, eq=False)
class FrameMotion:
    """What one frame says of motion, as shown.

    index: which frame. motion: float32 [rows, columns, 2], None without vectors. difference: uint8 [H,W] from the frame
    before, None where there is none. picture: uint8 RGB [H,W,3] of a key frame, None of others.
    """

    index: int
    motion: NDArray[np.float32] | None
    difference: NDArray[np.uint8] | None
    picture: NDArray[np.uint8] | None


def read_motion(video: Video, first: int, last: int, spec: SamplerSpec) -> Generator[FrameMotion, None, None]:
    """The frames from `first` to before `last` that can be decoded, in their order.

    Where the first is no key frame, the key frame before it comes first.
    """
    decoder, index = video.decoder, video.index
    decoder.reopen(motion_vectors=True)
    try:
        if index.timed and first > 0:
            decoder.seek_before(first, index)
        yield from _FrameMotions(video, spec).read(first, last)
    finally:
        if not decoder.closed:
            decoder.reopen()


class _FrameMotions:
    """Makes `FrameMotion` of decoded frames."""

    def __init__(self, video: Video, spec: SamplerSpec) -> None:
        self._video, self._decoder, self._index = video, video.decoder, video.index
        self._orientation = frame_orientation(video.first_frame)
        height, width = (spec.width, spec.height) if self._orientation.is_transposed else (spec.height, spec.width)
        self._coded = (height, width)
        self._grey = VideoReformatter()
        self._scaler = FrameScaler(Resize(mode="squash", height=spec.height, width=spec.width), video.first_frame)
        self._distances = ReferenceDistances()
        self._latest = self._anchor = -1
        self._before: NDArray[np.uint8] | None = None

    def read(self, first: int, last: int) -> Iterator[FrameMotion]:
        position, has_picture = 0, False
        for packet in self._decoder.packets():
            self._note_order(packet)
            for frame in self._decoder.decode_packet(packet):
                index = self._index_of(frame, position)
                position += 1
                if index is None:
                    continue
                motion = self._motion(frame, index, wants_picture=frame.key_frame or not has_picture)
                if motion is None:
                    continue
                if index >= first or motion.picture is not None:
                    has_picture = has_picture or motion.picture is not None
                    if index < last:
                        yield motion
                if index >= last - 1:
                    return

    def _note_order(self, packet: Packet[VideoStream]) -> None:
        if not packet.size or packet.pts is None or not self._index.timed:
            return
        index = int(self._index.pts.searchsorted(packet.pts))
        if self._decoder.codec in _MARKING_CODECS:
            is_reference = not self._decoder.is_droppable(packet)
        else:
            is_reference = index > self._latest  # a frame that is shown before one that is decoded earlier: a B-frame
        self._latest = max(self._latest, index)
        self._distances.add(index, is_reference=is_reference)

    def _index_of(self, frame: VideoFrame, position: int) -> int | None:
        if not self._index.timed:
            return position if position < len(self._index.pts) else None
        if frame.pts is None:
            return None
        at = int(self._index.pts.searchsorted(frame.pts))
        return at if at < len(self._index.pts) and self._index.pts[at] == frame.pts else None

    def _motion(self, frame: VideoFrame, index: int, *, wants_picture: bool) -> FrameMotion | None:
        height, width = self._coded
        try:
            grey = self._grey.reformat(
                frame, width=width, height=height, format="gray", interpolation="BILINEAR", threads=1
            )
            picture = self._scaler.scaled(frame).copy() if wants_picture else None
        except av.FFmpegError:
            return None  # damage beyond what can be scaled
        plane = grey.planes[0]
        # A view that keeps the memory of its frame.
        pixels = np.ndarray((height, width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))
        before, self._before = self._before, pixels
        difference = None
        if before is not None:
            difference = self._orientation.apply(np.maximum(pixels, before) - np.minimum(pixels, before))
        return FrameMotion(index, self._vectors(frame, index), difference, picture)

    def _vectors(self, frame: VideoFrame, index: int) -> NDArray[np.float32] | None:
        is_b_frame = frame.pict_type == PictureType.B
        past, future = self._distances.take(index)
        if not self._index.timed:
            past = index - self._anchor if self._anchor >= 0 else 1
        if not is_b_frame:
            self._anchor = index
        # Without times nothing tells how far the reference of a B-frame is.
        elif not self._index.timed or self._decoder.codec == _ZERO_IN_B_FRAMES:
            return None
        try:
            vectors = frame.side_data.get("MOTION_VECTORS")
        except ValueError:  # a type of side data that PyAV does not know
            return None
        if vectors is None:
            return None
        grid = grid_size(frame.width, frame.height, *self._coded)
        motion = rasterize(
            vectors.to_ndarray(), frame.width, frame.height, grid, past=float(past), future=float(future)
        )
        return turned(motion, self._orientation)
