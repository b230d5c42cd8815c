"""Videos -> rows in parts, several videos in flight: what one process of a batch does, whoever gives it its videos."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

from tenclip_api.errors import Cancelled, ModelError, NoFrames, ServerUnavailable, TenclipError, WorkerEnded
from tenclip_batch.attempts import Attempts
from tenclip_batch.dataset import ATTEMPTS
from tenclip_batch.extractor import VideoExtractor
from tenclip_batch.files import write_features
from tenclip_batch.options import OutputOptions
from tenclip_batch.parts import PartFormat, write_part
from tenclip_batch.rows import VideoResult, failed, result_of
from tenclip_batch.sources import BatchVideo, ParquetCell, Source, stamp_of
from tenclip_client._concurrent import run_bounded
from tenclip_features.stamps import VideoStamp

# Not about one video: the next one would end in the same way.
_ABOUT_ALL = (Cancelled, ModelError, ServerUnavailable)


@dataclass(frozen=True)
class WorkerPlan:
    """What a worker needs beside its videos. files: where features go, by video, with --format npy and npz."""

    folder: Path
    form: PartFormat
    output: OutputOptions
    by_content: bool = False
    files: Mapping[str, str] = field(default_factory=dict)


class PartBuffer:
    """Gathers results, and writes a part when it is full. Its memory is bounded by the size of a part."""

    def __init__(
        self, plan: WorkerPlan, new_stem: Callable[[], str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._new_stem, self._clock = plan, new_stem, clock
        self._results: list[VideoResult] = []
        self._num_clips = 0
        self._since = 0.0

    def add(self, result: VideoResult) -> None:
        """Raises DatasetError where the disk refuses."""
        if not self._results:
            self._since = self._clock()
        if result.file is not None:  # its features are there already
            result = replace(result, features=result.features[:0])
        self._results.append(result)
        self._num_clips += result.num_clips
        output = self._plan.output
        full = self._num_clips >= output.part_clips or len(self._results) >= output.part_videos
        if full or self._clock() - self._since >= output.part_seconds:
            self.write()

    def write(self) -> None:
        """Write what is there as a part, if anything is. Raises DatasetError."""
        if not self._results:
            return
        write_part(self._plan.folder, self._new_stem(), self._results, self._plan.form)
        self._results, self._num_clips = [], 0


async def work_through(
    extractor: VideoExtractor,
    videos: Iterable[BatchVideo],
    plan: WorkerPlan,
    buffer: PartBuffer,
    *,
    on_result: Callable[[VideoResult], None],
) -> None:
    """Every video becomes a row, done or failed. What is finished is written, whatever ends this.

    A video that ended the process that worked on it before runs alone. on_result: called with each result when it has
    been handed to a part. Raises what is not about one video: DatasetError of a disk that refuses, ModelError.
    """
    attempts = Attempts(plan.folder / ATTEMPTS)
    suspects: list[BatchVideo] = []
    others: list[BatchVideo] = []
    for video in videos:
        (suspects if attempts.count(video.name) else others).append(video)
    try:
        for group, concurrency in ((others, extractor.in_flight), (suspects, 1)):
            await _work_on(extractor, group, plan, buffer, attempts, concurrency, on_result)
    finally:
        buffer.write()


async def _work_on(
    extractor: VideoExtractor,
    videos: Sequence[BatchVideo],
    plan: WorkerPlan,
    buffer: PartBuffer,
    attempts: Attempts,
    concurrency: int,
    on_result: Callable[[VideoResult], None],
) -> None:
    async def work(video: BatchVideo) -> VideoResult:
        return await _result(extractor, video, plan, attempts)

    async with aclosing(run_bounded(videos, work, concurrency=concurrency)) as finished:
        async for _, outcome in finished:
            if isinstance(outcome, TenclipError):
                raise outcome
            buffer.add(outcome)
            on_result(outcome)


async def _result(extractor: VideoExtractor, video: BatchVideo, plan: WorkerPlan, attempts: Attempts) -> VideoResult:
    try:
        attempts.begin(video.name)  # its DatasetError is not about this video
    except WorkerEnded as err:
        return failed(video.name, stamp_of(video.source), err)  # not read, which might end this process, too
    stamp = None
    try:
        # Before it is read: if it changes meanwhile, the next run sees that.
        stamp = await _stamp(video.source, by_content=plan.by_content)
        found = await extractor.run(video)
        if not found.clips:
            raise NoFrames(f"{video.name}: no clips came of it", source=video.name)
    except TenclipError as err:
        if isinstance(err, _ABOUT_ALL):
            raise
        return failed(video.name, stamp, err)
    finally:
        attempts.end(video.name)
    result = result_of(video.name, stamp, found, predict=plan.output.task == "predict")
    file = plan.files.get(video.name)
    if file is None:
        return result
    await asyncio.to_thread(write_features, plan.folder, file, result)
    return replace(result, file=file)


async def _stamp(source: Source, *, by_content: bool) -> VideoStamp | None:
    if by_content and not isinstance(source, ParquetCell):  # reads all of the video
        return await asyncio.to_thread(stamp_of, source, with_hash=True)
    # At once, without giving way to others: cells of Parquet are asked for in their order.
    return stamp_of(source)
