"""The core: a video in, a `Recognition` out. No protobuf, no gRPC."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DeadlineExceeded, EmptyVideo, InvalidRequest, VideoTooLarge
from tenclip_serving.cache import AnswerCache, cache_key, file_stamp
from tenclip_serving.config import ServerConfig
from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.decoding.shared_memory import MemoryFile
from tenclip_serving.intake.admission import Admission, Ticket
from tenclip_serving.intake.fetch import fetch, file_path
from tenclip_serving.intake.path_access import OpenFile, open_path
from tenclip_serving.intake.spool import Spool, SpoolFile
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.models.statistics import Statistics
from tenclip_serving.requests import ClipResult, Recognition, RecognitionRequest, RecognizedClip
from tenclip_serving.resolve_protocol import most_clip_bytes, resolve_protocol
from tenclip_serving.runtimes import Clips, Outputs
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_serving.telemetry.tracing import stage
from tenclip_serving.thread_pools import Threads
from tenclip_video.aggregate import Aggregate, ClipAssembler, RunningAverage, aggregate
from tenclip_video.clips import VideoClips
from tenclip_video.protocols import Protocol


@dataclass(frozen=True, kw_only=True, eq=False)
class _Work:
    """One request that was understood. deadline: on the monotonic clock.

    file: that `decode` reads, where spooled. named: that it reads, where the caller named a path; others may write it.
    """

    model: ServedModel
    protocol: Protocol
    decode: DecodeRequest
    file: SpoolFile | MemoryFile | None
    named: OpenFile | None
    ticket: Ticket
    deadline: float
    on_clip: Callable[[ClipResult], None] | None


class Engine:
    """Decodes in a pool of processes, runs clips on the runtime's thread, averages.

    `start` before the first request, `close` after the last; `repository` may be replaced in between.
    """

    def __init__(self, config: ServerConfig, repository: Repository, metrics: Metrics | None = None) -> None:
        self.config = config
        self.repository = repository
        self.metrics = metrics or Metrics()
        self.admission = _admission(config, self.metrics)
        self.pool = DecodePool(
            config.num_decode_workers,
            max_requests=config.decode_worker_requests,
            confinement=config.confinement,
            on_restart=lambda reason: self.metrics.worker_restarts.labels(reason).inc(),
        )
        self.spool = _spool(config, self.metrics)
        self._uri_policy = config.uri_policy
        self._uri_policy.check_installed()
        self.statistics = Statistics()
        self._cache = AnswerCache(config.cache_mb << 20, on_bytes=self.metrics.cache_bytes.set)
        self.threads = Threads()
        self._scheduler = ClipScheduler(on_batch=self.metrics.count_batch, on_saved=self.metrics.count_saved)

    async def start(self) -> None:
        """Returns when the decode workers are ready. Raises DecodeWorkerDied when one does not start."""
        await self.pool.start()

    async def close(self) -> bool:
        """Ends the decode workers and the threads. False when one is left: a name or a file that hangs."""
        await self.pool.close()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._scheduler.close)
        await loop.run_in_executor(None, self.spool.close)
        return await loop.run_in_executor(None, self.threads.close)

    async def recognize(
        self,
        request: RecognitionRequest,
        *,
        seconds_left: float | None = None,
        ticket: Ticket | None = None,
        on_clip: Callable[[ClipResult], None] | None = None,
    ) -> Recognition:
        """One decode and one pass of one video.

        seconds_left: till the caller's deadline; None: it has none. The server's own limit holds in any case.
        ticket: of `admission`, where the caller has one already, as for an upload; its bytes are charged.
        on_clip: called with each clip as soon as it has run, in whatever order they do.
        Raises every TenclipError of a bad request, video or model; Overloaded at once; DeadlineExceeded;
        DecodeWorkerDied.
        """
        allowed = self.config.max_request_seconds
        seconds = allowed if seconds_left is None else min(allowed, seconds_left)
        whose = "the server's limit" if seconds == allowed else "the caller's deadline"
        if seconds <= 0:
            raise DeadlineExceeded(f"{request.source}: {whose} has passed already")
        try:
            async with asyncio.timeout(seconds):
                deadline, size = time.monotonic() + seconds, len(request.data or b"")
                async with self._admitted(size, request.source, ticket, seconds) as own_ticket:
                    with ExitStack() as held:
                        request = await self._out_of_python(request, held)
                        return await self._counted(request, own_ticket, deadline, on_clip)
        except TimeoutError as err:
            raise DeadlineExceeded(f"{request.source}: not done in {seconds:.3g} seconds, {whose}") from err

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

    async def infer_clips(self, model: ServedModel, clips: Clips, *, seconds_left: float | None = None) -> Outputs:
        """Logits [B,K,P] and features [B,D] of clips that the caller has cut: uint8 [B,T,H,W,3] of one of its sizes.

        seconds_left: as of `recognize`. Raises Overloaded at once, DeadlineExceeded.
        """
        arrived = time.perf_counter()
        allowed = self.config.max_request_seconds
        seconds = allowed if seconds_left is None else min(allowed, seconds_left)
        key = (model.name, model.version)
        try:
            async with (
                asyncio.timeout(seconds),
                self.admission.admit(clips.nbytes, name=model.name, seconds_left=seconds) as ticket,
            ):
                try:
                    await ticket.begin(0)  # they are here already, and charged
                    left = seconds - (time.perf_counter() - arrived)
                    with stage("infer", clips=len(clips), model=model.name):
                        inference = await self._scheduler.run(
                            model.instances, clips, model=model.name, seconds_left=left
                        )
                except BaseException:  # cancelled, too
                    self.statistics.failed(key, seconds=time.perf_counter() - arrived)
                    raise
        except TimeoutError as err:
            raise DeadlineExceeded(f"{len(clips)} clips: not done in {seconds:.3g} seconds") from err
        timings = {"queue": inference.queue_seconds, "infer": inference.infer_seconds}
        for name, spent in timings.items():
            self.metrics.stage_seconds.labels(name).observe(spent)
        self.statistics.succeeded(key, seconds=time.perf_counter() - arrived, num_clips=len(clips), timings=timings)
        logits, features = zip(*inference.outputs, strict=True)
        return Outputs(np.concatenate(logits), np.concatenate(features))

    async def _counted(
        self,
        request: RecognitionRequest,
        ticket: Ticket,
        deadline: float,
        on_clip: Callable[[ClipResult], None] | None,
    ) -> Recognition:
        model = self.repository.get(request.model, request.version)
        arrived = time.perf_counter()
        try:
            result = await self._recognize(request, ticket, deadline, on_clip)
        except BaseException:  # cancelled, too
            self.statistics.failed((model.name, model.version), seconds=time.perf_counter() - arrived)
            raise
        seconds = time.perf_counter() - arrived
        key = (result.model, result.version)
        self.statistics.succeeded(key, seconds=seconds, num_clips=len(result.clips), timings=result.timings)
        return result

    @asynccontextmanager
    async def _admitted(
        self, size: int, name: str, ticket: Ticket | None, seconds_left: float
    ) -> AsyncIterator[Ticket]:
        if ticket is not None:
            yield ticket
            return
        async with self.admission.admit(size, name=name, seconds_left=seconds_left) as own_ticket:
            yield own_ticket

    async def _out_of_python(self, request: RecognitionRequest, held: ExitStack) -> RecognitionRequest:
        """A large inline video in memory that is given back when it has been decoded.

        As bytes it would stay until the last of the functions that were given it returns, with the answer.
        """
        if request.data is None or len(request.data) < shared_memory.WORTH_SHARING_BYTES:
            return request
        file = await self.threads.hashes.run(shared_memory.MemoryFile.of, request.source, request.data)
        if file is None:
            return request
        held.callback(file.close)
        return replace(request, data=None, file=file)

    @asynccontextmanager
    async def _fetched(self, request: RecognitionRequest, ticket: Ticket) -> AsyncIterator[RecognitionRequest]:
        """The request with all of its video at hand. Raises what `SpoolFile.fill` and `fetch` do."""
        if request.uri is not None and (path := file_path(request.uri)) is not None:
            yield replace(request, uri=None, path=path)
            return
        if request.uri is None and request.upload is None:
            yield request
            return
        with ExitStack() as held:
            async with AsyncExitStack() as connection:
                upload = request.upload
                if upload is None:
                    assert request.uri is not None
                    upload = await connection.enter_async_context(
                        fetch(request.uri, self._uri_policy, names=self.threads.names)
                    )
                file = held.enter_context(self.spool.file(request.source, num_bytes=upload.num_bytes))
                with ticket.filling():
                    await file.fill(upload, charge=ticket.grow)
            yield replace(request, uri=None, upload=None, file=file)

    async def _recognize(
        self,
        request: RecognitionRequest,
        ticket: Ticket,
        deadline: float,
        on_clip: Callable[[ClipResult], None] | None,
    ) -> Recognition:
        model = self.repository.get(request.model, request.version)
        # What is wrong with the request is said before gigabytes are taken for it.
        protocol = self._protocol(request, model)
        async with AsyncExitStack() as held:
            with stage("fetch"):
                request = await held.enter_async_context(self._fetched(request, ticket))
                named = await self._open_path(request)
                if named is not None:
                    held.callback(named.close)
                decode_request = self._decode_request(request, named, model, protocol)
            work = _Work(
                model=model,
                protocol=protocol,
                decode=decode_request,
                file=request.file,
                named=named,
                ticket=ticket,
                deadline=deadline,
                on_clip=on_clip,
            )
            answer = await (self._look_up(work) if self.config.cache_mb else self._run(work))
        if request.file is None or request.file.seconds is None:
            return answer
        self.metrics.stage_seconds.labels("fetch").observe(request.file.seconds)
        return replace(answer, timings={"fetch": request.file.seconds, **answer.timings})

    async def _look_up(self, work: _Work) -> Recognition:
        """The answer that was given before to the same question, or a new one."""
        # A path of a caller's may hang; what came with a request is only work.
        threads = self.threads.hashes if work.named is None else self.threads.files
        stamp = await self._stamp(work)
        key = await threads.run(cache_key, work.decode, work.model, work.protocol)
        answer = self._cache.get(key)
        self.metrics.cache_answers.labels("miss" if answer is None else "hit").inc()
        if answer is None:
            answer = await self._run(work)
            if stamp == await self._stamp(work):  # else what was decoded may not be what was hashed
                self._cache.put(key, answer)
            return answer
        if work.on_clip is not None:
            tell = _teller(work, answer.clips, work.on_clip)
            for index in range(len(answer.clips)):
                tell(index, answer.clip_probabilities[index], answer.clip_features[index])
        return replace(answer, timings=dict.fromkeys(answer.timings, 0.0))

    async def _stamp(self, work: _Work) -> tuple[int, int] | None:
        return None if work.named is None else await self.threads.files.run(file_stamp, work.named.descriptor)

    async def _run(self, work: _Work) -> Recognition:
        """Wait, decode, run, average."""
        model, protocol, ticket = work.model, work.protocol, work.ticket
        arrived = time.perf_counter()
        try:
            with stage("queue"):
                await ticket.begin(most_clip_bytes(protocol, work.decode.spec))
            video, started, decoded = await self._decode(work)
        except asyncio.CancelledError:
            self.metrics.count_saved(model.name, protocol.num_planned or 0)
            raise
        ticket.decoded(video.clips.nbytes)
        if work.file is not None:
            work.file.close()
        with stage("infer", clips=len(video.clips), model=model.name):
            inference = await self._scheduler.run(
                model.instances,
                video.clips,
                model=model.name,
                seconds_left=work.deadline - time.monotonic(),
                on_outputs=None if work.on_clip is None else _per_clip(work, video, work.on_clip),
            )
        # Their memory is given back before the budget says so.
        video = replace(video, clips=video.clips[:0].copy())
        ticket.ran()
        averaged = time.perf_counter()
        with stage("aggregate"):
            average = partial(aggregate, inference.outputs, protocol.averaging, views=video.views)
            answer = await self.threads.answers.run(average)
        # A worker says so, and may say anything: never more than it had.
        preprocess = min(max(0.0, video.preprocess_seconds), decoded)
        timings = {
            "decode": decoded - preprocess,
            "preprocess": preprocess,
            "queue": started - arrived + inference.queue_seconds,
            "infer": inference.infer_seconds,
            "aggregate": time.perf_counter() - averaged,
        }
        for name, seconds in timings.items():
            self.metrics.stage_seconds.labels(name).observe(seconds)
        return _recognition(model, protocol, video, answer, timings)

    def _protocol(self, request: RecognitionRequest, model: ServedModel) -> Protocol:
        info, config = model.bundle.info, self.config
        return resolve_protocol(
            request,
            info.clip_spec,
            info.default_protocol,
            max_clips=config.max_clips,
            max_clip_bytes=config.max_clip_mb << 20,
        )

    async def _open_path(self, request: RecognitionRequest) -> OpenFile | None:
        """Raises what `open_path` does."""
        if request.file is not None or request.path is None:
            return None
        # The file system may be a slow network.
        return await self.threads.files.run(open_path, request.path, self.config.allow_roots)

    def _decode_request(
        self, request: RecognitionRequest, named: OpenFile | None, model: ServedModel, protocol: Protocol
    ) -> DecodeRequest:
        """Raises InvalidRequest or EmptyVideo."""
        source: bytes | int
        if request.file is not None:
            source = request.file.descriptor
        elif named is not None:
            source = named.descriptor
        elif request.data is not None:
            source = request.data
            if not source:
                raise EmptyVideo(f"{request.source}: is empty (0 bytes)", source=request.source)
        else:
            raise InvalidRequest(
                "no video: set video.data to the bytes of a file, video.path to a path on the server, or video.uri"
            )
        return DecodeRequest(
            source=source,
            name=request.source,
            spec=model.bundle.info.clip_spec,
            protocol=protocol,
            timeline=request.timeline,
            limits=self.config.video_limits,
        )

    async def _decode(self, work: _Work) -> tuple[VideoClips, float, float]:
        """(clips, when a worker was there, seconds of decoding)."""
        with stage("queue"):
            worker = await self.pool.acquire()
        started = time.perf_counter()
        with stage("decode"):
            try:
                video = await self.pool.decode(
                    worker, work.decode, timeout=self.config.max_decode_seconds, on_leave=work.ticket.keep_until
                )
            except VideoTooLarge:
                self.metrics.refusals.labels("video_too_large").inc()
                raise
        self.metrics.frames_decoded.inc(video.report.frames_decoded)
        self.metrics.frames_used.inc(len({frame for clip in video.plan for frame in clip.frames}))
        return video, started, time.perf_counter() - started


def _spool(config: ServerConfig, metrics: Metrics) -> Spool:
    return Spool(
        directory=config.spool_dir,
        max_bytes=config.max_spool_mb << 20,
        max_file_bytes=config.max_upload_mb << 20,
        idle_seconds=config.upload_idle_seconds,
        on_bytes=metrics.spool_bytes.set,
        on_refusal=metrics.refusals.labels("spool_full").inc,
        on_too_large=metrics.refusals.labels("video_too_large").inc,
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


def _per_clip(work: _Work, video: VideoClips, on_clip: Callable[[ClipResult], None]) -> Callable[[int, Outputs], None]:
    tell = _teller(work, _recognized_clips(video), on_clip)

    def on_answer(index: int, answer: Aggregate) -> None:
        tell(index, answer.clip_probabilities[0], answer.clip_features[0])

    return ClipAssembler(work.protocol.averaging, views=video.views, on_clip=on_answer).add


def _teller(
    work: _Work, clips: Sequence[RecognizedClip], on_clip: Callable[[ClipResult], None]
) -> Callable[[int, NDArray[np.float32], NDArray[np.float32]], None]:
    """A function of (index, probabilities, features) that tells `on_clip` of a clip and of the video so far."""
    average, done = RunningAverage(work.protocol.averaging), itertools.count(1)

    def tell(index: int, probabilities: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        on_clip(
            ClipResult(
                index=index,
                clip=clips[index],
                probabilities=probabilities,
                features=features,
                video_probabilities=average.add(probabilities),
                labels=work.model.bundle.labels,
                num_done=next(done),
                num_clips=len(clips),
            )
        )

    return tell


def _recognized_clips(video: VideoClips) -> tuple[RecognizedClip, ...]:
    return tuple(
        RecognizedClip(start_seconds=start, end_seconds=end, frames=clip.frames, looped=clip.looped)
        for clip, (start, end) in zip(video.plan, video.seconds, strict=True)
    )


def _recognition(
    model: ServedModel, protocol: Protocol, video: VideoClips, answer: Aggregate, timings: dict[str, float]
) -> Recognition:
    return Recognition(
        model=model.name,
        version=model.version,
        runtime=model.runtime.name,
        protocol=protocol.name,
        labels=model.bundle.labels,
        clips=_recognized_clips(video),
        probabilities=answer.probabilities,
        clip_probabilities=answer.clip_probabilities,
        clip_features=answer.clip_features,
        features=answer.features,
        timeline=video.timeline,
        info=video.info,
        report=video.report,
        timings=timings,
    )
