"""Actors of Ray that decode for the one that holds the model, and belong to it; clips go through Ray's object store.

The actor with the model asks for a video when it has room for its clips, so that what lies in the store is bounded by
that. An actor that ends without a word is replaced. What it worked on is decoded once more, each video alone in its
actor: the one that ends that one, too, is found out, and no other one is a failure for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tenclip_api.errors import InvalidRequest, ServerError, ServerUnavailable, TenclipError, WorkerEnded
from tenclip_batch.attempts import MOST_ATTEMPTS
from tenclip_batch.extractor import VideoDecoder
from tenclip_batch.options import RuntimeOptions
from tenclip_batch.ray_actor import DecodersPlan
from tenclip_batch.sources import BatchVideo
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_video.clips import VideoClips

_log = logging.getLogger(__name__)
# An actor has so long to find a place and to start; one that died is started again so often.
_START_SECONDS = 300.0
_STARTS = 5
_PAUSE_SECONDS = 2.0


class DecodeActor:
    """What runs in such an actor: decode processes, and no model.

    Errors are returned, not raised: Ray would wrap them.
    """

    def __init__(self, directory: Path, runtime: RuntimeOptions, *, with_uris: bool) -> None:
        self._plan = partial(VideoDecoder, directory, runtime, with_uris=with_uris)

    async def start(self) -> TenclipError | None:
        """Returns when its processes are ready."""
        try:
            self._decoder = await self._plan().__aenter__()
        except Exception as err:
            return _known(err)
        return None

    async def decode(self, video: BatchVideo, asked: DecodeRequest) -> VideoClips | TenclipError:
        """See `Elsewhere.decode`."""
        try:
            return await self._decoder.decode(video, asked)
        except Exception as err:
            return _known(err)


@dataclass(eq=False)
class _Place:
    """One actor, or its successor. users: videos that it has. alone: kept for one video that may end it."""

    handle: Any = None
    users: int = 0
    alone: bool = False


class DecodeActors:
    """The decoding actors of one actor with the model; see `Elsewhere`."""

    def __init__(self, plan: DecodersPlan, directory: Path, *, with_uris: bool) -> None:
        self._plan, self._directory, self._with_uris = plan, directory, with_uris
        self._places = [_Place() for _ in range(plan.actors)]
        self._changed = asyncio.Condition()
        self._one_alone = asyncio.Lock()
        self._starting: set[asyncio.Task[None]] = set()
        self._asked: Any = None  # in the object store

    async def start(self) -> None:
        """Raises what an actor cannot start for; InvalidRequest where none finds a place."""
        starting = [self._start_later(place) for place in self._places]
        done, _ = await asyncio.wait(starting, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not done or any(task.exception() is not None for task in done):
            await self.close()
        for task in done:
            task.result()
        if not done:
            raise InvalidRequest(
                f"none of {self._plan.actors} actors that decode could start in {_START_SECONDS:g} seconds: there is "
                f"no machine with {self._plan.cpus:g} free cores for one; lower --decode-actors or "
                "--cpus-per-decode-actor"
            )

    async def decode(self, video: BatchVideo, asked: DecodeRequest) -> VideoClips:
        """See `Elsewhere.decode`. Raises WorkerEnded for a video that ended two actors, alone with it the last time."""
        import ray

        if self._asked is None:  # the same for all videos but for the name, and perhaps with the weights of a sampler
            self._asked = ray.put(dataclasses.replace(asked, name=""))
        for place_for in (self._shared, self._alone):
            async with place_for() as place:
                handle = place.handle
                try:
                    answer = await asyncio.wrap_future(handle.decode.remote(video, self._asked).future())
                except ray.exceptions.RayTaskError as err:
                    raise ServerError(f"{video.name}: {type(err.cause).__name__}: {err.cause}") from err
                except ray.exceptions.RayError as err:
                    _log.warning("an actor that decodes ended: %s", " ".join(str(err).split())[:500])
                    self._replace(place, handle)
                    continue
            if isinstance(answer, TenclipError):
                raise answer
            # A copy: it may be written to, and Ray's store has its room again at once.
            found: VideoClips = answer
            return dataclasses.replace(found, clips=await asyncio.to_thread(found.clips.copy))
        raise WorkerEnded(
            f"{video.name}: the actor that decoded it ended {MOST_ATTEMPTS} times without a word, alone with it the "
            "last time (out of memory, or killed); --retry-failed tries it again"
        )

    async def close(self) -> None:
        """End the actors. (When this one ends without a word, Ray ends them.)"""
        import ray

        for task in tuple(self._starting):
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        for place in self._places:
            if place.handle is not None:
                ray.kill(place.handle)

    # -- places --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _shared(self) -> AsyncIterator[_Place]:
        """The actor that has least to do. Raises ServerUnavailable where none is left."""
        async with self._changed:
            while (place := self._freest()) is None:
                await self._wait()
            place.users += 1
        try:
            yield place
        finally:
            place.users -= 1
            await self._tell()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[_Place]:
        """An actor that has nothing else to do, nor gets it; one at a time, so that the others go on."""
        async with self._one_alone:
            async with self._changed:
                while (place := self._freest()) is None:
                    await self._wait()
                place.alone = True
            try:
                async with self._changed:
                    while place.users or place.handle is None:  # one of the others may just have ended it
                        await self._wait()
                yield place
            finally:
                place.alone = False
                await self._tell()

    def _freest(self) -> _Place | None:
        ready = (p for p in self._places if p.handle is not None and not p.alone)
        return min(ready, key=lambda p: p.users, default=None)

    async def _wait(self) -> None:
        if not self._starting and all(p.handle is None for p in self._places):
            raise ServerUnavailable("no actor that decodes can be started any more; the same command goes on")
        await self._changed.wait()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- actors --------------------------------------------------------------------------------------------------------

    def _replace(self, place: _Place, ended: Any) -> None:
        """Start another actor, unless one of its other videos has done so."""
        import ray

        if place.handle is ended:
            place.handle = None
            with contextlib.suppress(ray.exceptions.RayError):  # it may be there, and nobody can reach it
                ray.kill(ended)
            self._start_later(place)

    def _start_later(self, place: _Place) -> asyncio.Task[None]:
        async def start() -> None:
            try:
                await self._start(place)
            finally:
                self._starting.discard(task)
                await self._tell()

        task = asyncio.create_task(start())
        self._starting.add(task)
        task.add_done_callback(_log_failure)
        return task

    async def _start(self, place: _Place) -> None:
        import ray

        # Its own way to start such an actor again would fail what is asked of it meanwhile.
        options: dict[str, Any] = {"num_cpus": self._plan.cpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(**options)(DecodeActor)
        for left in reversed(range(_STARTS)):
            handle = actor.remote(self._directory, self._plan.runtime, with_uris=self._with_uris)
            try:
                error = await asyncio.wrap_future(handle.start.remote().future())
            except ray.exceptions.RayError as err:
                if not left:
                    raise ServerUnavailable(f"an actor that decodes ended {_STARTS} times at its start: {err}") from err
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            except asyncio.CancelledError:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.kill(handle)
                raise
            if error is not None:
                ray.kill(handle)
                raise error
            place.handle = handle
            return


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (err := task.exception()) is not None:
        _log.warning("an actor that decodes cannot be started: %s", err)


def _known(err: Exception) -> TenclipError:
    return err if isinstance(err, TenclipError) else ServerError(f"{type(err).__name__}: {err}")
