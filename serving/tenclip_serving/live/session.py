"""One live stream from its source to its updates: connect -> read -> run -> smooth -> events, and connect again.

Two tasks: one reads windows and hands them to the scheduler, the other takes their scores in order and yields updates.
At most `_IN_FLIGHT` windows are with the scheduler; the others wait in the reader's ring, where they grow old and are
skipped. So what is held for a stream is bounded, however slow the model or whoever reads the updates is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import (
    DeadlineExceeded,
    DecodeWorkerDied,
    FetchFailed,
    NotAVideo,
    NoVideoStream,
    TenclipError,
    UndecodableVideo,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.live.backoff import Backoff
from tenclip_serving.live.connect import Connection, LiveRules, connect
from tenclip_serving.live.events import Event, EventDetector
from tenclip_serving.live.messages import Opened, OpenStream
from tenclip_serving.live.protocol import live_protocol
from tenclip_serving.live.reader import LiveWindow, StreamProcess
from tenclip_serving.live.requests import (
    Connected,
    Ended,
    Heartbeat,
    LiveCounters,
    LiveRequest,
    LiveUpdate,
    Reconnecting,
    ScoredWindow,
)
from tenclip_serving.live.totals import Totals
from tenclip_serving.models.repository import ServedModel
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_video.aggregate import aggregate
from tenclip_video.source import Limits

# One that runs and one that waits for the runtime, so that windows of several streams meet in a batch.
_IN_FLIGHT = 2
# Updates that wait for whoever reads them.
_WAITING = 8
# What no later attempt changes, as long as there was no picture: afterwards they may be of a server that comes up.
_FINAL = (NotAVideo, NoVideoStream, UndecodableVideo, VideoNotFound, VideoNotReadable, VideoTooLarge)
# What is tried again.
_PASSING = (FetchFailed, DeadlineExceeded, DecodeWorkerDied, *_FINAL)


@dataclass(frozen=True, kw_only=True)
class LiveHost:
    """What streams of a server share."""

    scheduler: ClipScheduler
    rules: LiveRules
    metrics: Metrics
    sandbox: SandboxLimits
    limits: Limits


@dataclass(frozen=True, eq=False)
class _Pending:
    """A window that runs, or waits for it."""

    window: LiveWindow
    scores: asyncio.Task[NDArray[np.float32]]


class LiveSession:
    """One stream. Use `updates` once. Raises InvalidRequest, NoClassifier where model and request do not fit."""

    def __init__(self, request: LiveRequest, model: ServedModel, host: LiveHost) -> None:
        spec = model.bundle.info.clip_spec
        self.request, self.model, self._host = request, model, host
        self._protocol = live_protocol(request, model)
        self._spec = spec
        self._step = request.step or spec.span
        self._detector = EventDetector(model.bundle.labels, request.events)
        self._process = StreamProcess(host.sandbox)
        self._out: asyncio.Queue[_Pending | LiveUpdate | Exception] = asyncio.Queue(_WAITING)
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._scoring: set[asyncio.Task[NDArray[np.float32]]] = set()
        self._totals = Totals(host.metrics)
        self._index = 0
        self._epoch: float | None = None  # arrival of the very first frame
        self._end = 0.0  # of the newest window, on the stream's clock
        self._lost: float | None = None  # when the last frame came before the connection was lost; None: it is there

    @property
    def pid(self) -> int | None:
        """Of the process that reads it."""
        return self._process.pid

    @property
    def counters(self) -> LiveCounters:
        """What was counted of it by now."""
        return self._totals.counters

    async def updates(self) -> AsyncGenerator[LiveUpdate, None]:
        """What happens, as it happens; the last one is `Ended`. To close it ends the process and frees everything.

        Raises what `connect` and `open_stream` do where that is final; FetchFailed, which names the attempts, after
        the last one.
        """
        producer = asyncio.create_task(self._produce())
        try:
            while True:
                try:
                    async with asyncio.timeout(self.request.heartbeat_seconds):
                        item = await self._out.get()
                except TimeoutError:
                    for event in self._overdue():
                        yield event
                    yield Heartbeat(silent_seconds=self._totals.silent_seconds)
                    continue
                if isinstance(item, _Pending):
                    async for update in self._scored(item):
                        yield update
                    continue
                for event in self._closing_events(item):
                    yield event
                if isinstance(item, Exception):
                    raise item
                yield item
                if isinstance(item, Ended):
                    return
        finally:
            producer.cancel()
            for task in tuple(self._scoring):
                task.cancel()
            await asyncio.wait([producer, *self._scoring])
            await self._process.close()

    def end(self, error: TenclipError) -> None:
        """`updates` raises this next, whatever was still to come."""
        while not self._out.empty():
            self._out.get_nowait()
        self._out.put_nowait(error)

    def _closing_events(self, item: LiveUpdate | Exception) -> list[Event]:
        """Events that are over with the end of the stream, or with a long interruption of it."""
        if isinstance(item, Ended | Exception):
            return self._detector.gap()
        if isinstance(item, Reconnecting):
            self._detector.interrupted()
            return self._overdue()
        return []

    def _overdue(self) -> list[Event]:
        """Events that cannot go on: the stream was gone for too long."""
        return self._detector.gap() if self._totals.overdue_seconds > self.request.events.max_gap_seconds else []

    async def _scored(self, pending: _Pending) -> AsyncIterator[LiveUpdate]:
        window = pending.window
        probabilities = await pending.scores
        latency = max(0.0, time.monotonic() - window.arrival)
        self._totals.scored(latency)
        arrived = time.time() - latency
        seconds = window.start_seconds, window.end_seconds
        add = partial(self._detector.add, probabilities, *seconds, arrived, window.missed_seconds)
        slow = self._detector.is_slow
        events = await asyncio.get_running_loop().run_in_executor(None, add) if slow else add()
        yield ScoredWindow(
            index=self._index,
            start_seconds=window.start_seconds,
            end_seconds=window.end_seconds,
            arrived_unix=arrived,
            latency=latency,
            probabilities=probabilities,
            smoothed=self._detector.smoothed,
        )
        self._index += 1
        for event in events:
            yield event

    async def _produce(self) -> None:
        """Puts all that happens into the queue; an error goes there, too, and is the last of it."""
        try:
            await self._read_all()
        except Exception as err:
            await self._out.put(err)

    async def _read_all(self) -> None:
        backoff = Backoff(max_seconds=self.request.max_backoff)
        source = self.request.source
        while True:
            frames = self.counters.frames_read
            why = ""
            try:
                why = await self._read_once()
            except _PASSING as err:
                if not source.is_live or (isinstance(err, _FINAL) and self._epoch is None):
                    raise
                why = _without_name(err.message, source.name)
            self._totals.disconnected()
            if self._lost is None:  # connections that gave no window do not count
                self._lost = self._totals.last_frame
            if not source.is_live:
                if why:
                    raise FetchFailed(f"{source.name}: {why}", source=source.name)
                await self._out.put(Ended(why="end of the stream"))
                return
            if self.counters.frames_read > frames:
                backoff.reset()
            if self.request.reconnect is not None and backoff.attempts >= self.request.reconnect:
                tries = backoff.attempts + 1
                raise FetchFailed(
                    f"{source.name}: given up after {tries} {'attempt' if tries == 1 else 'attempts'} in a row: {why}",
                    source=source.name,
                )
            delay = backoff.next()
            await self._out.put(Reconnecting(attempt=backoff.attempts, delay=delay, why=why))
            await asyncio.sleep(delay)

    async def _read_once(self) -> str:
        """Read one connection to its end; why it ended. Where we hung up ourselves, that is raised."""
        rules = replace(self._host.rules, idle_seconds=self.request.idle_seconds)
        async with connect(self.request.source, rules) as connection:
            try:
                why = await self._read_windows(connection)
            except TenclipError as err:
                raise connection.error or err from None
            if connection.error is not None:
                raise connection.error
            return why

    async def _read_windows(self, connection: Connection) -> str:
        opened = await self._process.open(self._open_stream(connection), connection.descriptor)
        if self._epoch is not None:
            self._totals.reconnected()
        await self._out.put(self._connected(opened))
        while True:
            await self._slots.acquire()
            try:
                window = await self._process.next(self._totals.beat)
            except BaseException:
                self._slots.release()
                raise
            if isinstance(window, str):
                self._slots.release()
                return window
            self._epoch = window.first_arrival if self._epoch is None else self._epoch
            self._end = max(self._end, window.end_seconds)
            if self._lost is not None:
                window.missed_seconds = max(window.missed_seconds, window.first_arrival - self._lost)
                self._lost = None
            await self._out.put(_Pending(window, self._start_scoring(window)))

    def _connected(self, opened: Opened) -> Connected:
        return Connected(
            container=opened.container[:100],
            codec=opened.codec[:100],
            width=opened.width,
            height=opened.height,
            frames_per_second=opened.frames_per_second,
            model=self.model.name,
            version=self.model.version,
            runtime=self.model.runtime.name,
            window_frames=self._spec.span,
            step_frames=self._step,
            latency_limit=None if self.request.lossless else self.request.max_latency,
        )

    def _open_stream(self, connection: Connection) -> OpenStream:
        request = self.request
        return OpenStream(
            name=request.source.name,
            target=connection.target,
            format=connection.format,
            spec=self._spec,
            protocol=self._protocol,
            step=self._step,
            max_latency=None if request.lossless else request.max_latency,
            idle_seconds=request.idle_seconds,
            live=request.source.is_live,
            follow=request.source.follow,
            paced=request.paced and not request.source.is_live,
            start_seconds=self._end,
            epoch=self._epoch,
            limits=self._host.limits,
        )

    def _start_scoring(self, window: LiveWindow) -> asyncio.Task[NDArray[np.float32]]:
        task = asyncio.create_task(self._score(window))
        self._scoring.add(task)
        task.add_done_callback(self._scoring.discard)
        task.add_done_callback(lambda _: self._slots.release())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # of one that nobody waits for
        return task

    async def _score(self, window: LiveWindow) -> NDArray[np.float32]:
        """float32 [K]; the pixels are given back."""
        clips, window.clips = window.clips, window.clips[:0].copy()
        result = await self._host.scheduler.run(self.model.instances, clips, model=self.model.name)
        scores = aggregate(result.outputs, self._protocol.averaging, views=self._protocol.views)
        probabilities: NDArray[np.float32] = scores.clip_probabilities[0]
        return probabilities


def _without_name(message: str, name: str) -> str:
    """The message, which is to be said of a name."""
    return message.removeprefix(f"{name}: ")
