"""Marks of videos that are being worked on: a video that ends the process that works on it is found out, and named.

A mark is a file with the number of times that work on its video was begun and not ended. It is written before each
video and removed after it, whatever came of it; a process that is killed leaves those of its videos in flight. A video
that is begun for the second time runs alone, so that it takes no other one with it; after two it is a failure.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tenclip_api.errors import WorkerEnded

MOST_ATTEMPTS = 2


class Attempts:
    """The marks of a dataset, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def count(self, video: str) -> int:
        """How often work on the video was begun and not ended."""
        try:
            return int(self._path(video).read_text(encoding="utf-8").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return 0

    def begin(self, video: str) -> None:
        """Mark the video. Raises WorkerEnded where it had its attempts, and then takes the marks away."""
        before = self.count(video)
        if before >= MOST_ATTEMPTS:
            self.end(video)
            raise WorkerEnded(
                f"{video}: the process that worked on it ended {before} times without a word, alone with it the last "
                "time (out of memory, or killed); --retry-failed tries it again"
            )
        self._path(video).write_text(f"{before + 1}\n{os.getpid()}\n{video}\n", encoding="utf-8")

    def end(self, video: str) -> None:
        """The process has outlived the video."""
        self._path(video).unlink(missing_ok=True)

    def _path(self, video: str) -> Path:
        return self._folder / hashlib.sha256(video.encode("utf-8", "surrogateescape")).hexdigest()[:32]
