"""What a teacher sees of a file: the clips of its own test protocol, or frames at a low rate. No torch: decoders of
their own import this.

However long a video is, a process holds some frames of it: what is large is written to a file as it is decoded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, NoFrames
from tenclip_training.curation.frame_codes import sample_indices
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.rows_file import MAX_HELD_BYTES, Rows, RowsFile, RowsSink, discard, new_file
from tenclip_video.clips import allocate_clips, read_clips
from tenclip_video.images import read_image
from tenclip_video.protocols import Protocol
from tenclip_video.spec import ClipSpec
from tenclip_video.still_clips import read_image_clips
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import open_video


@dataclass(frozen=True, eq=False)
class TeacherClips:
    """clips: uint8 [C*V,T,H,W,3] in the teacher's colour order; the V views of a clip follow each other."""

    clips: Rows
    views: int


@dataclass(frozen=True, eq=False)
class TeacherFrames:
    """frames: uint8 [F,S,S,3] RGB; seconds: [F], when each is shown; duration of the video in seconds."""

    frames: Rows
    seconds: NDArray[np.float64]
    duration: float


def teacher_clips(video: SetVideo, *, spec: ClipSpec, protocol: Protocol, scratch: Path) -> TeacherClips:
    """The clips of a video, or of its part, or of an image, as `tenclip evaluate` would read them.

    scratch: folder for what is too large for memory. Raises VideoError, and InvalidRequest for a part in which there is
    nothing.
    """
    if video.is_image:
        read = read_image_clips(video.path, spec, protocol, name=video.name)
    else:
        part = replace(protocol.selection, start_seconds=video.start_seconds, end_seconds=video.end_seconds)
        memory = _ClipMemory(scratch, video.name)
        try:
            read = read_clips(
                video.path, spec, replace(protocol, selection=part), name=video.name, allocate=memory.allocate
            )
        except BaseException:
            memory.discard()
            raise
        return TeacherClips(memory.rows(read.clips), read.views)
    return TeacherClips(read.clips, read.views)


def teacher_frames(video: SetVideo, *, spec: ClipSpec, rate: float, scratch: Path) -> TeacherFrames:
    """The frames shown at 0, 1/rate, 2/rate ... seconds of a video, scaled and cropped for a network of frames.

    scratch: as above. Raises VideoError, NoFrames for a part that lies behind the end.
    """
    if video.is_image:
        image = read_image(video.path, spec.resize, name=video.name)
        top, left = _center(image.shape[0], image.shape[1], spec.crop)
        return TeacherFrames(image[None, top : top + spec.crop, left : left + spec.crop], np.zeros(1), 0)
    with open_video(video.path, name=video.name) as opened:
        duration = opened.info.duration_seconds
        start = video.start_seconds or 0.0
        indices = np.unique(sample_indices(opened.times, duration, start, video.end_seconds, rate=rate))
        if not len(indices):
            raise NoFrames(
                f"{video.name}: no frame at {start:g} s or later; it is {duration:g} s long", source=video.name
            )
        offset = _center(*opened.frame_size(spec.resize), spec.crop)
        sink = RowsSink(scratch, (len(indices), spec.crop, spec.crop, 3), offset, name=video.name)
        try:
            opened.read_into(sink, indices, spec.resize)
        except BaseException:
            discard(sink.rows())
            raise
        finally:
            sink.close()
        return TeacherFrames(sink.rows(), opened.times[indices], duration)


def _center(height: int, width: int, crop: int) -> tuple[int, int]:
    """(top, left) of the centre of a frame."""
    try:
        ((top, left),) = crop_offsets(height, width, crop, "center")
    except ValueError as err:
        raise InvalidRequest(str(err)) from err
    return top, left


class _ClipMemory:
    """Memory for the clips of one video: of this process, or where they are large of a file that is mapped."""

    def __init__(self, scratch: Path, name: str) -> None:
        self._scratch, self._name = scratch, name
        self._file: RowsFile | None = None

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        size = math.prod(shape)
        if size <= MAX_HELD_BYTES:
            return allocate_clips(shape)
        self._file = RowsFile(new_file(self._scratch, size, name=self._name), shape)
        return np.memmap(self._file.path, np.uint8, "r+", shape=shape)

    def rows(self, clips: NDArray[np.uint8]) -> Rows:
        """The clips that were written."""
        if self._file is None:
            return clips
        assert isinstance(clips, np.memmap)
        clips.flush()
        return self._file

    def discard(self) -> None:
        if self._file is not None:
            discard(self._file)
