"""The videos that a list names, for commands that need no labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.formats import read_source, videos_root
from tenclip_data.source import ReadOptions

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoName:
    """One entry of a list of videos. name: as the list writes it; path: the file that it means."""

    name: str
    path: Path
    start_seconds: float | None = None
    end_seconds: float | None = None


def read_video_names(source: Path | str, *, videos: Path | str | None = None, images: bool = False) -> list[VideoName]:
    """List the videos that a file names, in its order, whether they are there or not; labels are not needed.

    source: any file that `read_manifest` reads, or a text file with one path a line. Of lists that come in pairs
    (UCF-101's, HMDB-51's) only the one that is named is read. videos, images: as in `read_manifest`.
    What should be known of the list is logged as warnings.
    Raises DatasetError that names the file and the line, and FileNotFoundError.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(2, "No such file or directory", str(source))
    options = ReadOptions(root=videos_root(source, videos), need_labels=False, keep_missing=True, images=images)
    rows = read_source(source, options)
    if not rows.samples:
        raise DatasetError(f"{source}: lists no videos")
    for warning in rows.warnings:
        _log.warning("%s", warning)
    return [
        VideoName(name=s.name, path=s.path, start_seconds=s.start_seconds, end_seconds=s.end_seconds)
        for s in rows.samples
    ]
