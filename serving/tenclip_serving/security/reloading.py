"""Files that may change while the server runs: certificates, keys, tokens."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from tenclip_api.errors import TenclipError
from tenclip_serving.telemetry.logs import log

T = TypeVar("T")
_Signature: TypeAlias = "tuple[tuple[int, int, int] | None, ...]"


class Watched(Generic[T]):
    """`get` calls `load` again when one of `paths` has changed, and keeps the last good result while the new is bad.

    Files are compared by inode, size and time of change: one system call each, cheap enough for every connection and
    request, so that nothing polls. Links are followed, which is how Kubernetes swaps its secrets.
    what: for the log. on_load: called with True or False after every later load, good or bad.
    Raises what `load` raises, from the constructor only.
    """

    def __init__(
        self, paths: Sequence[Path], load: Callable[[], T], *, what: str, on_load: Callable[[bool], None] | None = None
    ) -> None:
        self._paths, self._load, self._what = tuple(paths), load, what
        self._on_load = on_load or (lambda good: None)
        self._lock = threading.Lock()
        # Before the load: what changes meanwhile is loaded once more.
        self._seen = _signature(self._paths)
        self._value = load()

    def get(self) -> T:
        """The newest good result. Safe from any thread; never raises."""
        if _signature(self._paths) != self._seen and self._lock.acquire(blocking=False):
            try:
                self._reload()
            finally:
                self._lock.release()
        return self._value

    def _reload(self) -> None:
        signature = _signature(self._paths)
        try:
            self._value = self._load()
        except Exception as err:
            # Half of a pair may have been replaced: the other half will change the signature again.
            # What nobody foresaw is named by its kind alone: its words may quote a secret.
            why = err.message if isinstance(err, TenclipError) else type(err).__name__
            log(logging.ERROR, f"{self._what} changed and cannot be used, the old stays: {why}")
            self._on_load(False)
        else:
            log(logging.INFO, f"{self._what} read again", files=[str(p) for p in self._paths])
            self._on_load(True)
        self._seen = signature


def _signature(paths: Sequence[Path]) -> _Signature:
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
