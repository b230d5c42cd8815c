"""The whole way from a video to the clips that a network sees, in one call. Training's evaluation, serving and batch
extraction all come through here, so they see the same pixels.

open -> plan -> (score) -> decode -> crop -> clips
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, VideoTooLarge
from tenclip_video.protocols import CropMode
from tenclip_video.salience import ClipScorer, MotionEnergyScorer, SalienceTimeline, select_salient
from tenclip_video.sampling import Clip, ClipSelection, clip_seconds, frames_needed, plan_clips
from tenclip_video.source import Limits, VideoSource
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import crop_views
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
    of all the time of decoding.
    """

    clips: NDArray[np.uint8]
    plan: tuple[Clip, ...]
    seconds: tuple[tuple[float, float], ...]
    views: int
    info: VideoInfo
    report: DecodeReport
    timeline: SalienceTimeline | None = None
    preprocess_seconds: float = 0.0


def read_clips(
    source: VideoSource,
    spec: ClipSpec,
    selection: ClipSelection | None = None,
    *,
    crop: CropMode | Literal["none"] = "center",
    fully_convolutional: bool = False,
    rng: np.random.Generator | None = None,
    scorer: ClipScorer | None = None,
    timeline: bool = False,
    name: str | None = None,
    limits: Limits | None = None,
    allocate: ClipAllocator = allocate_clips,
) -> VideoClips:
    """Decode the clips that `selection` (ten uniform ones by default) names, cropped as the protocol says.

    crop: "none" keeps the whole scaled frame. fully_convolutional: crop to `spec.fully_convolutional_crop`.
    rng: for random selections. scorer: for salient ones and the timeline (motion energy by default).
    timeline: score every window even where the selection does not need it.
    allocate: gives the memory that the clips are written into, once all of their frames are decoded.
    Raises a VideoError for a bad video, InvalidRequest for a selection or crop that does not fit it.
    """
    selection = selection or ClipSelection()
    side = crop_side(spec, fully_convolutional=fully_convolutional)
    with open_video(source, name=name, limits=limits) as video:
        plan, salience = plan_video(video, spec, selection, rng=rng, scorer=scorer, timeline=timeline)
        clips, cropping_seconds = _decode(video, spec, plan, side, crop, allocate)
        seconds = tuple(clip_seconds(c, video.times, video.info.duration_seconds) for c in plan)
        views = len(clips) // len(plan)
        preprocess = video.scaling_seconds + cropping_seconds
        return VideoClips(clips, tuple(plan), seconds, views, video.info, video.report, salience, preprocess)


def crop_side(spec: ClipSpec, *, fully_convolutional: bool) -> int:
    """Side of the square crop. Raises InvalidRequest where the family has no fully-convolutional protocol."""
    if not fully_convolutional:
        return spec.crop
    if spec.fully_convolutional_crop is None:
        raise InvalidRequest("this model has no fully-convolutional crop; ask for pooled prediction")
    return spec.fully_convolutional_crop


def plan_video(
    video: Video,
    spec: ClipSpec,
    selection: ClipSelection,
    *,
    rng: np.random.Generator | None = None,
    scorer: ClipScorer | None = None,
    timeline: bool = False,
) -> tuple[list[Clip], SalienceTimeline | None]:
    """The clips of an open video; with the salience of its windows where it is asked for or needed."""
    duration = video.info.duration_seconds
    try:
        plan = plan_clips(video.times, duration, spec, selection, rng=rng)
        windows = plan
        if timeline and selection.mode != "salient":
            windows = plan_clips(video.times, duration, spec, replace(selection, mode="salient"))
    except ValueError as err:
        raise InvalidRequest(f"{video.name}: {err}") from err
    if not timeline and selection.mode != "salient":
        return plan, None
    scorer = scorer or MotionEnergyScorer()
    scores = scorer.score(video, windows)
    selected = np.zeros(len(windows), bool)
    if selection.mode == "salient":
        chosen = select_salient(scores, selection.num_clips)
        plan = [windows[i] for i in chosen]
        selected[chosen] = True
    else:
        planned = set(plan)
        selected[:] = [w in planned for w in windows]
    seconds = tuple(clip_seconds(c, video.times, duration) for c in windows)
    return plan, SalienceTimeline(scorer.name, seconds, scores, selected)


def _decode(
    video: Video,
    spec: ClipSpec,
    plan: Sequence[Clip],
    side: int,
    crop: CropMode | Literal["none"],
    allocate: ClipAllocator,
) -> tuple[NDArray[np.uint8], float]:
    """([K*V,T,H,W,3], seconds of cropping). Every frame is decoded once, however many clips it is in."""
    height, width = video.frame_size(spec.resize)
    needed = frames_needed(plan)
    _check_bytes(video.name, f"{len(needed)} frames of {height}x{width}", len(needed) * height * width * 3)
    if crop != "none":
        height = width = side
    views = 1 if crop in ("none", "center") else 3
    shape = (len(plan) * views, spec.num_frames, height, width, 3)
    _check_bytes(video.name, f"{shape[0]} clips of {spec.num_frames}x{height}x{width}", math.prod(shape))
    frames = video.read_frames(needed, spec.resize)
    if spec.color_order == "bgr":
        frames = frames[..., ::-1]
    try:
        cropped = [frames] if crop == "none" else crop_views(frames, side, crop)
    except ValueError as err:
        raise InvalidRequest(f"{video.name}: {err}") from err
    clips = allocate(shape)
    started = time.perf_counter()
    out = clips.reshape(len(plan), views, *shape[1:])
    for i, clip in enumerate(plan):
        slots = np.searchsorted(needed, clip.frames)
        for j, view in enumerate(cropped):
            out[i, j] = view[slots]
    return clips, time.perf_counter() - started


def _check_bytes(name: str, what: str, size: int) -> None:
    if size > MAX_CLIP_BYTES:
        raise VideoTooLarge(
            f"{name}: {what} are {size >> 20} MiB, more than the {MAX_CLIP_BYTES >> 20} MiB of one request; ask for "
            "fewer clips or a part of the video",
            source=name,
        )
