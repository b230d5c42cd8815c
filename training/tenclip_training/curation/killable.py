"""Work on many videos in processes of their own: a video that crashes or hangs its decoder costs itself only."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from tenclip_api.errors import DecodeWorkerDied, TenclipError, VideoError

Item = TypeVar("Item")
Value = TypeVar("Value")

DEFAULT_TIMEOUT_SECONDS = 600.0
# Videos that are handed out ahead of each worker.
AHEAD = 4


@dataclass(frozen=True)
class Outcome(Generic[Item, Value]):
    """What became of one item: a value, or the error that it ended in."""

    item: Item
    value: Value | None
    error: TenclipError | None = None


def for_each(
    function: Callable[[Item], Value],
    items: Iterable[Item],
    *,
    workers: int,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ahead: int = AHEAD,
) -> Iterator[Outcome[Item, Value]]:
    """Call `function` on every item in `workers` processes; outcomes come as they are finished.

    function: importable by its name. A worker that dies, or works on one item for longer than `timeout_seconds`, is
    replaced, and the item ends in DecodeWorkerDied, as one does for which memory is short. TenclipError and OSError of
    the function are outcomes; any other error is a bug and is raised. ahead: items that are handed out ahead of each
    worker; so many values for each may be in memory.
    """
    waiting: dict[Future[Any], Item] = {}
    remaining = iter(items)
    first = list(islice(remaining, ahead * workers))
    if not first:
        return
    pool = ProcessPool(max_workers=min(workers, len(first)), context=multiprocessing.get_context("spawn"))
    try:
        for item in first:
            waiting[pool.schedule(function, args=(item,), timeout=timeout_seconds)] = item
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield _outcome(future, waiting.pop(future), timeout_seconds)
                for item in islice(remaining, 1):
                    waiting[pool.schedule(function, args=(item,), timeout=timeout_seconds)] = item
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()


def _outcome(future: Future[Any], item: Item, timeout_seconds: float) -> Outcome[Item, Any]:
    try:
        return Outcome(item, future.result())
    except TenclipError as err:
        return Outcome(item, None, err)
    except TimeoutError:
        return Outcome(item, None, DecodeWorkerDied(f"{item}: took longer than {timeout_seconds:g} s and was stopped"))
    except ProcessExpired as err:
        return Outcome(item, None, DecodeWorkerDied(f"{item}: the process that decoded it died ({_how(err)})"))
    except MemoryError:
        return Outcome(item, None, DecodeWorkerDied(f"{item}: there was not enough memory to decode it"))
    except OSError as err:
        return Outcome(item, None, VideoError(f"{item}: {err.strerror or err}", source=str(item)))


def _how(err: ProcessExpired) -> str:
    code = getattr(err, "exitcode", None)
    return f"signal {-code}" if isinstance(code, int) and code < 0 else f"exit code {code}"
