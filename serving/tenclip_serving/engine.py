"""The core: a video in, a `Recognition` out. No protobuf, no gRPC.

admit -> look the model and the protocol up -> open the video -> `Pipeline`
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace

import numpy as np

from tenclip_api.errors import DeadlineExceeded
from tenclip_serving.cache import AnswerCache
from tenclip_serving.config import ServerConfig
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.intake.admission import Admission, Refusal, Ticket
from tenclip_serving.intake.open_video import Intake
from tenclip_serving.intake.spool import Spool, SpoolFile
from tenclip_serving.live.connect import LiveRules
from tenclip_serving.live.requests import LiveCounters, LiveRequest, LiveUpdate
from tenclip_serving.live.session import LiveHost
from tenclip_serving.live.streams import LiveStreams
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.models.statistics import Statistics
from tenclip_serving.neighbours.indexes import Indexes
from tenclip_serving.neighbours.requests import MAX_K, SimilarClips, SimilarRequest
from tenclip_serving.pipeline import Decode, Job, Pipeline
from tenclip_serving.requests import UPLOAD, ClipResult, Recognition, RecognitionRequest, Upload
from tenclip_serving.resolve_protocol import resolve_protocol
from tenclip_serving.resolve_salience import Salience, resolve_salience
from tenclip_serving.runtimes import Clips, Outputs
from tenclip_serving.runtimes.out_of_memory import num_splits
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tenclip_serving.telemetry.logs import log
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_serving.telemetry.tracing import stage
from tenclip_serving.thread_pools import Threads
from tenclip_video.clips import VideoClips
from tenclip_video.filmstrip import MAX_PICTURES
from tenclip_video.protocols import Protocol


class Engine:
    """Decodes in a pool of processes, runs clips on the runtime's thread, averages.

    `start` before the first request, `close` after the last; `repository` may be replaced in between.
    """

    def __init__(self, config: ServerConfig, repository: Repository, metrics: Metrics | None = None) -> None:
        self.config = config
        self.repository = repository
        self.metrics = metrics or Metrics()
        self.threads = Threads()
        self.admission = _admission(config, self.metrics)
        self.pool = _pool(config, self.metrics)
        self.spool = _spool(config, self.metrics)
        policy = config.uri_policy
        policy.check_installed()
        self.intake = Intake(roots=config.allow_roots, policy=policy, spool=self.spool, threads=self.threads)
        self.statistics = Statistics()
        self.indexes = Indexes(config.index_folders, watch_seconds=config.watch_seconds)
        self._scheduler = ClipScheduler(on_batch=self.metrics.count_batch, on_saved=self.metrics.count_saved)
        self._pipeline = Pipeline(
            pool=self.pool,
            scheduler=self._scheduler,
            threads=self.threads,
            metrics=self.metrics,
            cache=AnswerCache(config.cache_mb << 20, on_bytes=self.metrics.cache_bytes.set),
            max_decode_seconds=config.max_decode_seconds,
        )
        live_policy = config.live_policy
        live_policy.check_installed()
        self.streams = LiveStreams(
            LiveHost(
                scheduler=self._scheduler,
                rules=LiveRules(policy=live_policy, names=self.threads.names),
                metrics=self.metrics,
                sandbox=config.sandbox_limits,
                limits=config.video_limits,
            ),
            max_streams=config.max_live_streams,
        )
        self.metrics.load.pending = self._pending
        self.metrics.load.splits = self._splits
        self.metrics.load.wait_seconds = lambda: self.admission.wait_seconds

    def _pending(self) -> dict[str, int]:
        """Clips that wait, by the name of every model that is served."""
        return dict.fromkeys(self.repository.models, 0) | self._pipeline.pending()

    def _splits(self) -> dict[str, int]:
        """Batches halved for lack of a GPU's memory, by the name of every model that is served."""
        found = dict.fromkeys(self.repository.models, 0)
        for model in self.repository:
            found[model.name] += sum(num_splits(runtime) for runtime in model.instances)
        return found

    async def start(self, *, workers: bool = True) -> None:
        """Returns when the decode workers are ready, and the indexes open.

        workers: False where all videos are decoded elsewhere, see `recognize`.
        Raises DecodeWorkerDied when a worker does not start, and what opening an index does.
        """
        if workers:
            await self.pool.start()
        await self.indexes.start(self.repository)

    async def close(self, seconds: float | None = None) -> bool:
        """Ends the decode workers and the threads. False when one is left: a runtime, name, file or disk that hangs.

        seconds: for batches that run; None: the settings' shutdown_grace_seconds.
        """
        await self.pool.close()
        await self.indexes.close()
        loop = asyncio.get_running_loop()
        seconds = self.config.shutdown_grace_seconds if seconds is None else seconds
        hanging = await loop.run_in_executor(None, self._scheduler.close, seconds)
        for model in hanging:
            log(logging.WARNING, f"a batch has not ended in {seconds:.3g} seconds: it is not waited for", model=model)
        closing = (self.spool.close, self.threads.close)
        return all(await asyncio.gather(*(loop.run_in_executor(None, close) for close in closing))) and not hanging

    async def recognize(
        self,
        request: RecognitionRequest,
        *,
        seconds_left: float | None = None,
        ticket: Ticket | None = None,
        on_clip: Callable[[ClipResult], None] | None = None,
        elsewhere: Decode | None = None,
    ) -> Recognition:
        """Decode one video once, run its clips once.

        seconds_left: until the caller's deadline, None for none. The server's own limit holds in any case.
        ticket: of `admission`, where the caller has one already, as for an upload; its bytes are charged.
        on_clip: called with each clip as soon as it has run, in whatever order they do.
        elsewhere: decodes the video, of which the request has the name alone, when there is room for its clips.
        Raises every TenclipError of a bad request, video or model; Overloaded at once; DeadlineExceeded;
        DecodeWorkerDied.
        """
        name, size = request.source, len(request.data or b"")
        async with self._within(seconds_left, name) as deadline, self._admitted(size, name, ticket, deadline) as held:
            repository = self.repository
            model = repository.get(request.model, request.version)
            with self.statistics.counted(model.key) as outcome:
                # What is wrong with the request is said before gigabytes are taken for it.
                salience = resolve_salience(request.clips, model, repository)
                protocol = self._protocol(request, model, salience)
                async with nullcontext() if elsewhere else self.intake.open(request, held) as video:
                    job = Job(
                        model=model,
                        video=video,
                        decode=DecodeRequest(
                            source=b"" if video is None else video.source,
                            name=name if video is None else video.name,
                            spec=model.bundle.info.clip_spec,
                            protocol=protocol,
                            timeline=request.timeline,
                            thumbnails=min(request.thumbnails, MAX_PICTURES),
                            sampler=None if salience.sampler is None else salience.sampler.files,
                            limits=self.config.video_limits,
                        ),
                        ticket=held,
                        deadline=deadline,
                        on_clip=on_clip,
                        salience=salience,
                        elsewhere=elsewhere,
                    )
                    del request  # an inline video in it is given back when it is decoded
                    answer = await self._pipeline.recognize(job)
                outcome.num_clips, outcome.timings = len(answer.clips), answer.timings
                return answer

    async def decode(self, request: RecognitionRequest, decode: DecodeRequest) -> VideoClips:
        """The clips of a video, and no more, for `recognize` of an engine that has them decoded elsewhere.

        decode: what is asked of it, without a source. Raises what `recognize` raises of a video.
        """
        name = request.source
        async with (
            self._within(None, name) as deadline,
            self._admitted(0, name, None, deadline) as held,
            self.intake.open(request, held) as video,
        ):
            found, _ = await self._pipeline.decode(replace(decode, source=video.source, name=video.name), held)
            return found

    async def recognize_stream(
        self, request: RecognitionRequest, *, seconds_left: float | None = None, ticket: Ticket | None = None
    ) -> AsyncGenerator[ClipResult | Recognition, None]:
        """Each clip as soon as it has run, in whatever order they do, and at last what `recognize` returns.

        Closing the generator early cancels what has not run yet. Raises what `recognize` raises.
        """
        # Not bounded: it never holds more than the clips of one request, without their pixels.
        finished: asyncio.Queue[ClipResult | None] = asyncio.Queue()
        task = asyncio.create_task(
            self.recognize(request, seconds_left=seconds_left, ticket=ticket, on_clip=finished.put_nowait)
        )
        task.add_done_callback(lambda _: finished.put_nowait(None))
        del request  # its video is the task's to let go
        try:
            while (clip := await finished.get()) is not None:
                yield clip
            yield await task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def similar(self, request: SimilarRequest, *, seconds_left: float | None = None) -> SimilarClips:
        """The clips of an index that are nearest to those of a video, from one decode and one pass.

        Raises what `recognize` does; IndexNotFound, IndexMismatch; InvalidRequest for filters that fit no clip.
        """
        allowed = self.config.max_request_seconds
        until = time.monotonic() + (allowed if seconds_left is None else min(allowed, seconds_left))
        video = request.video
        index = self.indexes.choose(request.index, video.model, video.version)
        model = self.indexes.model_of(index, video.model, video.version, self.repository)
        name = video.source
        video = replace(video, model=model.name, version=model.version)
        asked = replace(request, video=RecognitionRequest())  # an inline video is let go of when it is decoded
        del request
        recognizing = self.recognize(video, seconds_left=seconds_left)
        del video
        recognition = await recognizing
        index = self.indexes.newest(index, model, self.repository)
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded(f"{name}: the deadline has passed before its neighbours were searched")
        began = time.perf_counter()
        with stage("neighbours", index=index.name):
            found = await self.indexes.neighbours(
                index,
                recognition.clip_features,
                k=min(asked.k, MAX_K),
                by_video=asked.by_video,
                filters=asked.filters,
                seconds=seconds,
            )
        timings = {"neighbours": time.perf_counter() - began}
        self.metrics.observe_stages(timings)
        recognition = replace(recognition, timings={**recognition.timings, **timings})
        return SimilarClips(index=index.name, info=index.info, neighbours=found, recognition=recognition)

    @asynccontextmanager
    async def receive(
        self, upload: Upload, *, name: str = "", seconds_left: float | None = None
    ) -> AsyncIterator[tuple[Ticket, SpoolFile]]:
        """An upload of which nobody knows yet what is asked: it is admitted, and on disk, within.

        For `recognize(replace(request, spooled=file), ticket=ticket)`, within. seconds_left: as there, for both.
        Raises Overloaded at once, and what `SpoolFile.fill` does.
        """
        name = name or UPLOAD
        async with (
            self._within(seconds_left, name) as deadline,
            self._admitted(0, name, None, deadline) as ticket,
            self.spool.file(name, num_bytes=upload.num_bytes) as file,
        ):
            with ticket.filling(), stage("fetch"):
                await file.fill(upload, charge=ticket.grow)
            yield ticket, file

    def watch(self, request: LiveRequest) -> AsyncGenerator[tuple[LiveUpdate, LiveCounters], None]:
        """Updates of a live stream, each with what is counted by then.

        Raises what `LiveSession` does, Overloaded, and ServerUnavailable when the server stops.
        """
        return self.streams.watch(request, self.repository.get(request.model, request.version))

    async def infer_clips(self, model: ServedModel, clips: Clips, *, seconds_left: float | None = None) -> Outputs:
        """Logits [B,K,P] and features [B,D] of clips that the caller has cut: uint8 [B,T,H,W,3] of one of its sizes.

        seconds_left: as for `recognize`. Raises Overloaded at once, DeadlineExceeded.
        """
        deadlines = self._within(seconds_left, f"{len(clips)} clips")
        async with deadlines as deadline, self._admitted(clips.nbytes, model.name, None, deadline) as ticket:
            with self.statistics.counted(model.key) as outcome:
                await ticket.begin(0)  # they are here already, and charged
                with stage("infer", clips=len(clips), model=model.name):
                    inference = await self._scheduler.run(
                        model.instances, clips, model=model.name, seconds_left=deadline - time.monotonic()
                    )
                timings = {"queue": inference.queue_seconds, "infer": inference.infer_seconds}
                outcome.num_clips, outcome.timings = len(clips), timings
        self.metrics.observe_stages(timings)
        logits, features = zip(*inference.outputs, strict=True)
        return Outputs(np.concatenate(logits), np.concatenate(features))

    # -- before a video is opened -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _within(self, seconds_left: float | None, name: str) -> AsyncIterator[float]:
        """Yields the deadline, on the monotonic clock. Raises DeadlineExceeded for what is not done by then."""
        allowed = self.config.max_request_seconds
        seconds = allowed if seconds_left is None else min(allowed, seconds_left)
        whose = "the server's limit" if seconds == allowed else "the caller's deadline"
        if seconds <= 0:
            raise DeadlineExceeded(f"{name}: {whose} has passed already")
        try:
            async with asyncio.timeout(seconds):
                yield time.monotonic() + seconds
        except TimeoutError as err:
            raise DeadlineExceeded(f"{name}: not done in {seconds:.3g} seconds, {whose}") from err

    @asynccontextmanager
    async def _admitted(self, size: int, name: str, ticket: Ticket | None, deadline: float) -> AsyncIterator[Ticket]:
        """The caller's ticket, or a new one for `size` encoded bytes."""
        if ticket is not None:
            yield ticket
            return
        async with self.admission.admit(size, name=name, seconds_left=deadline - time.monotonic()) as own_ticket:
            yield own_ticket

    def _protocol(self, request: RecognitionRequest, model: ServedModel, salience: Salience) -> Protocol:
        info, config = model.bundle.info, self.config
        return resolve_protocol(
            request,
            info.clip_spec,
            info.default_protocol,
            max_clips=config.max_clips,
            max_clip_bytes=config.max_clip_mb << 20,
            stopping=salience.stopping,
        )


