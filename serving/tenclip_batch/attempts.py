"""Marks of videos that are being worked on: a video that ends the process that works on it is found out, and named.

A mark is a file with a line, the process and the video, for each time that work on it was begun and not ended. It
is written before each video and removed after it, whatever came of it; a process that is killed leaves those of its
videos in flight. A video that is begun for the second time runs alone, so that it takes no other one with it; after
two it is a failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from tenclip_api.errors import WorkerEnded
from tenclip_batch.disk import not_written

MOST_ATTEMPTS = 2


class Attempts:
    """The marks of a dataset, in a folder of their own. Every method raises DatasetError where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self, video: str) -> int:
        """How often work on the video was begun and not ended."""
        path = self._path(video)
        with _named(path):
            try:
                lines = path.read_bytes().count(b"\n")
            except FileNotFoundError:
                return 0
        return max(lines, 1)  # there, and nothing in it yet: the process was killed just then

    def begin(self, video: str) -> None:
        """Mark the video. Raises WorkerEnded where it had its attempts, and then takes the marks away."""
        before = self.count(video)
        if before >= MOST_ATTEMPTS:
            self.end(video)
            raise WorkerEnded(
                f"{video}: the process that worked on it ended {before} times without a word, alone with it the last "
                "time (out of memory, or killed); --retry-failed tries it again"
            )
        line = f"{os.getpid()} {video!r}\n".encode("utf-8", "backslashreplace")
        path = self._path(video)
        with _named(path):
            try:
                with path.open("ab", buffering=0) as file:  # one call of the system: all of the line, or nothing
                    file.write(line)
            except OSError:
                if not before:  # an empty mark would count as an attempt
                    path.unlink(missing_ok=True)
                raise

    def end(self, video: str) -> None:
        """The process has outlived the video."""
        path = self._path(video)
        with _named(path):
            path.unlink(missing_ok=True)

    def _path(self, video: str) -> Path:
        return self._folder / hashlib.sha256(video.encode("utf-8", "surrogateescape")).hexdigest()[:32]


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turns an OSError within into a DatasetError that names the file."""
    try:
        yield
    except OSError as err:
        raise not_written(path, err) from err
