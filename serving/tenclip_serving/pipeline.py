"""From an open video to its `Recognition`: (cache) -> wait -> decode, score -> run -> average."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

from tenclip_api.errors import VideoTooLarge
from tenclip_serving.adaptive import RanClips, by_view, only_ran, run_until_settled, salience_order, stage_clips
from tenclip_serving.cache import AnswerCache, cache_key
from tenclip_serving.clip_results import ClipEmitter, recognition, recognized_clips
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.decoding.worker import DecodeWorker
from tenclip_serving.intake.admission import Refusal, Ticket
from tenclip_serving.intake.open_video import OpenVideo
from tenclip_serving.models.repository import ServedModel
from tenclip_serving.requests import ClipResult, Recognition, RecognizedClip
from tenclip_serving.resolve_protocol import most_clip_bytes
from tenclip_serving.resolve_salience import Salience
from tenclip_serving.runtimes import Clips
from tenclip_serving.scheduling.scheduler import ClipScheduler, InferenceResult, OnOutputs
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_serving.telemetry.tracing import stage
from tenclip_serving.thread_pools import Threads
from tenclip_video.aggregate import aggregate
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.clips import VideoClips

# What decodes a video somewhere else; the request has no source.
Decode: TypeAlias = Callable[[DecodeRequest], Awaitable[VideoClips]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One request that was understood and whose video is open.

    decode: with the protocol. deadline: on the monotonic clock. on_clip: called with each clip as soon as it has run.
    salience: what scores the windows, and when to stop. elsewhere: decodes in place of this pipeline's workers, for a
    video that is not open here (None).
    """

    model: ServedModel
    video: OpenVideo | None
    decode: DecodeRequest
    ticket: Ticket
    deadline: float
    on_clip: Callable[[ClipResult], None] | None = None
    salience: Salience = field(default_factory=Salience)
    elsewhere: Decode | None = None

    def emitter(self, clips: tuple[RecognizedClip, ...], *, num_planned: int) -> ClipEmitter | None:
        """For callers who want each clip as soon as it has run."""
        if self.on_clip is None:
            return None
        averaging = self.decode.protocol.averaging
        return ClipEmitter(self.on_clip, clips, self.model.bundle.labels, averaging, num_planned=num_planned)

    @property
    def calibration(self) -> ScoreCalibration | None:
        """That of the bundle, where it was fitted on scores of what this request runs, all of its clips."""
        calibration, protocol = self.model.bundle.info.calibration, self.decode.protocol
        if calibration is None or calibration.protocol != protocol.name or self.salience.stopping is not None:
            return None
        own = protocol.selection.mode != "salient" or self.salience.sampler is self.model.sampler
        return calibration if own else None


