"""The models that a server serves: bundles found in a directory, loaded and proven on their golden clips."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from tenclip_api.errors import (
    BundleError,
    InvalidRequest,
    MissingDependency,
    ModelError,
    ModelNotFound,
    ParityError,
    TenclipError,
    VersionNotFound,
)
from tenclip_serving.config import RuntimeChoice, VariantChoice
from tenclip_serving.models.directory import Key, find_bundles, no_bundles
from tenclip_serving.models.golden_replay import replay
from tenclip_serving.models.samplers import ServedSampler, load_served_sampler
from tenclip_serving.runtimes import (
    CHOSEN_ON_GPU,
    GPU_RUNTIMES,
    RUNTIMES,
    Runtime,
    available_runtimes,
    create_runtime,
    missing,
    reads,
)
from tenclip_serving.scheduling.warmup import warm_up
from tenclip_serving.telemetry.logs import log
from tenclip_video.bundle import Bundle, Tolerance, Variant, read_bundle
from tenclip_video.cpus import usable_cpus

RuntimeFactory = Callable[..., Runtime]  # create_runtime(name, path, *, threads)
_EFFECTIVE_IDS = os.access in os.supports_effective_ids  # on Unix
# (path below the bundle, inode, bytes, nanoseconds of its last change) of every file of a bundle.
Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A bundle that answers as it should on the runtime picked for it.

    more_instances: of the same graph, each for one batch at a time beside the others.
    sampler: its learned salience, where its bundle has one.
    fingerprint: of its files when they were read. load_seconds: of reading and proving it.
    """

    bundle: Bundle
    runtime: Runtime
    runtime_reason: str
    variant: str = "fp32"
    more_instances: tuple[Runtime, ...] = ()
    sampler: ServedSampler | None = None
    fingerprint: Fingerprint = field(default=(), repr=False)
    load_seconds: float = 0.0

    @property
    def name(self) -> str:
        return self.bundle.info.name

    @property
    def version(self) -> str:
        return self.bundle.info.version

    @property
    def key(self) -> Key:
        """(name, version)."""
        return self.name, self.version

    @property
    def instances(self) -> tuple[Runtime, ...]:
        return (self.runtime, *self.more_instances)


