"""A teacher that runs here: a bundle's folder or a checkpoint, on a runtime of the server."""

from __future__ import annotations

import functools
from pathlib import Path

from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.omni.teachers import Teacher, open_teacher
from tenclip_training.sampler.teacher import TeacherWindows, WindowTeacher
from tenclip_training.sampler.windows import PROTOCOL, WindowClips, WindowGrid, read_window_clips
from tenclip_video.spec import ClipSpec


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


def _reader(spec: ClipSpec, grid: WindowGrid) -> functools.partial[WindowClips]:
    return functools.partial(read_window_clips, spec=spec, grid=grid)


def _judge(teacher: Teacher, video: SetVideo, read: WindowClips) -> TeacherWindows:
    return TeacherWindows(read.seconds, teacher.clip_scores(read.clips, of=video.name))
