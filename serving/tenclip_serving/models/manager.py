"""Changes which models are served while the server runs: load, unload, reload, pins, a directory that is watched."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tenclip_api.errors import BundleError, InvalidRequest, ModelError, ModelNotFound, VersionNotFound
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.directory import Key, find_bundles
from tenclip_serving.models.repository import (
    FailedBundle,
    Fingerprint,
    Repository,
    ServedModel,
    fingerprint,
    fingerprint_of_error,
    load_bundle,
    unreadable_name,
    version_key,
)
from tenclip_serving.runtimes import create_runtime
from tenclip_serving.telemetry.logs import log

# A graph is compiled in less, mostly; TensorRT and network file systems take minutes.
CLOSE_SECONDS = 2.0

BundleLoader = Callable[[Path, Key], ServedModel | FailedBundle]
Listener = Callable[[Repository], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The result of an order. `failed`: bundles that could not be loaded; an older copy that was served still is."""

    loaded: tuple[Key, ...] = ()
    unloaded: tuple[Key, ...] = ()
    failed: tuple[FailedBundle, ...] = ()


class ModelManager:
    """Swaps `engine.repository`, one order after another, with all that is slow on a thread.

    A model is read and proven before it replaces the old one, so both are in memory for a moment, and one that fails
    replaces nothing. A request keeps the model that it began with; a replaced one goes when its last request ends.
    `on_change` is awaited with the new repository after each swap.
    """

    def __init__(self, engine: Engine, *, load: BundleLoader | None = None, on_change: Listener | None = None) -> None:
        self._engine = engine
        self._config = engine.config
        self._load_bundle = load or bundle_loader(engine.config)
        self._on_change = on_change
        self._one_at_a_time = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._orders: set[asyncio.Task[Changes]] = set()
        self._watcher: asyncio.Task[None] | None = None
        engine.repository = replace(engine.repository, pins={**engine.repository.pins, **self._config.pins})
        for name, version in engine.repository.pins.items():
            if version not in engine.repository.models.get(name, {}):
                log(logging.WARNING, f"the default version of {name} is pinned to {version}, which is not served")
        known = {*engine.repository.models, *(f.name for f in engine.repository.failed), ""}
        for name, count in self._config.instance_counts.items():
            if name not in known:
                log(logging.WARNING, f"instances says {count} of {name}, and there is no model of that name")
        self._describe(Repository(), engine.repository)
        for model in engine.repository:
            engine.metrics.model_load_seconds.labels(model.name).observe(model.load_seconds)
        for failure in engine.repository.failed:
            engine.metrics.model_load_failures.labels(failure.name).inc()

    def start(self) -> None:
        """Begin to watch the directory, where the configuration says so."""
        if self._config.watch_seconds > 0:
            self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> bool:
        """No more changes. False when a load still runs after CLOSE_SECONDS: nothing can interrupt it."""
        tasks = [*self._orders, *([] if self._watcher is None else [self._watcher])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop = asyncio.get_running_loop()
        closing = loop.run_in_executor(None, partial(self._thread.shutdown, cancel_futures=True))
        _, running = await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        if running:
            log(logging.WARNING, "a model is still being loaded; not waited for")
        return not running

    async def load(self, name: str, version: str = "") -> Changes:
        """Load what is on disk, or load it again; an empty version means every one that is there.

        Raises ModelNotFound or VersionNotFound for what is not on disk, ModelError when nothing of it could be loaded.
        """
        return await self._order(self._load(name, version))

    async def unload(self, name: str, version: str = "") -> Changes:
        """Stop serving a model until `load` names it; an empty version means every one that is served.

        Requests that run end well. Raises ModelNotFound or VersionNotFound.
        """
        return await self._order(self._unload(name, version))

    async def reload(self) -> Changes:
        """Make what is served what is on disk: new, changed and once failed bundles are loaded, vanished ones dropped.

        What `unload` took away stays away. Raises BundleError when the directory cannot be read.
        """
        return await self._order(self._reload())

    async def set_default(self, name: str, version: str = "") -> Changes:
        """An empty version in a request means this one from now on; an empty one here, the highest again.

        Raises ModelNotFound, VersionNotFound, or ModelError for a version that could not be loaded.
        """
        return await self._order(self._set_default(name, version))

    async def _order(self, order: Coroutine[Any, Any, Changes]) -> Changes:
        """One at a time, and each to its end: a caller that hangs up leaves no change half done."""

        async def run() -> Changes:
            async with self._one_at_a_time:
                return await order

        task = asyncio.create_task(run())
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return await asyncio.shield(task)

    async def _load(self, name: str, version: str) -> Changes:
        found = await self._scan()
        keys = [key for key in found if key[0] == name and (version in ("", key[1]) or not key[1])]
        if not keys:
            raise _not_on_disk(name, version, found, self._config.directory)
        changes = await self._load_all(keys)
        if not changes.loaded:
            raise ModelError("; ".join(self._explain(failure) for failure in changes.failed))
        return changes

    async def _unload(self, name: str, version: str) -> Changes:
        repository = self._engine.repository
        keys = [key for key in _known(repository) if key[0] == name and version in ("", key[1])]
        if not keys:
            raise _not_known(name, version, repository)
        await self._swap(replace(without(repository, keys), unloaded=repository.unloaded.union(keys)))
        for key in keys:
            log(logging.INFO, "model unloaded", model=key[0], version=key[1])
        return Changes(unloaded=tuple(keys))

    async def _reload(self) -> Changes:
        return await self._follow(await self._scan(), retry=True)

    async def _set_default(self, name: str, version: str) -> Changes:
        if not name:
            raise InvalidRequest("name the model whose default version is meant")
        repository = self._engine.repository
        if version or name not in repository.models:
            repository.get(name, version)
        pins = {n: v for n, v in repository.pins.items() if n != name}
        await self._swap(replace(repository, pins=pins | ({name: version} if version else {})))
        log(logging.INFO, "default version set", model=name, version=version or "the highest")
        return Changes()

    async def _watch(self) -> None:
        """Polls: notifications of the kernel do not cross network file systems, on which models often are."""
        before: dict[Key, Fingerprint] | None = None
        while True:
            await asyncio.sleep(self._config.watch_seconds)
            try:
                async with self._one_at_a_time:
                    found = await self._scan()
                    # Twice the same: nobody is copying into it just now.
                    if found == before and not self._looks_away(found):
                        await self._follow(found, retry=False)
                before = found
            except BundleError as err:
                log(logging.WARNING, f"not watched for now: {err.message}")
            except Exception:
                log(logging.ERROR, "watching the models failed this time", exc_info=True)

    def _looks_away(self, found: Collection[Key]) -> bool:
        """All gone at once looks like a volume that was unmounted: not something to follow unasked."""
        if found or not len(self._engine.repository):
            return False
        log(logging.WARNING, f"{self._config.directory} is empty all at once; what is served stays, a reload drops it")
        return True

    async def _scan(self) -> dict[Key, Fingerprint]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, scan, self._config.directory, self._config.name)

    async def _follow(self, found: dict[Key, Fingerprint], *, retry: bool) -> Changes:
        repository = self._engine.repository
        known = _known(repository)
        failed = {(f.name, f.version) for f in repository.failed} if retry else set()
        stale = [
            key
            for key, print_ in found.items()
            if key not in repository.unloaded and (known.get(key) != print_ or key in failed)
        ]
        # Where a directory can no longer be listed, its models are still there for all that can be told.
        gone = [key for key in known if key not in found and (key[0], "") not in found]
        if gone:
            await self._swap(without(repository, gone))
        gone = [key for key in gone if key[1]]
        for name, version in gone:
            log(logging.INFO, "model gone from the directory", model=name, version=version)
        return replace(await self._load_all(stale), unloaded=tuple(gone))

    async def _load_all(self, keys: Iterable[Key]) -> Changes:
        """The highest version first, so that the default one moves once."""
        loaded, failed = [], []
        for key in sorted(keys, key=lambda key: (key[0], version_key(key[1])), reverse=True):
            result = await self._load_one(key)
            if isinstance(result, FailedBundle):
                failed.append(result)
            else:
                loaded.append(key)
        return Changes(loaded=tuple(loaded), failed=tuple(failed))

    async def _load_one(self, key: Key) -> ServedModel | FailedBundle:
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._thread, self._read, key)
        metrics = self._engine.metrics
        if isinstance(result, FailedBundle):
            metrics.model_load_failures.labels(result.name).inc()
            await self._swap(with_failure(self._engine.repository, result))
            if self._is_served(key):
                log(logging.WARNING, "the copy loaded before is still served", model=key[0], version=key[1])
        else:
            metrics.model_load_seconds.labels(result.name).observe(result.load_seconds)
            await self._swap(with_model(self._engine.repository, result))
        return result

    def _read(self, key: Key) -> ServedModel | FailedBundle:
        name, version = key
        found = find_bundles(self._config.directory, self._config.name)
        if version:
            return self._load_bundle(found.bundles.get(key, self._config.directory / name / version), key)
        return unreadable_name(name, found.unreadable.get(name, "could not be read, and now it can: try again"))

    def _is_served(self, key: Key) -> bool:
        versions = self._engine.repository.models.get(key[0], {})
        return key[1] in versions or (not key[1] and bool(versions))

    async def _swap(self, repository: Repository) -> None:
        old, self._engine.repository = self._engine.repository, repository
        self._describe(old, repository)
        if self._on_change is not None:
            await self._on_change(repository)

    def _describe(self, old: Repository, new: Repository) -> None:
        metrics = self._engine.metrics
        before, now = {_labels(m) for m in old}, {_labels(m) for m in new}
        for labels in before - now:
            metrics.model_info.remove(*labels)
        for labels in now:
            metrics.model_info.labels(*labels).set(1)
        metrics.models_failed.set(len(new.failed))

    def _explain(self, failure: FailedBundle) -> str:
        kept = "; the copy loaded before is still served" if self._is_served((failure.name, failure.version)) else ""
        which = f" version {failure.version!r}" if failure.version else ""
        return f"model {failure.name!r}{which} could not be loaded: {failure.error}{kept}"


