"""Files, folders, patterns and manifests of the command line -> one ordered list of videos."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError, InvalidRequest, TenclipError, VideoNotFound, VideoNotReadable
from tenclip_api.uris import without_secrets
from tenclip_client._types import ServerPath, ServerUri
from tenclip_data.scan import VIDEO_SUFFIXES, Scan, is_data_name, printable_name, scan_folder, tar_notes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInput:
    """One video to work on. `name` identifies it in output and journals; `error` says why there is none to open."""

    name: str
    source: Path | ServerPath | ServerUri
    error: TenclipError | None = None


def expand_inputs(
    arguments: Iterable[str], *, server_paths: bool = False, videos: Path | None = None
) -> list[VideoInput]:
    """Videos in the order of the arguments; inside folders and patterns in the order of their names. Each name once.

    A folder is searched with its sub-folders by the rules of `tenclip_data.scan`. A file with the suffix of a list
    (.csv, .txt, .parquet, ...) stands for the videos that it lists; any other file that is named by itself is a video,
    whatever its suffix. Something that cannot be expanded (an empty folder, a folder that cannot be listed, a list that
    cannot be read, a pattern without a match) stays in its place as an input with an `error`.
    `server_paths`: take every argument as a path on the server, or a URI, as it stands.
    `videos`: the folder that relative paths in lists start from; None: the list's own.
    """
    if server_paths:
        return _unique(VideoInput(a, _on_server(a)) for a in arguments)
    return _unique(video for a in arguments for video in _expand(a, videos))


def read_manifest(path: Path, *, server_paths: bool = False, videos: Path | None = None) -> list[VideoInput]:
    """The videos of a list: a table or list of any format that training reads, or a text file with one path a line.

    `tenclip_data.manifest` lists the formats; labels are not needed. Names are kept as written, so that results join
    with the list; relative ones are opened from `videos`, or else the list's folder. Where a list has several parts of
    a video, the video is one input, and a warning is logged that parts are not told apart. Raises DatasetError that
    names the file, and FileNotFoundError.
    """
    from tenclip_data.names import read_video_names

    found = read_video_names(path, videos=videos)
    parts = sum(v.start_seconds is not None or v.end_seconds is not None for v in found)
    if parts:
        rows = "1 row marks a part" if parts == 1 else f"{parts} rows mark parts"
        _log.warning("%s: %s of a video (start, end); whole videos are taken, each once", path, rows)
    if server_paths:
        return _unique(VideoInput(v.name, _on_server(v.name)) for v in found)
    return _unique(VideoInput(printable_name(v.name), v.path) for v in found)


def _on_server(argument: str) -> ServerPath | ServerUri:
    return ServerUri(argument) if "://" in argument else ServerPath(argument)


def _expand(argument: str, videos: Path | None) -> Iterator[VideoInput]:
    path = Path(argument)
    if "://" in argument and not os.path.lexists(argument):
        name = without_secrets(argument)
        error = InvalidRequest(f"{name}: a URI is for the server to fetch: give --server-path too")
        yield VideoInput(name, path, error)
    elif os.path.isdir(argument):
        yield from folder_inputs(path, scan_folder(path))
    elif glob.has_magic(argument) and not os.path.lexists(argument):
        yield from _pattern(argument)
    elif _is_list(path):
        yield from _list(path, videos)
    else:
        # A missing file too: opening it gives the error that names it.
        yield VideoInput(printable_name(argument), path)


def folder_inputs(folder: Path, scan: Scan) -> Iterator[VideoInput]:
    """What was found below a folder: first what cannot be listed, as inputs with an `error`.

    That videos in tar files are not used is logged, or said by the error where there are no others.
    """
    notes = tar_notes(folder, scan.tars)
    for problem in scan.problems:
        name = printable_name(problem.path)
        yield VideoInput(name, problem.path, VideoNotReadable(str(problem), source=name))
    if not scan.videos and not scan.problems:
        name = printable_name(folder)
        wanted = ", ".join(sorted(VIDEO_SUFFIXES))
        why = "; ".join([f"{name}: no video files below it ({wanted})", *notes])
        yield VideoInput(name, folder, VideoNotFound(why, source=name))
    else:
        for note in notes:
            _log.warning("%s", note)
    yield from (VideoInput(printable_name(p), p) for p in scan.videos)


def _is_list(path: Path) -> bool:
    from tenclip_data.formats import LIST_SUFFIXES

    return path.suffix.lower() in LIST_SUFFIXES and os.path.isfile(path)


def _list(path: Path, videos: Path | None) -> Iterator[VideoInput]:
    try:
        yield from read_manifest(path, videos=videos)
    except DatasetError as err:
        yield VideoInput(printable_name(path), path, err)


def _pattern(pattern: str) -> Iterator[VideoInput]:
    matches = [m for m in pattern_matches(pattern) if not os.path.isdir(m)]
    if not matches:
        name = printable_name(pattern)
        yield VideoInput(name, Path(pattern), VideoNotFound(f"{name}: matches no file", source=name))
    yield from (VideoInput(printable_name(m), Path(m)) for m in matches)


def pattern_matches(pattern: str) -> list[str]:
    """Files and folders by name, without what a wildcard found that is never data.

    A system folder may be named in the pattern.
    """
    written = set(Path(pattern).parts)
    found = sorted(glob.glob(pattern, recursive=True), key=os.fsencode)
    return [match for match in found if all(part in written or is_data_name(part) for part in Path(match).parts)]


def _unique(videos: Iterable[VideoInput]) -> list[VideoInput]:
    first: dict[str, VideoInput] = {}
    for video in videos:
        first.setdefault(video.name, video)
    return list(first.values())
