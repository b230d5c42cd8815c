"""Doing jobs: one process of one thread for each core, since two small networks side by side train twice as fast as one
on two threads.

A job's folder has `result.json` when it is done, and only then. What a job has left unfinished is gone on with where
its task can (training), and begun anew where it cannot.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import TenclipError
from tenclip_data.atomic import write_text
from tenclip_findings.lab.jobs import Job, in_order
from tenclip_training.processes import end_with_parent, keep_freed_memory
from tenclip_video.cpus import usable_cpus

RESULT = "result.json"
Task = Callable[..., dict[str, Any]]  # (folder, **settings) -> what it has found, for JSON
_JOBS_PER_PROCESS = 40  # then a fresh one: allocators keep what large jobs took
# Of an interrupted run, seconds: in which jobs end that Ctrl-C has reached too, and then those that are told to.
_HEARD, _TOLD = 1.0, 8.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """done, total: jobs; those that were done before are not counted. clips_left: training clips of the rest."""

    done: int
    total: int
    clips_left: int
    title: str
    seconds: float


def result_of(job: Job, root: Path) -> dict[str, Any] | None:
    """What a job has found, None where it is not done."""
    try:
        values: dict[str, Any] = json.loads((job.folder(root) / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as err:
        raise TenclipError(
            f"{job.folder(root) / RESULT}: cannot be read ({err}); remove it to do the job again"
        ) from err
    return values


def run_jobs(
    jobs: Iterable[Job],
    root: Path,
    *,
    processes: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Do the jobs and all that they need, those that are done left out.

    processes: at once, None for one a core. Raises TenclipError at the first that fails, when those that run have
    ended. KeyboardInterrupt ends those that run at once; the next run goes on where they were.
    """
    waiting = {job.key: job for job in in_order(jobs) if result_of(job, root) is None}
    total, clips_left = len(waiting), sum(job.clips for job in waiting.values())
    count = max(1, min(processes or usable_cpus(), total))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count, mp_context=context, max_tasks_per_child=_JOBS_PER_PROCESS, initializer=_one_thread
    )
    running: dict[Future[float], Job] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, running, root)[: 2 * count - len(running)]:
                running[pool.submit(_do, job.kind, job.resolved(root), str(job.folder(root)))] = job
                del waiting[job.key]
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in [future for future in running if future in ended]:  # in the order of their jobs
                job = running.pop(future)
                seconds = _ended(future, job)
                clips_left -= job.clips
                if on_progress is not None:
                    done = total - len(waiting) - len(running)
                    on_progress(
                        Progress(done=done, total=total, clips_left=clips_left, title=job.title, seconds=seconds)
                    )
    except KeyboardInterrupt:
        _end(pool, running)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end(pool: ProcessPoolExecutor, running: Iterable[Future[float]]) -> None:
    """End the processes: by what ends a command in a terminal, so that trainings save and servers are stopped, and by
    force where that does not help.
    """
    left = [future for future in running if not future.cancel()]
    processes = list(pool._processes.values())
    try:
        if wait(left, timeout=_HEARD).not_done:
            for process in processes:
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, signal.SIGINT)
            wait(left, timeout=_TOLD)
    finally:  # a second Ctrl-C does not wait
        for process in processes:
            process.kill()


def _ready(waiting: Mapping[str, Job], running: Mapping[Future[float], Job], root: Path) -> list[Job]:
    """Jobs that nothing which is not done stands before, in their order."""
    undone = {*waiting, *(job.key for job in running.values())}
    return [job for job in waiting.values() if not any(need.key in undone for need in job.needs)]


def _ended(future: Future[float], job: Job) -> float:
    try:
        return future.result()
    except BrokenProcessPool as err:
        raise TenclipError(f"{job.title or job.kind}: its process died, perhaps of too little memory") from err
    except TenclipError as err:
        raise TenclipError(f"{job.title or job.kind}: {err.message}") from err
    except ValueError as err:  # settings that cannot work
        raise TenclipError(f"{job.title or job.kind}: {err}") from err


def _one_thread() -> None:
    """Of a new process, before it imports anything large. It ends with the run, also where that is killed, and hears
    Ctrl-C within a job alone.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    keep_freed_memory()
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    import torch

    torch.set_num_threads(1)


_interrupted: list[str] = []  # jobs of this process: one at most


def _do(kind: str, settings: dict[str, Any], folder: str) -> float:
    """In a process of the pool. Returns seconds. Raises KeyboardInterrupt where it was interrupted, and ever after."""
    if _interrupted:
        raise KeyboardInterrupt
    module, _, name = kind.rpartition(".")
    task: Task = getattr(importlib.import_module(f"tenclip_findings.{module}"), name)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = task(place, **settings)
    except KeyboardInterrupt:
        _interrupted.append(kind)
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    seconds = time.perf_counter() - started
    write_text(place / RESULT, json.dumps({**found, "seconds": round(seconds, 3)}) + "\n")
    return seconds
