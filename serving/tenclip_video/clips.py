"""The whole way from a video to the clips that a network sees, in one call: `read_clips(source, spec, protocol)`.

Evaluation, export and serving all come through here, so they see the same pixels.

open -> plan -> (score) -> decode -> crop -> clips

Each frame is cropped and written to its places in the clips as it is decoded: beside the clips, memory is that of one
frame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, VideoTooLarge
from tenclip_video.filmstrip import Filmstrip, Thumbnail
from tenclip_video.flow import read_flow
from tenclip_video.protocols import CropMode, Protocol
from tenclip_video.salience import ClipScorer, MotionEnergyScorer, SalienceTimeline
from tenclip_video.sampling import Clip, ClipSelection, clip_seconds, frames_needed, plan_clips
from tenclip_video.source import Limits, VideoSource
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import DecodeReport, Video, VideoInfo, open_video

# The clips of one request, in memory at once. 2 GiB: 3,500 clips of 16x112x112, or an hour and a half of video.
MAX_CLIP_BYTES = 2 << 30

# Memory for clips of a shape, uint8, that is written once and whole.
ClipAllocator: TypeAlias = Callable[[tuple[int, ...]], NDArray[np.uint8]]


def allocate_clips(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Memory of this process."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True, eq=False)
class VideoClips:
    """The clips of one video, ready for the network.

    clips: uint8 [K*V,T,H,W,3] in `ClipSpec.color_order`; the V views of a clip follow each other.
    plan, seconds: one entry for each of the K clips; seconds are half-open intervals of presentation time.
    preprocess_seconds: what scaling (also of frames that are only scored), cropping and putting frames into clips took,
    of all the time of decoding. score_seconds: what scoring windows took of it, without that scaling.
    thumbnails: pictures for people, where they were asked for; `report` and these times leave them out.
    """

    clips: NDArray[np.uint8]
    plan: tuple[Clip, ...]
    seconds: tuple[tuple[float, float], ...]
    views: int
    info: VideoInfo
    report: DecodeReport
    timeline: SalienceTimeline | None = None
    preprocess_seconds: float = 0.0
    score_seconds: float = 0.0
    thumbnails: tuple[Thumbnail, ...] = ()


def read_clips(
    source: VideoSource,
    spec: ClipSpec,
    protocol: Protocol | None = None,
    *,
    scorer: ClipScorer | None = None,
    timeline: bool = False,
    thumbnails: int = 0,
    name: str | None = None,
    limits: Limits | None = None,
    allocate: ClipAllocator = allocate_clips,
) -> VideoClips:
    """Decode the clips of a video that `protocol` takes, scaled and cropped as it says.

    spec: of the model; the protocol's own resize is applied to it here (`Protocol.apply`).
    protocol: ten uniform clips, centre crop, by default.
    scorer: for salient clips and the timeline (motion energy by default).
    timeline: score every window even where the protocol does not need it.
    thumbnails: how many pictures of the part that clips are taken from (`Filmstrip`).
    allocate: gives the memory that the clips are written into, before the first of their frames is decoded.
    Raises a VideoError for a bad video, InvalidRequest for a selection or crop that does not fit it. Random selections
    are refused too: a prediction is to be repeatable (training plans its random clips with `plan_clips`).

    >>> read_clips("run.mp4", bundle.info.clip_spec, PROTOCOLS["ten-clip"]).clips.shape  # doctest: +SKIP
    (10, 16, 112, 112, 3)
    """
    protocol = protocol or Protocol()
    spec = protocol.apply(spec)
    side = protocol.crop_side(spec)
    with open_video(source, name=name, limits=limits) as video:
        started, scaled = time.perf_counter(), video.preprocess_seconds
        plan, salience = plan_video(video, spec, protocol.selection, scorer=scorer, timeline=timeline)
        scored = time.perf_counter() - started - (video.preprocess_seconds - scaled)
        strip = _filmstrip(video, spec, protocol.selection, plan, thumbnails)
        clips = _decode(video, spec, plan, side, protocol.crop, allocate, strip)
        seconds = tuple(clip_seconds(c, video.times, video.info.duration_seconds) for c in plan)
        read = VideoClips(
            clips,
            tuple(plan),
            seconds,
            protocol.views,
            video.info,
            video.report,
            salience,
            preprocess_seconds=video.preprocess_seconds,
            score_seconds=0.0 if salience is None else scored,
        )
        return read if strip is None else replace(read, thumbnails=strip.read())


def plan_video(
    video: Video,
    spec: ClipSpec,
    selection: ClipSelection,
    *,
    scorer: ClipScorer | None = None,
    timeline: bool = False,
) -> tuple[list[Clip], SalienceTimeline | None]:
    """The clips of an open video; with the salience of its windows where it is asked for or needed.

    Raises InvalidRequest for a selection that does not fit the video, BundleError for a sampler of other clips.
    """
    duration = video.info.duration_seconds
    is_salient = selection.mode == "salient"
    scorer = scorer or MotionEnergyScorer()
    scorer.check_clips(spec)
    windows: list[Clip] = []
    try:
        if is_salient or timeline:
            windows = plan_clips(video.times, duration, spec, candidates(selection, scorer))
        plan = [] if is_salient else plan_clips(video.times, duration, spec, selection)
    except ValueError as err:
        raise InvalidRequest(f"{video.name}: {err}") from err
    if not windows:
        return plan, None
    scores = scorer.score(video, windows)
    selected = np.zeros(len(windows), bool)
    ranking: tuple[int, ...] = ()
    if is_salient:
        order = scores.order(selection.num_clips)
        plan = [windows[i] for i in np.sort(order)]
        selected[order] = True
        ranking = tuple(order.tolist())
    else:
        planned = set(plan)
        selected[:] = [w in planned for w in windows]
    seconds = tuple(clip_seconds(c, video.times, duration) for c in windows)
    return plan, SalienceTimeline(
        scorer.name, seconds, scores.video, selected, ranking, flat=scores.is_flat, notes=scores.notes
    )


def candidates(selection: ClipSelection, scorer: ClipScorer) -> ClipSelection:
    """The selection of all windows that `scorer` scores.

    They are as far apart as the selection says, or else as the scorer was made for; those of mode windows are the clips
    themselves.
    """
    step = selection.window_step
    if step is None and selection.mode != "windows":
        step = scorer.window_step
    return replace(selection, mode="salient", window_step=step)


def _decode(
    video: Video,
    spec: ClipSpec,
    plan: Sequence[Clip],
    side: int,
    crop: CropMode,
    allocate: ClipAllocator,
    strip: Filmstrip | None,
) -> NDArray[np.uint8]:
    """[K*V,T,side,side,3]. Every frame is decoded once, however many clips it is in."""
    size = video.frame_size(spec.resize)  # a VideoError is a ValueError, too
    try:
        offsets = crop_offsets(*size, side, crop)
    except ValueError as err:
        raise InvalidRequest(f"{video.name}: {err}") from err
    shape = (len(plan) * len(offsets), spec.num_frames, side, side, 3)
    _check_bytes(video.name, f"{shape[0]} clips of {spec.num_frames}x{side}x{side}", math.prod(shape))
    needed = frames_needed(plan)
    clips = allocate(shape)
    out = clips.reshape(len(plan), len(offsets), *shape[1:])
    writer = _ClipWriter(plan, needed, offsets, out, bgr=spec.color_order == "bgr")
    if spec.modality == "flow":
        for slot, frame in enumerate(read_flow(video, needed, spec.resize)):
            writer.put(slot, frame)
    else:
        video.read_into(writer if strip is None else strip.beside(writer, needed), needed, spec.resize)
    return clips


def _filmstrip(
    video: Video, spec: ClipSpec, selection: ClipSelection, plan: Sequence[Clip], count: int
) -> Filmstrip | None:
    """Pictures of the part that clips are taken from, of their own frames where these will do."""
    if count < 1:
        return None
    return Filmstrip(
        video,
        count,
        start_seconds=selection.start_seconds,
        end_seconds=selection.end_seconds,
        passing=frames_needed(plan),
        passing_resize=None if spec.modality == "flow" else spec.resize,
    )


class _ClipWriter:
    """Crops each frame and writes it to every place that it has in the clips: out [K,V,T,H,W,3].

    needed: indices of the frames, ascending. offsets: (top, left) of the V views.
    """

    def __init__(
        self,
        plan: Sequence[Clip],
        needed: NDArray[np.int64],
        offsets: Sequence[tuple[int, int]],
        out: NDArray[np.uint8],
        *,
        bgr: bool,
    ) -> None:
        self._offsets, self._out, self._bgr = offsets, out, bgr
        slots = np.searchsorted(needed, np.array([clip.frames for clip in plan])).ravel()  # [K*T]
        # Places, as k * T + t, with those of a frame side by side: those of the i-th from ends[i] to ends[i + 1].
        self._places = np.argsort(slots, kind="stable")
        self._ends = np.searchsorted(slots[self._places], np.arange(len(needed) + 1))

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        height, width = self._out.shape[3:5]
        clip, time = self._first(slot)
        for view, (top, left) in enumerate(self._offsets):
            cropped = frame[top : top + height, left : left + width]
            self._out[clip, view, time] = cropped[..., ::-1] if self._bgr else cropped
        self._spread(slot, clip, time)

    def repeat(self, slot: int, of: int) -> None:
        self._spread(slot, *self._first(of))

    def _first(self, slot: int) -> tuple[int, int]:
        clip, time = divmod(int(self._places[self._ends[slot]]), int(self._out.shape[2]))
        return clip, time

    def _spread(self, slot: int, clip: int, time: int) -> None:
        """Copy to all places of a frame from one that is written."""
        for place in self._places[self._ends[slot] : self._ends[slot + 1]].tolist():
            to_clip, to_time = divmod(place, self._out.shape[2])
            if (to_clip, to_time) != (clip, time):
                self._out[to_clip, :, to_time] = self._out[clip, :, time]


def _check_bytes(name: str, what: str, size: int) -> None:
    if size > MAX_CLIP_BYTES:
        raise VideoTooLarge(
            f"{name}: {what} are {size >> 20} MiB, more than the {MAX_CLIP_BYTES >> 20} MiB of one request; ask for "
            "fewer clips or a part of the video",
            source=name,
        )
