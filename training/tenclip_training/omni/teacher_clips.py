"""What a teacher sees of a file: the clips of its own test protocol, or frames at a low rate. No torch: decoders of
their own import this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, NoFrames
from tenclip_training.curation.frame_codes import sample_indices
from tenclip_training.curation.video_sets import SetVideo
from tenclip_video.clips import read_clips
from tenclip_video.images import read_image
from tenclip_video.protocols import Protocol
from tenclip_video.spec import ClipSpec
from tenclip_video.still_clips import read_image_clips
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import open_video


@dataclass(frozen=True, eq=False)
class TeacherClips:
    """clips: uint8 [C*V,T,H,W,3] in the teacher's colour order; the V views of a clip follow each other."""

    clips: NDArray[np.uint8]
    views: int


@dataclass(frozen=True, eq=False)
class TeacherFrames:
    """frames: uint8 [F,S,S,3] RGB; seconds: [F], when each is shown; duration of the video in seconds."""

    frames: NDArray[np.uint8]
    seconds: NDArray[np.float64]
    duration: float


def teacher_clips(video: SetVideo, *, spec: ClipSpec, protocol: Protocol) -> TeacherClips:
    """The clips of a video, or of its part, or of an image, as `tenclip evaluate` would read them.

    Raises VideoError, and InvalidRequest for a part in which there is nothing.
    """
    if video.is_image:
        read = read_image_clips(video.path, spec, protocol, name=video.name)
    else:
        part = replace(protocol.selection, start_seconds=video.start_seconds, end_seconds=video.end_seconds)
        read = read_clips(video.path, spec, replace(protocol, selection=part), name=video.name)
    return TeacherClips(read.clips, read.views)


def teacher_frames(video: SetVideo, *, spec: ClipSpec, rate: float) -> TeacherFrames:
    """The frames shown at 0, 1/rate, 2/rate ... seconds of a video, scaled and cropped for a network of frames.

    Raises VideoError, NoFrames for a part that lies behind the end.
    """
    if video.is_image:
        return TeacherFrames(_cropped(read_image(video.path, spec.resize, name=video.name)[None], spec), np.zeros(1), 0)
    with open_video(video.path, name=video.name) as opened:
        duration = opened.info.duration_seconds
        start = video.start_seconds or 0.0
        indices = np.unique(sample_indices(opened.times, duration, start, video.end_seconds, rate=rate))
        if not len(indices):
            raise NoFrames(
                f"{video.name}: no frame at {start:g} s or later; it is {duration:g} s long", source=video.name
            )
        return TeacherFrames(_cropped(opened.read_frames(indices, spec.resize), spec), opened.times[indices], duration)


def _cropped(frames: NDArray[np.uint8], spec: ClipSpec) -> NDArray[np.uint8]:
    """The centre of frames [F,H,W,3]: [F,S,S,3]."""
    try:
        ((top, left),) = crop_offsets(frames.shape[1], frames.shape[2], spec.crop, "center")
    except ValueError as err:
        raise InvalidRequest(str(err)) from err
    return frames[:, top : top + spec.crop, left : left + spec.crop]
