"""An index that is searched in a process of its own: for a process that must not load faiss.

Nothing here imports numpy, pyarrow or faiss.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenclip_api.errors import (
    DatasetError,
    DeadlineExceeded,
    IndexMismatch,
    ServerError,
    ServerUnavailable,
    TenclipError,
    error_classes,
)
from tenclip_index.metadata import IndexInfo, describe_model, info_from_dict, read_info
from tenclip_index.results import Filters, Neighbour
from tenclip_index.search_process import Closed, receive, send

START_SECONDS = 300.0  # an index of gigabytes on a slow disk
_STOP_SECONDS = 5.0


class IndexProcess:
    """A process that searches one index. Its methods block, and may be called from any thread; one search at a time.

    A process that died or took too long is replaced with the next search, which then sees what is on disk.
    """

    def __init__(self, folder: Path | str, *, threads: int = 0, name: str = "") -> None:
        """Returns when the index can be searched. Raises IndexNotFound, DatasetError, MissingDependency.

        name: of the index in messages of searches; the folder's path where it is empty.
        """
        self.folder, self._threads = Path(folder), threads
        self._name = f"index {name}" if name else str(folder)
        self._lock = threading.Lock()
        self._closed = False
        self.info = read_info(self.folder)
        self._process, self._sock = self._start()

    @property
    def pid(self) -> int:
        """Of the process, which may have ended."""
        return self._process.pid

    def neighbours(
        self,
        features: bytes,
        *,
        k: int,
        by_video: bool = False,
        filters: Filters = Filters(),
        seconds: float = START_SECONDS,
    ) -> list[Neighbour]:
        """As `Index.neighbours`. features: float32 [Q,D] as bytes. seconds: the longest that it may take.

        Raises what that does; DeadlineExceeded, after which the process is ended if it was searching; ServerError where
        it died.
        """
        request = {"k": k, "by_video": by_video, "filters": asdict(filters)}
        until = time.monotonic() + seconds
        if not self._lock.acquire(timeout=max(until - time.monotonic(), 0)):
            raise self._too_late()
        try:
            answer = self._ask(request, features, until) or self._ask(request, features, until)
        finally:
            self._lock.release()
        if answer is None:
            raise ServerError(f"{self._name}: the process that searched the index died, as one before it had")
        return [Neighbour(**{**n, "labels": tuple(n["labels"])}) for n in _checked(self._name, answer)["neighbours"]]

    def _ask(self, request: dict[str, Any], features: bytes, until: float) -> dict[str, Any] | None:
        """None where the process died: the next one may answer."""
        if self._closed:
            raise ServerUnavailable(f"{self._name}: the index is being closed")
        if self._process.poll() is not None:
            self._sock.close()
            self._process, self._sock = self._start()
        left = until - time.monotonic()
        if left <= 0:  # the process has not been asked, and is as good as before for whoever comes next
            raise self._too_late()
        try:
            self._sock.settimeout(left)
            send(self._sock, request, features)
            return receive(self._sock)[0]
        except TimeoutError:
            self._kill()
            raise DeadlineExceeded(f"{self._name}: the search was not done in time, and was stopped") from None
        except (Closed, OSError, ValueError):
            self._kill()
            return None

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"{self._name}: the search was not begun in time: the index was busy or being opened")

    def close(self, *, at_once: bool = False) -> None:
        """End the process, when the search that runs is done, or at once."""
        self._closed = True
        if at_once:
            self._process.kill()
        with self._lock:
            self._kill()

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "tenclip_index.search_process"]
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(self.folder), str(self._threads)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is its parent's own
                env=_environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        try:
            ours.settimeout(START_SECONDS)
            info = info_from_dict(_checked(self._name, receive(ours)[0])["info"])
            self._check_same(info)
        except BaseException as err:
            process.kill()
            process.wait()
            ours.close()
            if not isinstance(err, TenclipError) and isinstance(err, Closed | OSError | ValueError | KeyError):
                raise DatasetError(f"{self.folder}: the process that searches the index did not start") from err
            raise
        return process, ours

    def _check_same(self, info: IndexInfo) -> None:
        """A new process may find another index; whoever asks has looked at what the first one was of."""
        before, now = (describe_model(i.model, i.version, i.weights) for i in (self.info, info))
        if before != now:
            raise IndexMismatch(f"{self._name}: was an index of {before} when it was opened, and is one of {now} now")
        self.info = info

    def _kill(self) -> None:
        self._sock.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(_STOP_SECONDS)


def _checked(name: str, answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise error_classes().get(answer["error"], ServerError)(answer["message"])
    if "fault" in answer:
        raise ServerError(f"{name}: searching the index failed: {answer['fault']}; standard error has more")
    return answer


def _environment() -> dict[str, str]:
    """Ours, with our import path: `-P` keeps the working directory off it."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
