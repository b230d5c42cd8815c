"""The core of the server in this process: the same intake, decode workers, scheduler and averaging, without a network.

A video goes the very way that it would go in a server with this bundle, so its numbers are the same to the bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar

from tenclip_api.errors import InvalidRequest, Overloaded, ServerError, TenclipError
from tenclip_batch.bundle import BatchBundle
from tenclip_batch.options import ClipChoices, RuntimeOptions
from tenclip_batch.remote import RemoteFiles
from tenclip_batch.sources import BatchVideo, VideoOpener
from tenclip_client._concurrent import retry_with_backoff
from tenclip_serving.config import URI_SCHEMES, ServerConfig
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.requests import Recognition, RecognitionRequest
from tenclip_video.clips import VideoClips

# The spool for what is not in a file of its own may be full for so long; then the video is a failure, unless others
# are in the spool, which end: those that are fetched by max_fetch_seconds.
_PATIENCE_SECONDS = 600.0
# Nobody waits for one video: what bounds it is the time that decoding it may take.
_REQUEST_SECONDS = 86_400.0
# Limits that a batch has by the same names as a server.
_AS_NAMED = (
    "max_video_mb",
    "max_pixels",
    "max_frames",
    "max_video_seconds",
    "max_streams",
    "max_decode_seconds",
    "max_fetch_seconds",
    "upload_idle_seconds",
    "spool_dir",
)

T = TypeVar("T")


class Elsewhere(Protocol):
    """Decodes videos in other processes."""

    async def start(self) -> None:
        """Returns when the first videos can be decoded."""

    async def decode(self, video: BatchVideo, asked: DecodeRequest) -> VideoClips:
        """The clips of a video. asked: what is wanted of it, without a source. Raises a TenclipError."""

    async def close(self) -> None:
        """End these processes."""


class VideoExtractor:
    """Runs the model on videos, several at once. An asynchronous context manager: workers run within.

    elsewhere: decodes the videos, in place of workers of this process.

    ::

        async with VideoExtractor(model, choices, RuntimeOptions()) as extractor:
            found = await extractor.run(video)
    """

    def __init__(
        self,
        model: ServedModel,
        choices: ClipChoices,
        runtime: RuntimeOptions,
        *,
        with_uris: bool = False,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        config = engine_config(runtime, model.bundle.path, with_uris=with_uris)
        self._engine = Engine(config, _only(model))
        self._request = choices.request()
        self._opener = _opener(config, runtime, with_uris=with_uris)
        self._elsewhere = elsewhere

    @property
    def in_flight(self) -> int:
        """How many videos keep all parts busy."""
        return self._engine.config.num_active

    async def __aenter__(self) -> Self:
        if self._elsewhere is not None:
            await self._elsewhere.start()
        await self._engine.start(workers=self._elsewhere is None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._opener.close()
        await self._engine.close()
        if self._elsewhere is not None:
            await self._elsewhere.close()

    async def run(self, video: BatchVideo) -> Recognition:
        """Raises a TenclipError that says what is wrong with the video, or with running it."""
        return await _retried(video, partial(self._once, video), self._engine)

    async def _once(self, video: BatchVideo) -> Recognition:
        named = dataclasses.replace(self._request, name=video.name)
        if self._elsewhere is not None and video.error is None:
            return await self._engine.recognize(named, elsewhere=partial(self._elsewhere.decode, video))
        async with self._opener.open(video) as fields:
            return await self._engine.recognize(dataclasses.replace(named, **fields))


class VideoDecoder:
    """Decodes videos for a `VideoExtractor` elsewhere, and runs no model. An asynchronous context manager."""

    def __init__(self, directory: Path, runtime: RuntimeOptions, *, with_uris: bool = False) -> None:
        config = engine_config(runtime, directory, with_uris=with_uris)
        self._engine = Engine(config, Repository({}))
        self._opener = _opener(config, runtime, with_uris=with_uris)

    async def __aenter__(self) -> Self:
        await self._engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._opener.close()
        await self._engine.close()

    async def decode(self, video: BatchVideo, asked: DecodeRequest) -> VideoClips:
        """See `Elsewhere.decode`."""

        async def once() -> VideoClips:
            async with self._opener.open(video) as fields:
                return await self._engine.decode(RecognitionRequest(name=video.name, **fields), asked)

        return await _retried(video, once, self._engine)


async def _retried(video: BatchVideo, call: Callable[[], Awaitable[T]], engine: Engine) -> T:
    """Again while there is no room. Raises a TenclipError in any case."""
    try:
        while True:
            try:
                return await retry_with_backoff(call, max_wait_seconds=_PATIENCE_SECONDS, waits_for=(Overloaded,))
            except Overloaded:
                if not engine.spool.held:
                    raise
    except TenclipError:
        raise
    except Exception as err:  # a runtime's own kinds, MemoryError: as the server would answer
        raise ServerError(f"{video.name}: {type(err).__name__}: {err}") from err


def _opener(config: ServerConfig, runtime: RuntimeOptions, *, with_uris: bool) -> VideoOpener:
    return VideoOpener(remote_files(config, runtime) if with_uris else None)


def open_model(bundle: BatchBundle, runtime: RuntimeOptions) -> ServedModel:
    """Load the model; the one load of a process."""
    return bundle.load(runtime)


def remote_files(config: ServerConfig, runtime: RuntimeOptions) -> RemoteFiles:
    """What reads shards at URLs, by the rules for URIs. Raises MissingDependency where a package is not installed."""
    policy = config.uri_policy
    policy.check_installed()
    return RemoteFiles(policy, max_whole_bytes=runtime.max_shard_mb << 20)


def engine_config(runtime: RuntimeOptions, directory: Path, *, with_uris: bool) -> ServerConfig:
    """The settings of a server that would work as this process does. Raises InvalidRequest where none takes them."""
    try:
        return _engine_config(runtime, directory, with_uris=with_uris)
    except ValueError as err:
        raise InvalidRequest(str(err)) from err


def _engine_config(runtime: RuntimeOptions, directory: Path, *, with_uris: bool) -> ServerConfig:
    base = ServerConfig(
        directory=directory,
        decode_workers=runtime.decode_workers,
        decode_worker_memory_mb=runtime.decode_worker_memory_mb,
    )
    active = runtime.in_flight or base.num_active
    # All decode workers may hold the clips of a largest video at once.
    clip_mb = runtime.max_clip_mb * (base.num_decode_workers + 1)
    return dataclasses.replace(
        base,
        max_active=active,
        max_queue=3 * active,
        max_clips=runtime.max_clips,
        max_clip_mb=runtime.max_clip_mb,
        max_upload_mb=runtime.max_upload_mb,
        max_spool_mb=runtime.max_spool_mb or 2 * runtime.max_upload_mb,
        max_in_flight_mb=base.max_queue_mb + clip_mb,
        **{name: getattr(runtime, name) for name in _AS_NAMED},
        max_request_seconds=_REQUEST_SECONDS,
        allow_schemes=URI_SCHEMES if with_uris else (),
        allow_hosts=runtime.allow_hosts if with_uris else (),
        allow_networks=runtime.allow_networks if with_uris else (),
    )


def _only(model: ServedModel) -> Repository:
    return Repository({model.name: {model.version: model}})