def _pool(config: ServerConfig, metrics: Metrics) -> DecodePool:
    return DecodePool(
        config.num_decode_workers,
        max_requests=config.decode_worker_requests,
        sandbox=config.sandbox_limits,
        on_restart=lambda reason: metrics.worker_restarts.labels(reason).inc(),
        on_retry=metrics.decode_retries.inc,
    )


def _spool(config: ServerConfig, metrics: Metrics) -> Spool:
    return Spool(
        directory=config.spool_dir,
        max_bytes=config.max_spool_mb << 20,
        max_file_bytes=config.max_upload_mb << 20,
        idle_seconds=config.upload_idle_seconds,
        on_bytes=metrics.spool_bytes.set,
        on_refusal=metrics.refusals.labels(Refusal.SPOOL_FULL).inc,
        on_too_large=metrics.refusals.labels(Refusal.VIDEO_TOO_LARGE).inc,
    )


def _admission(config: ServerConfig, metrics: Metrics) -> Admission:
    return Admission(
        max_bytes=config.max_in_flight_mb << 20,
        max_queue_bytes=config.max_queue_mb << 20,
        max_queue=config.max_queue,
        max_active=config.num_active,
        max_arrivals=config.max_in_flight_mb // config.max_message_mb,
        max_arrival_seconds=config.max_arrival_seconds,
        on_bytes=lambda kind, num_bytes: metrics.in_flight_bytes.labels(kind).set(num_bytes),
        on_refusal=lambda reason: metrics.refusals.labels(reason).inc(),
    )
