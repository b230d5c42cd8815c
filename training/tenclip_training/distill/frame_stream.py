"""What a teacher says of many videos: threads decode frames, and the teacher looks at them a part at a time.

Memory is that of some parts of `PART` frames, however long the videos are: 4 for each thread, and one.

S the side of the teacher's frames, M frames of a video's grid, K classes.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import NoFrames, VideoError
from tenclip_data.samples import Sample
from tenclip_training.data.failures import Failure
from tenclip_training.distill.networks import TORCH_BATCH
from tenclip_training.distill.teacher import FrameTeacher
from tenclip_video.video import open_video

# The batch of torch: batches are the same ones as if the teacher were given all frames of a video at once, unless some
# of them cannot be decoded.
PART = TORCH_BATCH
# How often a thread looks whether anybody still waits for its frames.
_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class VideoOutputs:
    """Outputs for a video's grid. frames: int64 [M], ascending; times: in seconds [M]; logits: float32 [M,K]."""

    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    logits: NDArray[np.float32]


def grid(times: NDArray[np.float64], rate: float | None) -> NDArray[np.int64]:
    """Indices of the frames to look at: the first one on or after each multiple of 1 / rate seconds; None: all.

    >>> grid(np.arange(10) / 10, 4.0).tolist()
    [0, 3, 5, 8]
    """
    if rate is None:
        return np.arange(len(times))
    # Times are rounded decimals of the container: a frame meant for the tick may lie a hair before it.
    ticks = np.arange(0.0, times[-1] + 1e-6, 1 / rate) - 1e-6
    found = np.searchsorted(times, ticks)
    return np.unique(found[found < len(times)])


def teacher_outputs(
    samples: Sequence[Sample], teacher: FrameTeacher, rate: float | None, *, threads: int
) -> Iterator[tuple[Sample, VideoOutputs | Failure]]:
    """The outputs for each video's grid, in the order of the videos; a Failure for one that cannot be read.

    Raises CheckpointError where the teacher's outputs are not finite, which names the video.
    """
    stream = _Stream(teacher, rate, parts=2 * threads)
    with ThreadPoolExecutor(threads) as pool:
        try:
            waiting = iter(samples)
            jobs = [(s, stream.begin(s, pool)) for s in islice(waiting, 2 * threads)]
            while jobs:
                sample, job = jobs.pop(0)
                yield sample, stream.finish(job)
                if (following := next(waiting, None)) is not None:
                    jobs.append((following, stream.begin(following, pool)))
        finally:
            stream.abandoned.set()
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(eq=False)
class _Job:
    """One video. parts: (slots, logits) so far, in the order in which they were decoded. ended: there are no more."""

    sample: Sample
    decoded: Future[_Decoded | Failure] = field(default_factory=Future)
    parts: list[tuple[list[int], NDArray[np.float32]]] = field(default_factory=list)
    ended: bool = False

    def outputs(self) -> VideoOutputs | Failure:
        """Of a video that has ended."""
        decoded = self.decoded.result()
        if isinstance(decoded, Failure):
            return decoded
        logits = np.empty((len(decoded.frames), self.parts[0][1].shape[1]), np.float32)
        for slots, found in self.parts:
            logits[slots] = found  # a frame that was decoded again counts as it was last
        for slot, of in decoded.repeats:
            logits[slot] = logits[of]
        return VideoOutputs(decoded.frames, decoded.times, logits)


@dataclass(frozen=True, eq=False)
class _Decoded:
    """The grid of a video that is decoded. repeats: (slot, of): frames that could not be had, and what stands in."""

    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    repeats: list[tuple[int, int]]


class _Abandoned(Exception):
    """Nobody waits for frames any more."""


class _Stream:
    """Frames of all videos that are being decoded, in one queue. `abandoned` ends the threads."""

    def __init__(self, teacher: FrameTeacher, rate: float | None, *, parts: int) -> None:
        self.teacher, self.rate = teacher, rate
        self.abandoned = threading.Event()
        # (video, slots, frames); without frames: the video has ended.
        self._ready: queue.Queue[tuple[_Job, list[int], NDArray[np.uint8] | None]] = queue.Queue(parts)

    def begin(self, sample: Sample, pool: ThreadPoolExecutor) -> _Job:
        job = _Job(sample)
        job.decoded = pool.submit(self._decode, job)
        return job

    def finish(self, job: _Job) -> VideoOutputs | Failure:
        """The teacher looks at whatever is decoded, until this video has ended."""
        while not job.ended:
            of, slots, frames = self._ready.get()
            if frames is None:
                of.ended = True
            else:
                of.parts.append((slots, self.teacher(frames, of=[of.sample.name] * len(frames))))
        return job.outputs()

    def put(self, job: _Job, slots: list[int], frames: NDArray[np.uint8] | None) -> None:
        """Called by threads; waits while there is much to look at. Raises _Abandoned."""
        while not self.abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self._ready.put((job, slots, frames), timeout=_SECONDS)
                return
        raise _Abandoned

    def _decode(self, job: _Job) -> _Decoded | Failure:
        try:
            return self._read(job)
        except VideoError as err:
            return Failure.of(job.sample, err)
        finally:
            self.put(job, [], None)

    def _read(self, job: _Job) -> _Decoded:
        sample = job.sample
        with open_video(sample.source(), name=sample.name) as video:
            indices = grid(video.times, self.rate)
            if not len(indices):
                raise NoFrames(f"{sample.name}: holds no frames", source=sample.name)
            sink = _Parts(self, job)
            video.read_into(sink, indices, self.teacher.spec.resize)
            sink.flush()
            return _Decoded(indices, video.times[indices], sink.repeats)


class _Parts:
    """A `FrameSink` that hands frames on as soon as there are `PART` of them, as the teacher sees them."""

    def __init__(self, stream: _Stream, job: _Job) -> None:
        self._stream, self._job = stream, job
        self._slots: list[int] = []
        self._frames: list[NDArray[np.uint8]] = []
        self.repeats: list[tuple[int, int]] = []

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        self._slots.append(slot)
        self._frames.append(self._stream.teacher.center_crop(frame[None])[0].copy())
        if len(self._slots) == PART:
            self.flush()

    def repeat(self, slot: int, of: int) -> None:
        self.repeats.append((slot, of))

    def flush(self) -> None:
        """Hand on what there is."""
        if self._slots:
            slots, frames, self._slots, self._frames = self._slots, self._frames, [], []
            self._stream.put(self._job, slots, np.stack(frames))
