"""The videos that a folder, a list or a file names: what duplicates are looked for in, labels or not."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.names import read_video_names
from tenclip_data.scan import IMAGE_SUFFIXES, VIDEO_SUFFIXES, printable_name, scan_folder


@dataclass(frozen=True, kw_only=True)
class SetVideo:
    """A video, or the part [start_seconds, end_seconds) of one. name: as its set writes it."""

    name: str
    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_image(self) -> bool:
        """Whether its file is a still image, by its suffix."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES

    @property
    def key(self) -> str:
        """The video's name in stored codes and ledgers: its absolute path, with the part where it is one."""
        return _with_part(printable_name(os.path.abspath(self.path)), self.start_seconds, self.end_seconds)


def read_set(
    source: Path | str, *, videos: Path | str | None = None, images: bool = False
) -> tuple[list[SetVideo], list[str]]:
    """The videos of `source`, each once, and what a person should know about them.

    source: a folder, in which every video counts at any depth; a list or table in any form that `tenclip train` reads,
    labels not needed; or one video. images: still images count, too; else they are passed over in folders.
    Raises DatasetError where there are none, and FileNotFoundError.
    """
    source = Path(source)
    suffixes = VIDEO_SUFFIXES | IMAGE_SUFFIXES if images else VIDEO_SUFFIXES
    if source.is_dir():
        scan = scan_folder(source, suffixes=suffixes)
        found = [SetVideo(name=printable_name(p.relative_to(source).as_posix()), path=p) for p in scan.videos]
        notes = scan.notes(source)
    elif source.suffix.lower() in suffixes and source.is_file():
        found, notes = [SetVideo(name=printable_name(source.name), path=source)], []
    else:
        names = read_video_names(source, videos=videos, images=images)
        found = [
            SetVideo(
                name=_with_part(n.name, n.start_seconds, n.end_seconds),
                path=n.path,
                start_seconds=n.start_seconds,
                end_seconds=n.end_seconds,
            )
            for n in names
        ]
        notes = []
    if not found:
        raise DatasetError("; ".join([f"{source}: holds no videos", *notes]))
    once = {video.key: video for video in found}
    if len(once) < len(found):
        notes.append(f"{source}: {len(found) - len(once)} videos are listed more than once and count once")
    return _with_unique_names(list(once.values())), notes


def same_files(source: list[SetVideo], target: list[SetVideo]) -> int:
    """How many videos of `source` are files (by identity, not by name) and parts that `target` has, too."""
    there = {_identity(video) for video in target}
    return sum(_identity(video) in there for video in source)


def _identity(video: SetVideo) -> tuple[object, float | None, float | None]:
    try:
        status = os.stat(video.path)
        identity: object = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(video.path)
    except (OSError, ValueError):
        identity = os.path.abspath(video.path)
    return identity, video.start_seconds, video.end_seconds


def _with_part(name: str, start_seconds: float | None, end_seconds: float | None) -> str:
    if start_seconds is None and end_seconds is None:
        return name
    return f"{name}[{start_seconds or 0:g}:{'' if end_seconds is None else f'{end_seconds:g}'}]"


def _with_unique_names(found: list[SetVideo]) -> list[SetVideo]:
    """Videos whose names mean several files (lists of several folders) are called by their paths."""
    counts = Counter(video.name for video in found)
    return [v if counts[v.name] == 1 else replace(v, name=v.key) for v in found]