class Pipeline:
    """Decodes in the pool, runs clips on the scheduler, averages on a thread. Remembers answers in the cache.

    max_decode_seconds: for one video.
    """

    def __init__(
        self,
        *,
        pool: DecodePool,
        scheduler: ClipScheduler,
        threads: Threads,
        metrics: Metrics,
        cache: AnswerCache,
        max_decode_seconds: float,
    ) -> None:
        self._pool, self._scheduler, self._threads = pool, scheduler, threads
        self._metrics, self._cache, self._max_decode_seconds = metrics, cache, max_decode_seconds
        self._undecoded: Counter[str] = Counter()

    def pending(self) -> Counter[str]:
        """Clips that no runtime has begun, by model: those that wait for one, and those of videos not decoded yet.

        A video counts as one clip where only its length tells how many it has. From any thread.
        """
        undecoded = Counter(dict(self._undecoded))  # copied at once, for the event loop goes on
        return undecoded + Counter(self._scheduler.waiting())

    async def recognize(self, job: Job) -> Recognition:
        """Raises every TenclipError of a bad video; DecodeWorkerDied; what the scheduler raises."""
        video = job.video
        answer = await (self._run(job) if video is None or not self._cache.max_bytes else self._look_up(job, video))
        if video is None or video.fetch_seconds is None:
            return answer
        fetched = {"fetch": video.fetch_seconds}
        self._metrics.observe_stages(fetched)
        return replace(answer, timings={**fetched, **answer.timings})

    async def decode(self, request: DecodeRequest, ticket: Ticket) -> tuple[VideoClips, float]:
        """(clips, time when a worker began). Waits for room for the clips and for a worker.

        Raises every TenclipError of a bad video; DecodeWorkerDied.
        """
        with stage("queue"):
            await ticket.begin(most_clip_bytes(request.protocol, request.spec))
            worker = await self._pool.acquire()
        started = time.perf_counter()
        return await self._decode_on(worker, request, ticket), started

    async def _look_up(self, job: Job, video: OpenVideo) -> Recognition:
        """The answer that was given before to the same question, or a new one."""
        stamp = await video.stamp()
        key = await video.readers.run(cache_key, job.decode, job.model, job.salience)
        answer = self._cache.get(key)
        self._metrics.cache_answers.labels("miss" if answer is None else "hit").inc()
        if answer is None:
            answer = await self._run(job)
            if stamp == await video.stamp():  # else what was decoded may not be what was hashed
                self._cache.put(key, answer)
            return answer
        num_planned = len(answer.clips) if answer.adaptive is None else answer.adaptive.clips_planned
        if (emitter := job.emitter(answer.clips, num_planned=num_planned)) is not None:
            for index in range(len(answer.clips)):
                emitter.emit(index, answer.clip_probabilities[index], answer.clip_features[index])
        return replace(answer, timings=dict.fromkeys(answer.timings, 0.0))

    async def _run(self, job: Job) -> Recognition:
        arrived = time.perf_counter()
        video, started, decode_seconds = await self._decode(job)
        job.ticket.decoded(video.clips.nbytes)
        if job.video is not None:
            job.video.release()
        clips = recognized_clips(video)
        ran = await self._infer(job, video, clips)
        # The memory of the clips is given back before the budget says so.
        video = replace(video, clips=video.clips[:0].copy())
        job.ticket.ran()
        averaged = time.perf_counter()
        protocol = job.decode.protocol
        with stage("aggregate"):
            average = partial(aggregate, ran.inference.outputs, protocol.averaging, views=video.views)
            scores = await self._threads.answers.run(average)
        # The worker reports these times, and may report anything: they are never more than the decoding took.
        preprocess = min(max(0.0, video.preprocess_seconds), decode_seconds)
        score = min(max(0.0, video.score_seconds), decode_seconds - preprocess)
        timings = {
            "decode": decode_seconds - preprocess - score,
            "preprocess": preprocess,
            **({} if video.timeline is None else {"score": score}),
            "queue": started - arrived + ran.inference.queue_seconds,
            "infer": ran.inference.infer_seconds,
            "aggregate": time.perf_counter() - averaged,
        }
        self._metrics.observe_stages(timings)
        stopping, timeline = job.salience.stopping, video.timeline
        if stopping is not None and timeline is not None:
            timeline = only_ran(timeline, ran.places)
            self._metrics.count_adaptive(job.model.name, planned=ran.num_planned, used=len(ran.places))
        return recognition(
            job.model,
            protocol,
            replace(video, timeline=timeline),
            tuple(clips[place] for place in ran.places),
            scores,
            timings,
            calibration=job.calibration,
            adaptive=None if stopping is None else ran.report(stopping),
        )

    async def _decode(self, job: Job) -> tuple[VideoClips, float, float]:
        """(clips, time when that began, seconds of decoding). Waits for room for the clips and for a worker."""
        planned = job.decode.protocol.num_planned or 1
        self._undecoded[job.model.name] += planned
        try:
            video, started = await (self.decode(job.decode, job.ticket) if job.elsewhere is None else _elsewhere(job))
        except asyncio.CancelledError:
            self._metrics.count_saved(job.model.name, job.decode.protocol.num_planned or 0)
            raise
        finally:
            self._undecoded[job.model.name] -= planned
        self._metrics.frames_decoded.inc(video.report.frames_decoded)
        self._metrics.frames_used.inc(len({frame for clip in video.plan for frame in clip.frames}))
        return video, started, time.perf_counter() - started

    async def _decode_on(self, worker: DecodeWorker, request: DecodeRequest, ticket: Ticket) -> VideoClips:
        with stage("decode"):
            try:
                return await self._pool.decode(
                    worker, request, timeout=self._max_decode_seconds, on_leave=ticket.keep_until
                )
            except VideoTooLarge:
                self._metrics.refusals.labels(Refusal.VIDEO_TOO_LARGE).inc()
                raise

    async def _infer(self, job: Job, video: VideoClips, clips: tuple[RecognizedClip, ...]) -> RanClips:
        """Run all clips, or as many as the stopping rule needs. The memory of clips is a view of `video.clips`."""
        emitter = job.emitter(clips, num_planned=len(clips))
        on_outputs = None if emitter is None else emitter.on_outputs(video.views)
        rule, timeline = job.salience.stopping, video.timeline
        with stage("infer", clips=len(video.clips), model=job.model.name):
            if rule is None or timeline is None:
                inference = await self._run_clips(job, video.clips, on_outputs)
                return RanClips(places=tuple(range(len(clips))), inference=inference, num_planned=len(clips))

            async def run_stage(places: Sequence[int]) -> InferenceResult:
                told = None if on_outputs is None else by_view(on_outputs, places, video.views)
                return await self._run_clips(job, stage_clips(video, places), told)

            return await run_until_settled(
                run_stage,
                salience_order(timeline),
                rule,
                job.decode.protocol.averaging,
                views=video.views,
                on_saved=partial(self._metrics.count_saved, job.model.name),
            )

    async def _run_clips(self, job: Job, clips: Clips, on_outputs: OnOutputs | None) -> InferenceResult:
        return await self._scheduler.run(
            job.model.instances,
            clips,
            model=job.model.name,
            seconds_left=job.deadline - time.monotonic(),
            on_outputs=on_outputs,
        )


async def _elsewhere(job: Job) -> tuple[VideoClips, float]:
    """As `Pipeline.decode`. Waits for room for the clips before it asks for them."""
    assert job.elsewhere is not None
    with stage("queue"):
        await job.ticket.begin(most_clip_bytes(job.decode.protocol, job.decode.spec))
    started = time.perf_counter()
    with stage("decode"):
        return await job.elsewhere(job.decode), started
