"""A teacher that runs here: a bundle's folder or a checkpoint, on a runtime of the server."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.teachers import Teacher, open_teacher
from tenclip_training.sampler.teacher import PROTOCOL, TeacherWindows, WindowTeacher
from tenclip_training.sampler.windows import WindowGrid
from tenclip_video.clips import read_clips
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video


@dataclass(frozen=True, eq=False)
class WindowClips:
    """clips: uint8 [M,T,S,S,3]; seconds: float64 [M,2], their (start, end)."""

    clips: NDArray[np.uint8]
    seconds: NDArray[np.float64]


def local_teacher(name: str, *, labels: Path | None = None, threads: int = 0) -> WindowTeacher:
    """Load a teacher. labels: a file with its classes, where it does not name them. threads: 0, the runtime's choice.

    Raises as `open_teacher`.
    """
    teacher = open_teacher(name, labels=labels, protocol=PROTOCOL.name, threads=threads)
    return WindowTeacher(
        name=teacher.name,
        identity=teacher.identity,
        spec=teacher.spec,
        labels=teacher.labels,
        activation=teacher.scoring.activation,
        reader=functools.partial(_reader, teacher.spec),
        judge=functools.partial(_judge, teacher),
    )


def read_window_clips(video: SetVideo, *, spec: ClipSpec, grid: WindowGrid) -> WindowClips:
    """The candidate windows of a video as the network sees them. Raises VideoError, InvalidRequest."""
    with open_video(video.path, name=video.name) as opened:
        selection = grid.selection(opened, spec)
    read = read_clips(video.path, spec, replace(PROTOCOL, selection=selection), name=video.name)
    return WindowClips(read.clips, np.array(read.seconds, np.float64))


def _reader(spec: ClipSpec, grid: WindowGrid) -> functools.partial[WindowClips]:
    return functools.partial(read_window_clips, spec=spec, grid=grid)


def _judge(teacher: Teacher, video: SetVideo, read: WindowClips) -> TeacherWindows:
    return TeacherWindows(read.seconds, teacher.clip_scores(read.clips, of=video.name))
