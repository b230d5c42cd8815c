"""The same work on Ray Data: an actor pool whose actors hold the model and their decode workers, and write own parts.

The driver sorts the videos by the ledger and hands out chunks of names; rows of the ledger come back. Neither
videos nor clips nor features enter Ray's object store, unless other actors decode (`ray_decoders`): then clips do. What
was tried and is not used: Ray's own checkpoints kept nothing after a failure, `write_parquet` writes tensors as a type
of its own, and a row that kills its actor is retried for ever, which `attempts` ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import pickle
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import InvalidRequest, MissingDependency, ServerUnavailable, TenclipError, error_classes
from tenclip_batch.bundle import open_bundle
from tenclip_batch.dataset import Dataset
from tenclip_batch.options import RuntimeOptions
from tenclip_batch.ray_actor import PARTS_OF_CHUNK, ActorPlan, Chunk, ChunkWorker, DecodersPlan, choose_here
from tenclip_batch.run import BatchJob, BatchReport, Count, Watching, check, run_with
from tenclip_batch.sources import BatchVideo, ParquetCell, TarMember
from tenclip_batch.worker import WorkerPlan
from tenclip_features.rows import VideoFailure
from tenclip_video.cpus import usable_cpus

# Ray's store holds names of videos and rows of the ledger; this is the least that it takes.
_STORE_BYTES = 80 << 20
# With actors that decode, clips as well; what does not fit Ray puts on disk.
_CLIPS_STORE_BYTES = 1 << 30
_STARTS = 3
_MOST_VIDEOS_OF_CHUNK, _CHUNKS_PER_ACTOR = 256, 4


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where the actors run. address None: a cluster of this machine, for this run alone; actors, chunk_videos 0: by the
    resources and the number of videos. decode_actors: that decode for one with the model; 0: it decodes itself."""

    address: str | None = None
    actors: int = 0
    cpus_per_actor: float = 2.0
    gpus_per_actor: float = 0.0
    decode_actors: int = 0
    cpus_per_decode_actor: float = 2.0
    chunk_videos: int = 0

    @property
    def cpus(self) -> float:
        """Cores that an actor reserves with those that decode for it."""
        return self.cpus_per_actor + self.decode_actors * self.cpus_per_decode_actor


def run_ray(job: BatchJob, options: RayOptions, watching: Watching = Watching()) -> BatchReport:  # noqa: B008
    """Work on all videos in actors of Ray. The paths of the bundle, the videos and the dataset must be theirs, too.

    Raises what `run_local` does; MissingDependency without Ray, InvalidRequest for a cluster that cannot be reached or
    has no room for an actor.
    """
    bundle = open_bundle(job.bundle, job.choices)
    check(job, bundle)
    job = dataclasses.replace(job, out=job.out.absolute(), videos=[_absolute(v) for v in job.videos])
    # Ray says on standard output when an actor has died, where the result belongs.
    with _terminated_like_interrupted(), contextlib.redirect_stdout(sys.stderr), _cluster(options) as ray:
        num_actors = _num_actors(ray, options)
        chosen = ray.remote(num_cpus=0, num_gpus=options.gpus_per_actor)(choose_here)
        runtime, variant = _raised(ray.get(chosen.remote(bundle.path, job.runtime.runtime, job.runtime.variant)))
        job = dataclasses.replace(job, runtime=_runtime_of_actor(job, options, runtime, variant))
        decoders = _decoders(job, options)

        def work(plan: WorkerPlan, todo: Sequence[BatchVideo], dataset: Dataset, count: Count) -> None:
            chunks = _chunks(todo, dataset, options.chunk_videos or _chunk_size(len(todo), num_actors))
            actor = ActorPlan(
                job.bundle.absolute(), job.choices, job.runtime, plan, with_uris=job.with_uris, decoders=decoders
            )
            for row in _rows(chunks, actor, options, min(num_actors, len(chunks))):
                if row["fatal"]:
                    raise _error(row["kind"], row["message"])
                failure = VideoFailure(row["video"], row["kind"], row["message"]) if row["kind"] else None
                count.row(row["video"], row["clips"], failure)

        return run_with(job, bundle, runtime, variant, work, watching)