def bundle_loader(config: ServerConfig) -> BundleLoader:
    """Loads a bundle as the configuration says."""
    return partial(
        load_bundle,
        runtime=config.runtime,
        variant=config.variant,
        threads=config.threads,
        instances=config.instance_counts,
        create=partial(create_runtime, gpu_memory_mb=config.gpu_memory_mb),
    )


def scan(directory: Path, name: str = "") -> dict[Key, Fingerprint]:
    """Every bundle that `find_bundles` finds, with what its files look like now; (NAME, "") for what cannot be listed.

    Raises BundleError where `directory` itself cannot be read.
    """
    try:
        found = find_bundles(directory, name)
    except OSError as err:
        raise BundleError(f"{directory}: cannot be read: {err.strerror or err}") from err
    bundles = {key: fingerprint(path) for key, path in found.bundles.items()}
    return bundles | {(unread, ""): fingerprint_of_error(error) for unread, error in found.unreadable.items()}


def with_model(repository: Repository, model: ServedModel) -> Repository:
    """A repository with this model in the place of the one that it replaces."""
    versions = {**repository.models.get(model.name, {}), model.version: model}
    key = (model.name, model.version)
    return replace(
        repository,
        models={**repository.models, model.name: versions},
        failed=tuple(f for f in repository.failed if (f.name, f.version) != key),
        unloaded=repository.unloaded - {key},
    )


