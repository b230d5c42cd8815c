"""`tenclip live --bundle DIR`: the same streams without a server, in the caller's own process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.live import live_messages, live_request
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_serving.live.connect import LiveRules
from tenclip_serving.live.session import LiveHost
from tenclip_serving.live.source import parse_source
from tenclip_serving.live.streams import LiveStreams
from tenclip_serving.models.repository import ServedModel, load_model
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tenclip_serving.telemetry.logs import LOGGER
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_video.source import Limits


class LocalStreams:
    """Streams of one model, which share its batches. Made by `open_local`."""

    def __init__(self, model: ServedModel, scheduler: ClipScheduler, metrics: Metrics) -> None:
        self.metrics = metrics
        self._model = model
        host = LiveHost(
            scheduler=scheduler,
            rules=LiveRules(policy=None),
            metrics=metrics,
            sandbox=SandboxLimits(nice=0),
            limits=Limits(),
        )
        self._streams = LiveStreams(host, max_streams=10_000)

    async def live(
        self, source: str, request: pb.LiveRequest, *, follow: bool = False, paced: bool = False
    ) -> AsyncGenerator[pb.LiveUpdate, None]:
        """As the RPC Live. source: also a webcam, a file or `-`, see `parse_source`; paced: at its own speed."""
        asked = live_request(request, source=parse_source(source, follow=follow), paced=paced)
        labels = self._model.bundle.labels
        async with aclosing(self._streams.watch(asked, self._model)) as updates:
            async for message in live_messages(request, asked.heartbeat_seconds, updates, labels):
                yield message


@asynccontextmanager
async def open_local(bundle: Path, *, threads: int = 0) -> AsyncIterator[LocalStreams]:
    """The streams of a bundle's model. threads: of its runtime; 0: it chooses.

    Raises BundleError, ParityError, MissingDependency.
    """
    LOGGER.addHandler(logging.NullHandler())  # what it says while it loads is of no interest to people
    loop = asyncio.get_running_loop()
    model = await loop.run_in_executor(None, lambda: load_model(bundle, threads=threads))
    metrics = Metrics()
    scheduler = ClipScheduler(on_batch=metrics.count_batch, on_saved=metrics.count_saved)
    try:
        yield LocalStreams(model, scheduler, metrics)
    finally:
        await loop.run_in_executor(None, scheduler.close)
