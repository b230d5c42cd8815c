"""The teachers' scores of many files, in Parquet: each file is looked at once, and a run that was stopped goes on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, StoreFailure, VideoStore, only_chunk
from tenclip_training.omni.rows_file import discard
from tenclip_training.omni.teacher_clips import TeacherClips, TeacherFrames, teacher_clips, teacher_frames
from tenclip_training.omni.teachers import Ensemble, Teacher


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How files are decoded: processes beside each other, and seconds after which one is given up."""

    workers: int = 1
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS


class ScoreStore(VideoStore):
    """Scores [K] of files by one teacher, under its test protocol."""

    def __init__(self, folder: Path, teacher: Teacher) -> None:
        self._teacher = teacher
        columns = [("scores", pa.large_list(pa.float32()))]
        super().__init__(folder / teacher.folder, noun="scores", columns=columns, recipe=teacher.recipe)

    def update(self, videos: Sequence[SetVideo], decoding: Decoding, progress: Progress | None = None) -> int:
        """Score the files that have no scores or have changed; returns how many those were. Raises ModelError."""
        return self.fill(
            videos,
            functools.partial(
                teacher_clips, spec=self._teacher.spec, protocol=self._teacher.protocol, scratch=self.scratch
            ),
            self._columns_of,
            workers=decoding.workers,
            timeout_seconds=decoding.timeout_seconds,
            progress=progress,
        )

    def read(self, videos: Sequence[SetVideo]) -> tuple[dict[str, NDArray[np.float32]], list[StoreFailure]]:
        """The scores by the names of the files; and those that have none."""
        rows, names, failures = self.rows_of(videos)
        flat = np.asarray(only_chunk(rows.column("scores")).flatten().to_numpy(zero_copy_only=False), np.float32)
        return dict(zip(names, np.split(flat, max(len(names), 1)), strict=False)), failures

    def _columns_of(self, video: SetVideo, clips: TeacherClips) -> dict[str, Any]:
        try:
            return {"scores": self._teacher.scores(clips, of=video.name)}
        finally:
            discard(clips.clips)


@dataclass(frozen=True, eq=False)
class FrameScores:
    """Of one video. seconds: [F], when each frame is shown; scores: float32 [F,K]; duration in seconds."""

    seconds: NDArray[np.float64]
    scores: NDArray[np.float32]
    duration: float


class FrameScoreStore(VideoStore):
    """Scores [F,K] of frames of videos by one teacher of frames."""

    def __init__(self, folder: Path, teacher: Teacher, *, rate: float) -> None:
        self._teacher, self._rate = teacher, rate
        columns = [
            ("duration", pa.float64()),
            ("seconds", pa.large_list(pa.float64())),
            ("scores", pa.large_list(pa.float32())),
        ]
        recipe = f"{teacher.recipe}, frames at {rate:g} a second"
        super().__init__(folder / f"{teacher.folder}-{rate:g}fps", noun="frame-scores", columns=columns, recipe=recipe)

    def update(self, videos: Sequence[SetVideo], decoding: Decoding, progress: Progress | None = None) -> int:
        """Score the videos that have no scores or have changed; returns how many those were. Raises ModelError."""
        return self.fill(
            videos,
            functools.partial(teacher_frames, spec=self._teacher.spec, rate=self._rate, scratch=self.scratch),
            self._columns_of,
            workers=decoding.workers,
            timeout_seconds=decoding.timeout_seconds,
            progress=progress,
        )

    def read(self, videos: Sequence[SetVideo]) -> tuple[dict[str, FrameScores], list[StoreFailure]]:
        """The scores by the names of the videos; and those that have none."""
        rows, names, failures = self.rows_of(videos)
        found = {}
        durations = rows["duration"].to_numpy()
        for name, duration, seconds, scores in zip(
            names, durations, _lists(rows["seconds"]), _lists(rows["scores"]), strict=True
        ):
            found[name] = FrameScores(
                seconds.astype(np.float64), scores.astype(np.float32).reshape(len(seconds), -1), float(duration)
            )
        return found, failures

    def _columns_of(self, video: SetVideo, sampled: TeacherFrames) -> dict[str, Any]:
        try:
            scores = self._teacher.frame_scores(sampled.frames, of=video.name)
        finally:
            discard(sampled.frames)
        return {"duration": sampled.duration, "seconds": sampled.seconds, "scores": scores.ravel()}


def _lists(column: Any) -> list[NDArray[Any]]:
    """The lists of a column, as arrays: Python's own numbers would take ten times the memory."""
    if not len(column):
        return []
    column = column.combine_chunks()
    ends = np.cumsum(column.value_lengths().to_numpy())
    return np.split(column.flatten().to_numpy(), ends[:-1])


def score_files(
    ensemble: Ensemble, videos: Sequence[SetVideo], folder: Path, decoding: Decoding, progress: Progress | None = None
) -> tuple[dict[str, NDArray[np.float32]], list[StoreFailure]]:
    """The ensemble's scores [K] by the names of the files, and the files of which there are none.

    Raises ModelError for a teacher whose scores are no numbers, DatasetError for files in `folder` that are damaged.
    """
    parts, failures = [], {}
    for number, teacher in enumerate(ensemble.teachers):
        store = ScoreStore(folder, teacher)
        store.update(videos, decoding, _of_all(progress, number, len(ensemble.teachers)))
        scores, failed = store.read(videos)
        parts.append(scores)
        failures.update({f.video: f for f in failed})
    names = [v.name for v in videos if all(v.name in part for part in parts)]
    return {name: ensemble.mean([part[name] for part in parts]) for name in names}, list(failures.values())


def score_frames(
    ensemble: Ensemble,
    videos: Sequence[SetVideo],
    folder: Path,
    decoding: Decoding,
    *,
    rate: float,
    progress: Progress | None = None,
) -> tuple[dict[str, FrameScores], list[StoreFailure]]:
    """The ensemble's scores of frames by the names of the videos, and the videos of which there are none."""
    parts, failures = [], {}
    for number, teacher in enumerate(ensemble.teachers):
        store = FrameScoreStore(folder, teacher, rate=rate)
        store.update(videos, decoding, _of_all(progress, number, len(ensemble.teachers)))
        scores, failed = store.read(videos)
        parts.append(scores)
        failures.update({f.video: f for f in failed})
    found = {}
    for name in (v.name for v in videos if all(v.name in part for part in parts)):
        mean = ensemble.mean([part[name].scores for part in parts])
        found[name] = FrameScores(parts[0][name].seconds, mean, parts[0][name].duration)
    return found, list(failures.values())


def _of_all(progress: Progress | None, number: int, teachers: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, teachers * total)
