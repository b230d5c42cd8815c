"""What runs in an actor of Ray: one load of the model, and chunk after chunk of videos. Imports no Ray itself.

Videos are decoded by worker processes of the actor, or by other actors (`ray_decoders`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tenclip_api.errors import ServerError, TenclipError
from tenclip_batch.bundle import open_bundle
from tenclip_batch.extractor import VideoExtractor, open_model
from tenclip_batch.ledger import names_in_part
from tenclip_batch.locks import working_in
from tenclip_batch.options import ClipChoices, RuntimeOptions
from tenclip_batch.parts import VIDEOS, part_path, stem_of
from tenclip_batch.rows import Facts, VideoResult, facts_of, written_facts
from tenclip_batch.sources import BatchVideo
from tenclip_batch.worker import PartBuffer, WorkerPlan, work_through
from tenclip_features.rows import VideoFailure
from tenclip_serving.config import RuntimeChoice, VariantChoice
from tenclip_serving.models.repository import choose_candidate
from tenclip_video.bundle import read_bundle

# Numbers of parts that a chunk has for itself.
PARTS_OF_CHUNK = 1000

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True)
class Chunk:
    """Videos that an actor works on at once, and the number of the first part that they are written to."""

    number: int
    videos: tuple[BatchVideo, ...]


@dataclass(frozen=True, kw_only=True)
class DecodersPlan:
    """Actors that decode for one that holds the model. runtime: of each; cpus: cores that each reserves."""

    actors: int
    cpus: float
    runtime: RuntimeOptions


@dataclass(frozen=True)
class ActorPlan:
    """All that an actor needs to know. decoders: None where it decodes itself. show: rows say what came of each video,
    as `rows.facts_of` does.
    """

    bundle: Path
    choices: ClipChoices
    runtime: RuntimeOptions
    plan: WorkerPlan
    with_uris: bool = False
    decoders: DecodersPlan | None = None
    show: bool = False


class ChunkWorker:
    """Called with a row {"chunk": a pickled Chunk}; gives a row of the ledger for each of its videos.

    Whatever goes wrong comes back as a row that says so: an exception would end the job with a traceback of Ray's.
    """

    def __init__(self, actor: ActorPlan) -> None:
        self._plan, self._show = actor.plan, actor.show
        self._held = contextlib.ExitStack()
        self._error: TenclipError | None = None
        try:
            self._held.enter_context(working_in(actor.plan.folder))
            model = open_model(open_bundle(actor.bundle, actor.choices), actor.runtime)
            self._loop = _LoopThread()
            self._extractor = self._loop.run(self._start(model, actor))
        except Exception as err:
            self._error = _known(err)

    async def _start(self, model: Any, actor: ActorPlan) -> VideoExtractor:
        elsewhere = None
        if actor.decoders is not None:
            from tenclip_batch.ray_decoders import DecodeActors

            elsewhere = DecodeActors(actor.decoders, actor.bundle, with_uris=actor.with_uris)
        extractor = VideoExtractor(model, actor.choices, actor.runtime, with_uris=actor.with_uris, elsewhere=elsewhere)
        return await extractor.__aenter__()

    def __call__(self, row: Row) -> list[Row]:
        if self._error is not None:
            return [_fatal(self._error)]
        try:
            return self._work(pickle.loads(row["chunk"]))
        except Exception as err:
            return [_fatal(_known(err))]

    def close(self) -> None:
        """End the decode workers. (Ray ends the whole process instead.)"""
        if self._error is None:
            self._loop.run(self._extractor.__aexit__(None, None, None))
            self._loop.close()
        self._held.close()

    def _work(self, chunk: Chunk) -> list[Row]:
        """Videos that an actor before this one has written of the same chunk are not worked on again."""
        done, numbers = self._written(chunk)
        names = {row["video"] for row in done}

        def on_result(result: VideoResult) -> None:
            failure = result.failure
            kind, message = ("", "") if failure is None else (failure.reason, failure.message)
            facts = facts_of(result, self._plan.form.labels, self._plan.form.top_k) if self._show else None
            done.append(_row(result.name, result.num_clips, kind, message, facts=facts))

        todo = [v for v in chunk.videos if v.name not in names]
        buffer = PartBuffer(self._plan, lambda: stem_of(numbers()))
        self._loop.run(work_through(self._extractor, todo, self._plan, buffer, on_result=on_result))
        return done

    def _written(self, chunk: Chunk) -> tuple[list[Row], Callable[[], int]]:
        number = chunk.number
        rows: list[Row] = []
        while (path := part_path(self._plan.folder, VIDEOS, stem_of(number))).exists():
            for video, clips, kind, message in names_in_part(path):
                failure = VideoFailure(video, kind, message) if kind else None
                facts = written_facts(video, clips, failure) if self._show else None
                rows.append(_row(video, clips, kind, message, facts=facts))
            number += 1
        numbers = iter(range(number, chunk.number + PARTS_OF_CHUNK))
        return rows, lambda: next(numbers)


class _LoopThread:
    """An event loop that runs between calls, too: decode workers and the scheduler live on it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="batch", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


def choose_here(path: Path, runtime: RuntimeChoice, variant: VariantChoice) -> tuple[str, str] | TenclipError:
    """(runtime, variant) that this machine would take for a bundle; an error is returned, not raised."""
    try:
        found = choose_candidate(read_bundle(path), runtime=runtime, variant=variant)
    except TenclipError as err:
        return err
    return found.runtime, found.variant.name


def _row(
    video: str, clips: int, kind: str = "", message: str = "", *, fatal: bool = False, facts: Facts | None = None
) -> Row:
    """Columns of a table of Ray's: facts are JSON, "" where nothing is shown."""
    shown = "" if facts is None else json.dumps(facts)
    return {"video": video, "clips": clips, "kind": kind, "message": message, "fatal": fatal, "facts": shown}


def _fatal(err: TenclipError) -> Row:
    return _row("", 0, err.reason, err.message, fatal=True)


def _known(err: Exception) -> TenclipError:
    return err if isinstance(err, TenclipError) else ServerError(f"{type(err).__name__}: {err}")
