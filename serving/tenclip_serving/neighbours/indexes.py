"""The indexes of a server: opened at start, searched, and opened again when they have changed on disk."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import IndexMismatch, IndexNotFound, InvalidRequest, MissingDependency, ModelError, TenclipError
from tenclip_features.weights import weights_hash
from tenclip_index.folder import check_files
from tenclip_index.metadata import IndexInfo, check_same_model, describe_model, read_info
from tenclip_index.process import IndexProcess
from tenclip_index.results import Filters, Neighbour
from tenclip_serving.models.repository import Repository, ServedModel
from tenclip_serving.telemetry.logs import log
from tenclip_video.cpus import usable_cpus

# Searches that wait for an index, or run, at once; others wait for a thread.
_NUM_THREADS = 8


@dataclass(frozen=True)
class OpenedIndex:
    """An index under its name here."""

    name: str
    process: IndexProcess

    @property
    def info(self) -> IndexInfo:
        return self.process.info

    def check_model(self, model: ServedModel) -> None:
        """Raises IndexMismatch that names both where it is of another model."""
        info = model.bundle.info
        check_same_model(
            self.info, self.name, model=info.name, version=info.version, weights=weights_hash(info.to_dict()),
            dimension=info.feature_dim, source="the video",
        )  # fmt: skip


class Indexes:
    """The indexes in `folders`, by name. faiss is loaded in their processes alone."""

    def __init__(self, folders: Mapping[str, Path], *, watch_seconds: float = 0.0) -> None:
        self._folders, self._watch_seconds = dict(folders), watch_seconds
        self._opened: dict[str, OpenedIndex] = {}
        # Those with searches that wait or run, and how many; and those that were opened again and are not closed yet.
        self._searches: Counter[OpenedIndex] = Counter()
        self._replaced: set[OpenedIndex] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="neighbours") if folders else None
        self._one_at_a_time = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None

    def __iter__(self) -> Iterator[OpenedIndex]:
        return iter(list(self._opened.values()))

    async def start(self, repository: Repository) -> None:
        """Open all of them. Raises IndexNotFound, DatasetError or MissingDependency for the first that cannot be."""
        for name in self._folders:
            self._opened[name] = await self._open(name)
            self._warn_of_other_models(self._opened[name], repository)
        if self._folders and self._watch_seconds > 0:
            self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """End their processes."""
        self._closed = True
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        if self._threads is not None:
            loop = asyncio.get_running_loop()
            closing = (partial(opened.process.close, at_once=True) for opened in {*self, *self._replaced})
            await asyncio.gather(*(loop.run_in_executor(None, close) for close in closing))
            self._threads.shutdown(wait=False, cancel_futures=True)

    def choose(self, name: str, model: str, version: str) -> OpenedIndex:
        """The index of this name; for "" the only one, or the only one of this model (of "", of any).

        Raises IndexNotFound, InvalidRequest.
        """
        if not self._opened:
            raise IndexNotFound("this server has no index; `tenclip serve --index DIR` gives it one")
        if name:
            if name not in self._opened:
                raise IndexNotFound(f"no index {name!r}; this server has {', '.join(self._opened)}")
            return self._opened[name]
        fitting = [o for o in self if model in ("", o.info.model) and version in ("", o.info.version)]
        if len(self._opened) == 1 or len(fitting) == 1:
            return (fitting or list(self))[0]
        known = ", ".join(f"{o.name} (of {describe_model(o.info.model, o.info.version)})" for o in self)
        raise InvalidRequest(f"name an index: this server has {known}")

    def model_of(self, opened: OpenedIndex, model: str, version: str, repository: Repository) -> ServedModel:
        """The model that is asked for, or for "" the one that the index is of. Raises IndexMismatch, ModelError."""
        asked = (model, version) if model else (opened.info.model, opened.info.version)
        try:
            served = repository.get(*asked)
        except ModelError as err:
            if model:
                raise
            raise IndexMismatch(f"the index {opened.name} is of {describe_model(*asked)}, and {err.message}") from err
        opened.check_model(served)
        return served

    def newest(self, opened: OpenedIndex, model: ServedModel, repository: Repository) -> OpenedIndex:
        """After a video went through `model`: the index as it has been opened last.

        Raises IndexMismatch where that does not fit the model, or one that has taken its name meanwhile, since the
        features may be of either.
        """
        newest = self._opened.get(opened.name, opened)
        if newest is not opened:
            newest.check_model(model)
        try:
            served = repository.get(model.name, model.version)
        except ModelError:  # gone, and so it was the old one
            return newest
        if served is not model:
            newest.check_model(served)
        return newest

    async def neighbours(
        self,
        opened: OpenedIndex,
        features: NDArray[np.float32],
        *,
        k: int,
        by_video: bool,
        filters: Filters,
        seconds: float,
    ) -> tuple[Neighbour, ...]:
        """Of clips with these features [Q,D]. Raises what `IndexProcess.neighbours` does."""
        assert self._threads is not None
        search = partial(
            opened.process.neighbours,
            np.ascontiguousarray(features, np.float32).tobytes(),
            k=k,
            by_video=by_video,
            filters=filters,
            seconds=seconds,
        )
        self._searches[opened] += 1
        try:
            job = self._threads.submit(search)
        except BaseException:
            self._searched(opened)
            raise
        job.add_done_callback(partial(_tell, asyncio.get_running_loop(), partial(self._searched, opened)))
        found: list[Neighbour] = await asyncio.wrap_future(job)
        return tuple(found)

    def _searched(self, opened: OpenedIndex) -> None:
        self._searches[opened] -= 1
        if not self._searches[opened]:
            del self._searches[opened]
            if opened in self._replaced:
                self._close_later(opened)

    def _replace(self, opened: OpenedIndex) -> None:
        """Close an index that another has taken the place of, when the last search is done that has chosen it."""
        self._replaced.add(opened)
        if opened not in self._searches:
            self._close_later(opened)

    def _close_later(self, opened: OpenedIndex) -> None:
        if self._threads is None or self._closed:
            return  # `close` ends it
        closing = self._threads.submit(opened.process.close)
        closing.add_done_callback(lambda _: self._replaced.discard(opened))

    async def reload(self, *, quiet: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """Open again what has changed on disk; what cannot be opened stays as it was, and is returned with the reason.

        quiet: reasons that were logged before.
        """
        failed: dict[str, str] = {}
        async with self._one_at_a_time:
            for name, opened in list(self._opened.items()):
                try:
                    if read_info(self._folders[name]) == opened.info:
                        continue
                    self._opened[name] = await self._open(name)
                except TenclipError as err:
                    failed[name] = err.message
                    if quiet.get(name) != err.message:
                        log(logging.ERROR, f"index not opened again: {err.message}", index=name)
                    continue
                self._replace(opened)
        return failed

    async def _watch(self) -> None:
        """Polls, as the models are watched. What cannot be opened is said once."""
        failed: dict[str, str] = {}
        while True:
            await asyncio.sleep(self._watch_seconds)
            try:
                failed = await self.reload(quiet=failed)
            except Exception:
                log(logging.ERROR, "watching the indexes failed this time", exc_info=True)

    async def _open(self, name: str) -> OpenedIndex:
        threads = max(1, usable_cpus() // 2)
        open_ = partial(IndexProcess, self._folders[name], threads=threads, name=name)
        process = await asyncio.get_running_loop().run_in_executor(self._threads, open_)
        log(logging.INFO, "index opened", index=name, clips=process.info.rows, kind=process.info.kind, pid=process.pid)
        return OpenedIndex(name, process)

    def _warn_of_other_models(self, opened: OpenedIndex, repository: Repository) -> None:
        try:
            self.model_of(opened, "", "", repository)
        except TenclipError as err:
            log(logging.WARNING, f"nothing can be asked of an index for now: {err.message}", index=opened.name)


def check_indexes(folders: Mapping[str, Path]) -> None:
    """Before models are loaded. Raises MissingDependency, IndexNotFound, DatasetError."""
    for folder in folders.values():
        check_files(folder, read_info(folder))
    for module in ("faiss", "pyarrow") if folders else ():
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(f"--index needs {module}: pip install 'tenclip[index]'")


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None], _: Future[Any]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(what)