def _rows(chunks: list[Chunk], actor: ActorPlan, options: RayOptions, num_actors: int) -> Iterator[dict[str, Any]]:
    """A row of the ledger for each video, as chunks are done."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).flat_map(
        ChunkWorker,
        fn_constructor_args=(actor,),
        # One at a time: what waits at an actor is not done by another one that has nothing to do.
        compute=ray.data.ActorPoolStrategy(size=num_actors, max_tasks_in_flight_per_actor=1),
        num_cpus=options.cpus_per_actor,
        num_gpus=options.gpus_per_actor or None,
    )
    yield from dataset.iter_rows()


def _chunks(todo: Sequence[BatchVideo], dataset: Dataset, size: int) -> list[Chunk]:
    firsts = range(0, len(todo), size)
    number = dataset.reserve(len(firsts) * PARTS_OF_CHUNK)
    return [Chunk(number + i * PARTS_OF_CHUNK, tuple(todo[f : f + size])) for i, f in enumerate(firsts)]


def _chunk_size(num_videos: int, num_actors: int) -> int:
    """Small enough that all actors end at about the same time."""
    return min(_MOST_VIDEOS_OF_CHUNK, max(1, math.ceil(num_videos / (_CHUNKS_PER_ACTOR * num_actors))))


def _num_actors(ray: Any, options: RayOptions) -> int:
    have = ray.cluster_resources()
    fits = []
    for name, each in (("CPU", options.cpus), ("GPU", options.gpus_per_actor)):
        if each:
            fits.append(int(have.get(name, 0) / each))
    most = min(fits, default=1)
    if most < 1:
        decoding = options.decode_actors
        others = f" and {decoding} that decode, of {options.cpus_per_decode_actor:g} cores each" if decoding else ""
        raise InvalidRequest(
            f"no room for an actor of {options.cpus_per_actor:g} cores and {options.gpus_per_actor:g} GPUs{others}: "
            f"Ray has {have.get('CPU', 0):g} cores and {have.get('GPU', 0):g} GPUs; lower --cpus-per-actor, "
            f"{'--decode-actors, --cpus-per-decode-actor ' if decoding else ''}or --gpus-per-actor"
        )
    return min(options.actors, most) if options.actors else most


def _runtime_of_actor(job: BatchJob, options: RayOptions, runtime: str, variant: str) -> RuntimeOptions:
    """What was chosen once, for all of them, and the part of a machine that an actor has."""
    cores = max(1, int(options.cpus_per_actor))
    workers = job.runtime.decode_workers or max(1, cores // 2)
    if options.decode_actors:  # all of them together: so many videos are in flight, and so large may their clips be
        workers = options.decode_actors * _workers_of_decoder(job, options)
    changes: dict[str, Any] = {
        "runtime": runtime,
        "variant": variant,
        "threads": job.runtime.threads or max(1, cores // job.runtime.instances),
        "decode_workers": workers,
    }
    return dataclasses.replace(job.runtime, **changes)


def _workers_of_decoder(job: BatchJob, options: RayOptions) -> int:
    return job.runtime.decode_workers or max(1, int(options.cpus_per_decode_actor))


def _decoders(job: BatchJob, options: RayOptions) -> DecodersPlan | None:
    """job: with the options of the actor that holds the model."""
    if not options.decode_actors:
        return None
    count = options.decode_actors
    runtime = dataclasses.replace(
        job.runtime,
        decode_workers=job.runtime.decode_workers // count,
        in_flight=math.ceil(job.runtime.in_flight / count),
    )
    return DecodersPlan(actors=count, cpus=options.cpus_per_decode_actor, runtime=runtime)


def _absolute(video: BatchVideo) -> BatchVideo:
    """Actors have folders of their own."""
    match video.source:
        case Path() as path:
            return dataclasses.replace(video, source=path.absolute())
        case TarMember() as member:
            return dataclasses.replace(video, source=dataclasses.replace(member, tar=member.tar.absolute()))
        case ParquetCell() as cell:
            return dataclasses.replace(video, source=dataclasses.replace(cell, path=cell.path.absolute()))
    return video


# -- the cluster -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _cluster(options: RayOptions) -> Iterator[Any]:
    """Ray, connected. A cluster of our own listens on loopback only, asks for a token, and leaves nothing behind."""
    # Before Ray is imported, which reads them then.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its own notes about actors, on our standard error
    if options.address is None:
        # Without these Ray writes a token into the home folder, or asks for none.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as err:
        raise MissingDependency(
            f"--engine ray needs {err.name}, which is not installed: pip install 'tenclip[ray]'"
        ) from err
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    folder = None
    try:
        if options.address is None:
            # Short: paths of sockets have 107 characters at most.
            folder = tempfile.mkdtemp(prefix="tenclip-ray-")
            _start(ray, folder, quiet, _CLIPS_STORE_BYTES if options.decode_actors else _STORE_BYTES)
        else:
            _connect(ray, options.address, quiet)
        yield ray
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, folder: str, quiet: dict[str, Any], store_bytes: int) -> None:
    """A cluster of this machine. Raises ServerUnavailable where it does not come up: Ray's own errors have no base.

    Its processes have half a minute to start, which a busy machine may not give them the first time.
    """
    for left in reversed(range(_STARTS)):
        try:
            ray.init(
                num_cpus=usable_cpus(),
                include_dashboard=False,
                object_store_memory=store_bytes,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **quiet,
            )
            return
        except Exception as err:
            ray.shutdown()
            if not left:
                why = " ".join(str(err).split()) or type(err).__name__
                raise ServerUnavailable(
                    f"Ray cannot be started on this machine: {why}; --engine local does without"
                ) from err


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as err:
        why = " ".join(str(err).split())
        raise InvalidRequest(f"--ray-address {address}: no Ray cluster can be reached there: {why}") from err


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends this as Ctrl-C does, so that Ray's processes are ended, too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs this has the signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raised(answer: tuple[str, str] | TenclipError) -> tuple[str, str]:
    if isinstance(answer, TenclipError):
        raise answer
    return answer


def _error(kind: str, message: str) -> TenclipError:
    return error_classes().get(kind, TenclipError)(message)
