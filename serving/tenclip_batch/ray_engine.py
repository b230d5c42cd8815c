"""The same work on Ray Data: an actor pool whose actors hold the model and their decode workers, and write own parts.

The driver sorts the videos by the ledger and hands out chunks of names; rows of the ledger come back. Neither
videos nor clips nor features enter Ray's object store, unless other actors decode (`ray_decoders`): then clips do. What
was tried and is not used: Ray's own checkpoints kept nothing after a failure, `write_parquet` writes tensors as a type
of its own, and a row that kills its actor is retried for ever, which `attempts` ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import pickle
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from tenclip_client.cli.signals import terminated_like_interrupted
from tenclip_features.rows import VideoFailure
from tenclip_video.cpus import usable_cpus

# Ray's store holds names of videos and rows of the ledger; this is the least that it takes.
_STORE_BYTES = 80 << 20
# With actors that decode, clips as well; what does not fit Ray puts on disk.
_CLIPS_STORE_BYTES = 1 << 30
_STARTS = 3
_MOST_VIDEOS_OF_CHUNK, _CHUNKS_PER_ACTOR = 256, 4
# What chunks are cut for where nobody says how far a cluster grows.
_GROWN_ACTORS = 16


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Where the actors run. address None: a cluster of this machine, for this run alone. actors, chunk_videos 0: by the
    resources, and with an address more of them as the cluster grows; by the number of videos. decode_actors: that
    decode for one with the model; 0: it decodes itself.
    """

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

    Raises what `run_local` does; MissingDependency without Ray, InvalidRequest for a cluster that cannot be reached,
    and for a machine that has no room for an actor. A cluster without room is waited for: it may grow.
    """
    bundle = open_bundle(job.bundle, job.choices)
    check(job, bundle)
    job = dataclasses.replace(job, out=job.out.absolute(), videos=[_absolute(v) for v in job.videos])
    # Ray says on standard output when an actor has died, where the results belong. SIGTERM ends its processes, too.
    output = sys.stdout
    with terminated_like_interrupted(), contextlib.redirect_stdout(sys.stderr), _cluster(options) as ray:
        pool = _actor_pool(_room(ray, options), options, watching.on_note)
        chosen = ray.remote(num_cpus=0, num_gpus=options.gpus_per_actor)(choose_here)
        runtime, variant = _raised(ray.get(chosen.remote(bundle.path, job.runtime.runtime, job.runtime.variant)))
        job = dataclasses.replace(job, runtime=_runtime_of_actor(job, options, runtime, variant))
        decoders = _decoders(job, options)

        def work(plan: WorkerPlan, todo: Sequence[BatchVideo], dataset: Dataset, count: Count) -> None:
            chunks = _chunks(todo, dataset, options.chunk_videos or _chunk_size(len(todo), pool.expected))
            actor = ActorPlan(
                job.bundle.absolute(), job.choices, job.runtime, plan,
                with_uris=job.with_uris, decoders=decoders, show=watching.on_shown is not None,
            )  # fmt: skip
            for row in _rows(chunks, actor, options, pool):
                if row["fatal"]:
                    raise _error(row["kind"], row["message"])
                failure = VideoFailure(row["video"], row["kind"], row["message"]) if row["kind"] else None
                facts = json.loads(row["facts"]) if row["facts"] else None
                with contextlib.redirect_stdout(output):
                    count.row(row["video"], row["clips"], failure, facts)

        return run_with(job, bundle, runtime, variant, work, watching)


def _rows(chunks: list[Chunk], actor: ActorPlan, options: RayOptions, pool: ActorPool) -> Iterator[dict[str, Any]]:
    """A row of the ledger for each video, as chunks are done."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).flat_map(
        ChunkWorker,
        fn_constructor_args=(actor,),
        compute=pool.strategy(len(chunks)),
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


@dataclass(frozen=True)
class ActorPool:
    """size: actors that are asked for at once. grows: whether there may be more, as the cluster has room for them."""

    size: int
    grows: bool = False

    @property
    def expected(self) -> int:
        return max(self.size, _GROWN_ACTORS) if self.grows else self.size

    def strategy(self, num_chunks: int) -> Any:
        """For Ray Data; no more actors than chunks."""
        import ray.data

        size = min(self.size, num_chunks)
        return ray.data.ActorPoolStrategy(
            min_size=size,
            max_size=num_chunks if self.grows else size,
            # One at a time: what waits at an actor is not done by another one that has nothing to do.
            max_tasks_in_flight_per_actor=1,
        )


def _room(ray: Any, options: RayOptions) -> int | None:
    """How many actors there is room for now, on all machines, those that decode for them included; None for as many as
    anyone likes.
    """
    needs = {name: n for name, n in (("CPU", options.cpus_per_actor), ("GPU", options.gpus_per_actor)) if n}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = []
    if needs:
        fits.append(sum(min(int(node.get(name, 0) / each + 1e-6) for name, each in needs.items()) for node in nodes))
    if options.decode_actors and options.cpus:
        fits.append(int(sum(node.get("CPU", 0) for node in nodes) / options.cpus + 1e-6))
    return min(fits, default=None)


def _actor_pool(room: int | None, options: RayOptions, note: Callable[[str], None]) -> ActorPool:
    """The actors that are asked for. note: called with what is not as was asked. Raises InvalidRequest."""
    asked = options.actors
    if room is None:
        return ActorPool(asked or 1)
    one = f"{options.cpus_per_actor:g} cores and {options.gpus_per_actor:g} GPUs"
    lower = "--cpus-per-actor or --gpus-per-actor"
    if options.decode_actors:
        one += f", and {options.decode_actors} that decode for it, of {options.cpus_per_decode_actor:g} cores each"
        lower = f"--decode-actors, --cpus-per-decode-actor, {lower}"
    if options.address is None:
        if not room:
            raise InvalidRequest(
                f"no room for an actor of {one} on this machine, which has {usable_cpus()} cores; lower {lower}"
            )
        if asked > room:
            note(f"Ray: {room} actors in place of {asked}: this machine has no room for more of {one}")
        return ActorPool(min(asked, room) if asked else room)
    if options.decode_actors:
        return _with_decoders(room, options, one, note)
    if max(asked, 1) > room:
        note(
            f"Ray: the cluster has room for {room} actors of {one} now, of the {asked or 'one or more'} asked for; "
            "the others start when it grows"
        )
    return ActorPool(asked) if asked else ActorPool(max(room, 1), grows=True)


def _with_decoders(room: int, options: RayOptions, one: str, note: Callable[[str], None]) -> ActorPool:
    """No more than there is room for: models that took the cores of those that decode would wait for them for good."""
    size = min(options.actors or room, room)
    if options.actors > room or not room:
        note(f"Ray: {max(size, 1)} actors: the cluster has room for {room} of {one} now")
    return ActorPool(max(size, 1))


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
        "spool_dir": job.runtime.spool_dir and job.runtime.spool_dir.absolute(),
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


def _raised(answer: tuple[str, str] | TenclipError) -> tuple[str, str]:
    if isinstance(answer, TenclipError):
        raise answer
    return answer


def _error(kind: str, message: str) -> TenclipError:
    return error_classes().get(kind, TenclipError)(message)