@dataclass(frozen=True, kw_only=True)
class FailedBundle:
    """A directory that looks like a bundle and cannot be served. `error` says why.

    An older state of it that was loaded before goes on being served.
    version: "" is the whole directory of a name, whose versions cannot be listed.
    """

    name: str
    version: str
    error: str
    fingerprint: Fingerprint = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant and a runtime that could execute it. `measured`: clips per second on the exporting machine."""

    variant: Variant
    runtime: str
    measured: float | None = None
    machine: str = ""


@dataclass(frozen=True)
class Repository:
    """Models by name and version. It never changes: reloading makes a new one (see manager.py).

    pins: the version that an empty one means, by name, where it is not the highest. unloaded: by hand, and so not to be
    loaded again before somebody says so.
    """

    models: Mapping[str, Mapping[str, ServedModel]] = field(default_factory=dict)
    failed: Sequence[FailedBundle] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    unloaded: frozenset[Key] = frozenset()

    def __iter__(self) -> Iterator[ServedModel]:
        """By name, then by version, the newest first."""
        for name in sorted(self.models):
            yield from (self.models[name][v] for v in sorted(self.models[name], key=version_key, reverse=True))

    def __len__(self) -> int:
        return len(self.models)

    def default_version(self, name: str) -> str:
        """The pinned version, served or not; else the highest of those that are served."""
        return self.pins.get(name) or max(self.models[name], key=version_key)

    def failure(self, name: str, version: str) -> FailedBundle | None:
        """Why what is on disk now could not be loaded; None where it could."""
        return next((f for f in self.failed if f.name == name and f.version in (version, "")), None)

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """An empty name means the only model, an empty version the default one.

        Raises InvalidRequest, ModelNotFound or VersionNotFound that list what there is, or the error with which the
        bundle asked for failed to load.
        """
        if not name:
            name = self._only_name()
        if name not in self.models:
            self._raise_if_failed(name, version)
            raise ModelNotFound(f"no model {name!r}; {self._known()}")
        versions = self.models[name]
        pinned = not version and name in self.pins
        version = version or self.default_version(name)
        if version not in versions:
            self._raise_if_failed(name, version)
            known = ", ".join(sorted(versions, key=version_key))
            what = "is pinned to" if pinned else "has no"
            raise VersionNotFound(
                f"model {name!r} {what} version {version!r}{', which is not served' if pinned else ''}; it has {known}"
            )
        return versions[version]

    def _only_name(self) -> str:
        if len(self.models) == 1:
            return next(iter(self.models))
        if not self.models:
            raise ModelNotFound(self._known())
        raise InvalidRequest(f"name a model: {self._known()}")

    def _known(self) -> str:
        if not self.models:
            failed = f"; {len(self.failed)} could not be loaded" if self.failed else ""
            return f"this server holds no models{failed}"
        return f"this server holds {', '.join(sorted(self.models))}"

    def _raise_if_failed(self, name: str, version: str) -> None:
        for failure in self.failed:
            if failure.name == name and (version in ("", failure.version) or not failure.version):
                which = f" version {failure.version!r}" if failure.version else ""
                raise ModelError(f"model {name!r}{which} could not be loaded: {failure.error}")


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts versions as people count: 2 < 10, 1.9 < 1.10, and a plain number after any word.

    >>> sorted(["10", "9", "1.10", "1.9"], key=version_key)
    ['1.9', '1.10', '9', '10']
    """
    parts = re.findall(r"\d+|[^\d._-]+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def unreadable_name(name: str, error: str) -> FailedBundle:
    """The entry for a directory whose bundles cannot be listed; logs the reason."""
    log(logging.ERROR, f"bundle not served: {error}", model=name)
    return FailedBundle(name=name, version="", error=error, fingerprint=fingerprint_of_error(error))


def fingerprint_of_error(error: str) -> Fingerprint:
    """Stands for a directory that cannot be read, as long as the reason is the same."""
    return ((error, 0, 0, 0),)


def load_repository(
    root: Path,
    *,
    runtime: RuntimeChoice = "auto",
    variant: VariantChoice = "auto",
    threads: int = 0,
    instances: Mapping[str, int] = MappingProxyType({}),
    create: RuntimeFactory = create_runtime,
    name: str = "",
) -> Repository:
    """Load every bundle that `find_bundles` finds. One that fails is kept in `failed` and the others are served."""
    models: dict[str, dict[str, ServedModel]] = {}
    found = find_bundles(root, name)
    failed = [unreadable_name(unread, error) for unread, error in found.unreadable.items()]
    for key, path in found.bundles.items():
        loaded = load_bundle(
            path, key, runtime=runtime, variant=variant, threads=threads, instances=instances, create=create
        )
        if isinstance(loaded, FailedBundle):
            failed.append(loaded)
        else:
            models.setdefault(loaded.name, {})[loaded.version] = loaded
    if not models and not failed:
        log(logging.WARNING, f"no bundles: {no_bundles(root, name)}")
    return Repository(models, tuple(failed))


def load_bundle(
    path: Path,
    key: Key | None = None,
    *,
    runtime: RuntimeChoice = "auto",
    variant: VariantChoice = "auto",
    threads: int = 0,
    instances: Mapping[str, int] = MappingProxyType({}),
    create: RuntimeFactory = create_runtime,
) -> ServedModel | FailedBundle:
    """`load_model` that raises nothing, and says in the log how it went."""
    name, version = key or (path.parent.name, path.name)
    started = time.perf_counter()
    print_ = fingerprint(path)
    log(logging.INFO, "loading model", model=name, version=version)
    try:
        model = load_model(
            path, key, runtime=runtime, variant=variant, threads=threads, instances=instances, create=create
        )
    except Exception as err:
        error = _why(err, path)
        log(logging.ERROR, f"bundle not served: {error}", model=name, version=version)
        return FailedBundle(name=name, version=version, error=error, fingerprint=print_)
    seconds = time.perf_counter() - started
    log(
        logging.INFO,
        "model loaded",
        model=name,
        version=version,
        runtime=model.runtime.name,
        variant=model.variant,
        reason=model.runtime_reason,
        seconds=round(seconds, 3),
    )
    return replace(model, fingerprint=print_, load_seconds=seconds)


def _why(err: Exception, path: Path) -> str:
    if isinstance(err, TenclipError):
        return err.message
    if isinstance(err, MemoryError):
        return f"{path}: no memory left to load it"
    if isinstance(err, OSError):
        return f"{err.filename or path}: cannot be read: {err.strerror or err}"
    return f"{path}: {type(err).__name__}: {err}"  # of the file system, or a runtime's own


def fingerprint(path: Path) -> Fingerprint:
    """Differs when anything in the bundle was replaced or changed. Files that come and go meanwhile are left out."""
    found = []
    for folder, _, files in os.walk(path):
        for file in files:
            with contextlib.suppress(OSError):
                whole = os.path.join(folder, file)
                stat = os.stat(whole)
                # One that may be read now, and could not be before, is as good as changed.
                changed = stat.st_mtime_ns if os.access(whole, os.R_OK, effective_ids=_EFFECTIVE_IDS) else 0
                found.append((os.path.relpath(whole, path), stat.st_ino, stat.st_size, changed))
    return tuple(sorted(found))


def load_model(
    path: Path,
    key: Key | None = None,
    *,
    runtime: RuntimeChoice = "auto",
    variant: VariantChoice = "auto",
    threads: int = 0,
    instances: Mapping[str, int] = MappingProxyType({}),
    create: RuntimeFactory = create_runtime,
) -> ServedModel:
    """Read the bundle in `path`, prove its sampler and a runtime on its golden clips, and warm that up.

    `auto` goes through the candidates, the fastest first, until one passes; `gpu` through those on a GPU.
    Raises BundleError, ParityError or MissingDependency; with several candidates, the error of the first.
    key: the name and the version that it is served as; None: its directory's, which its file has to say too. A key of
    its own (see `find_bundles`) may give it another name. instances: how many, by name; "" means all other models.
    """
    bundle = _named(read_bundle(path), key)
    sampler = load_served_sampler(bundle)
    available = _available(runtime)
    ranked = rank_candidates(bundle, available, variant)
    if not ranked:
        raise BundleError(f"{path}: {_nothing_fits(bundle, available, variant)}")
    errors: list[TenclipError] = []
    for candidate in ranked:
        try:
            count = instances.get(bundle.info.name, instances.get("", 1))
            made = _create_instances(bundle, candidate, count, threads, create)
        except TenclipError as err:
            errors.append(err)
            continue
        asked = runtime in RUNTIMES and not errors and (len(ranked) == 1 or candidate.measured is None)
        reason = "asked for" if asked else _reason(candidate, ranked, errors)
        return ServedModel(
            bundle=bundle,
            runtime=made[0],
            more_instances=made[1:],
            runtime_reason=reason,
            variant=candidate.variant.name,
            sampler=sampler,
        )
    raise errors[0]


def _named(bundle: Bundle, key: Key | None) -> Bundle:
    """The bundle as what it is served as. Raises BundleError where its file says something else than its directory."""
    info, path = bundle.info, bundle.path
    directory = (path.parent.name, path.name)
    name, version = key or directory
    if info.version != version or (info.name != name and (name, version) == directory):
        raise BundleError(f"{path}: bundle.json says {info.name}/{info.version}; rename the directory to match")
    return bundle if info.name == name else replace(bundle, info=replace(info, name=name))


def choose_candidate(bundle: Bundle, *, runtime: RuntimeChoice = "auto", variant: VariantChoice = "auto") -> Candidate:
    """What `load_model` would try first on this machine. Loads nothing. Raises BundleError, MissingDependency."""
    available = _available(runtime)
    ranked = rank_candidates(bundle, available, variant)
    if not ranked:
        raise BundleError(f"{bundle.path}: {_nothing_fits(bundle, available, variant)}")
    return ranked[0]


def _create_instances(
    bundle: Bundle, candidate: Candidate, count: int, threads: int, create: RuntimeFactory
) -> tuple[Runtime, ...]:
    """Proven and warm. Each has its share of the cores, unless `threads` says how many."""
    if count > 1:
        threads = threads or max(1, usable_cpus() // count)
    made = []
    for _ in range(count):
        runtime = create(candidate.runtime, bundle.path / candidate.variant.path, threads=threads)
        _prove(bundle, runtime, bundle.tolerance(candidate.variant))
        warm_up(runtime, bundle.info.clip_spec, model=bundle.info.name)
        made.append(runtime)
    return tuple(made)


def _available(runtime: RuntimeChoice) -> tuple[str, ...]:
    """The runtimes to choose from. Raises MissingDependency where the one asked for does not work here.

    "gpu" asks for any that computes on one: nothing else is ever chosen then.
    """
    if runtime == "auto":
        return available_runtimes()
    asked = CHOSEN_ON_GPU if runtime == "gpu" else (runtime,)
    lacking = {name: needed for name in asked if (needed := missing(name)) is not None}
    if len(lacking) == len(asked):
        needs = ", ".join(f"runtime {name} needs {needed}, which is not here" for name, needed in lacking.items())
        works = ", ".join(available_runtimes(on_request=True)) or "none"
        raise MissingDependency(f"{'no GPU is used: ' if runtime == 'gpu' else ''}{needs}; what works here: {works}")
    return tuple(name for name in asked if name not in lacking)


def _nothing_fits(bundle: Bundle, available: Sequence[str], variant: VariantChoice) -> str:
    variants = bundle.info.variants
    if variant != "auto" and all(v.name != variant for v in variants):
        names = ", ".join(dict.fromkeys(v.name for v in variants))
        return f"it has no variant {variant}, only {names}; `tenclip export --variant {variant}` makes one"
    formats = ", ".join(sorted({v.format for v in variants}))
    return (
        f"nothing here executes its variants (formats: {formats}; runtimes: {', '.join(available) or 'none'}), or "
        "their parity check failed at export; `tenclip export --format` writes others"
    )


def _prove(bundle: Bundle, runtime: Runtime, tolerance: Tolerance) -> None:
    """Replay the golden clips. Whatever a runtime raises on them is the bundle's fault, not the server's."""
    try:
        replay(bundle, runtime, tolerance)
    except TenclipError:
        raise
    except Exception as err:  # ONNX Runtime's and OpenVINO's own, MemoryError
        raise BundleError(f"{bundle.path}: {runtime.name} fails on its golden clips: {err}") from err


def rank_candidates(bundle: Bundle, runtimes: Sequence[str], variant: VariantChoice = "auto") -> list[Candidate]:
    """Variants and runtimes that could execute the bundle, the best first.

    A GPU whose speed was not measured; then what was measured, by speed; then full precision in the runtimes' order of
    preference. Left out is what failed its parity check at export and, unless `variant` asks for it, reduced precision
    that was not measured to be faster: without that it is not worth its error.
    """
    info = bundle.info
    measured = {(s.variant, s.runtime): s for s in sorted(info.speed, key=lambda s: s.clips_per_second)}
    failed = {(p.variant, p.runtime) for p in info.parity if not p.passed}
    found = []
    for runtime in runtimes:
        variants = [v for v in info.variants if reads(runtime, v.format, v.path) and variant in ("auto", v.name)]
        for candidate in sorted(variants, key=lambda v: (v.name != "fp32", RUNTIMES[runtime].index(v.format))):
            speed = measured.get((candidate.name, runtime))
            if (candidate.name, runtime) in failed:
                continue
            if candidate.name != "fp32" and speed is None and any(v.name == "fp32" for v in variants):
                continue
            found.append(
                Candidate(
                    variant=candidate,
                    runtime=runtime,
                    measured=speed.clips_per_second if speed else None,
                    machine=speed.machine if speed else "",
                )
            )
    # Stable: preference decides among the unmeasured.
    return sorted(found, key=lambda c: (not _unmeasured_gpu(c), -(c.measured or 0.0)))


def _unmeasured_gpu(candidate: Candidate) -> bool:
    return candidate.measured is None and candidate.runtime in GPU_RUNTIMES


def _reason(chosen: Candidate, ranked: Sequence[Candidate], errors: Sequence[TenclipError]) -> str:
    if errors:
        tried = "; ".join(f"{c.runtime} ({c.variant.name}): {_short(e)}" for c, e in zip(ranked, errors, strict=False))
        return f"the first that works; {tried}"
    if _unmeasured_gpu(chosen) and any(c.measured is not None for c in ranked):
        return "preferred: there is a GPU here, and the speeds in the bundle are of other runtimes"
    if chosen.measured is not None:
        return f"the fastest measured at export: {chosen.measured:.3g} clips/s on {chosen.machine}"
    if len({c.runtime for c in ranked}) == 1:
        return "the only one installed that reads this bundle"
    return "preferred; the bundle has no measured speeds"


def _short(err: TenclipError) -> str:
    kind = "drifts" if isinstance(err, ParityError) else type(err).__name__
    return f"{kind} ({err.message})"