def with_failure(repository: Repository, failure: FailedBundle) -> Repository:
    """Record the failure. What is served stays."""
    key = (failure.name, failure.version)
    others = tuple(f for f in repository.failed if (f.name, f.version) != key)
    return replace(repository, failed=(*others, failure), unloaded=repository.unloaded - {key})


def without(repository: Repository, keys: Collection[Key]) -> Repository:
    """Neither served nor on record as failed."""
    models: dict[str, dict[str, ServedModel]] = {}
    for model in repository:
        if (model.name, model.version) not in keys:
            models.setdefault(model.name, {})[model.version] = model
    failed = tuple(f for f in repository.failed if (f.name, f.version) not in keys)
    return replace(repository, models=models, failed=failed)


def _known(repository: Repository) -> dict[Key, Fingerprint]:
    """Fingerprint of the last state that was loaded, or failed to load."""
    served = {(m.name, m.version): m.fingerprint for m in repository}
    return served | {(f.name, f.version): f.fingerprint for f in repository.failed}


def _labels(model: ServedModel) -> tuple[str, str, str, str]:
    return model.name, model.version, model.bundle.info.architecture, model.runtime.name


def _not_on_disk(name: str, version: str, found: Iterable[Key], directory: Path) -> ModelError:
    keys = list(found)
    if versions := [v for n, v in keys if n == name]:
        return VersionNotFound(f"{directory / name} has no version {version!r}; it has {', '.join(versions)}")
    names = ", ".join(Counter(n for n, _ in keys)) or "nothing"
    return ModelNotFound(f"no bundle {name!r} below {directory}; there is {names}")


def _not_known(name: str, version: str, repository: Repository) -> ModelError:
    keys = _known(repository)
    if versions := [v for n, v in keys if n == name]:
        return VersionNotFound(f"model {name!r} has no version {version!r}; it has {', '.join(versions)}")
    names = ", ".join(Counter(n for n, _ in keys)) or "no models"
    return ModelNotFound(f"no model {name!r}; this server holds {names}")
