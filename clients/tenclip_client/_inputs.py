"""What a person names on the command line (files, folders, patterns, manifests) -> one ordered list of videos."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError, TenclipError, VideoNotFound, VideoNotReadable
from tenclip_client._types import ServerPath, ServerUri
from tenclip_data.scan import VIDEO_SUFFIXES, is_data_name, printable_name, scan_folder

PATH_COLUMNS = ("path", "video", "video_path", "file")


@dataclass(frozen=True)
class VideoInput:
    """One video to work on. `name` identifies it in output and journals; `error` says why there is none to open."""

    name: str
    source: Path | ServerPath | ServerUri
    error: TenclipError | None = None


def expand_inputs(arguments: Iterable[str], *, server_paths: bool = False) -> list[VideoInput]:
    """Videos in the order of the arguments; inside folders and patterns in the order of their names. Each name once.

    A folder is searched with its sub-folders by the rules of `tenclip_data.scan`; a file that is named by itself is
    taken whatever its suffix. Something that cannot be expanded (an empty folder, a folder that cannot be listed, a
    pattern without a match) stays in its place as an input with an `error`.
    `server_paths`: take every argument as a path on the server, or a URI, as it stands.
    """
    if server_paths:
        return _unique(VideoInput(a, _on_server(a)) for a in arguments)
    return _unique(video for a in arguments for video in _expand(a))


def read_manifest(path: Path, *, server_paths: bool = False) -> list[VideoInput]:
    """The videos of a manifest: CSV or Parquet with one of PATH_COLUMNS, or a text file with one path a line.

    Names are kept as written, so that results join with the manifest; relative ones are opened from the manifest's
    folder. In text files empty lines and lines that begin with `#` are passed over.
    Raises DatasetError that names the file, and FileNotFoundError.
    """
    readers = {".csv": _csv_paths, ".tsv": _csv_paths, ".parquet": _parquet_paths, ".txt": _text_paths}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(f"{path}: a manifest is a .csv, .tsv, .parquet or .txt file")
    names = reader(path)
    if not names:
        raise DatasetError(f"{path}: lists no videos")
    if server_paths:
        return _unique(VideoInput(n, _on_server(n)) for n in names)
    return _unique(VideoInput(printable_name(n), path.parent / n) for n in names)


def _on_server(argument: str) -> ServerPath | ServerUri:
    return ServerUri(argument) if "://" in argument else ServerPath(argument)


def _expand(argument: str) -> Iterator[VideoInput]:
    path = Path(argument)
    if os.path.isdir(argument):
        yield from _folder(path)
    elif glob.has_magic(argument) and not os.path.lexists(argument):
        yield from _pattern(argument)
    else:
        # A missing file too: opening it gives the error that names it.
        yield VideoInput(printable_name(argument), path)


def _folder(folder: Path) -> Iterator[VideoInput]:
    scan = scan_folder(folder)
    for problem in scan.problems:
        name = printable_name(problem.path)
        yield VideoInput(name, problem.path, VideoNotReadable(str(problem), source=name))
    if not scan.videos and not scan.problems:
        name = printable_name(folder)
        wanted = ", ".join(sorted(VIDEO_SUFFIXES))
        yield VideoInput(name, folder, VideoNotFound(f"{name}: no video files below it ({wanted})", source=name))
    yield from (VideoInput(printable_name(p), p) for p in scan.videos)


def _pattern(pattern: str) -> Iterator[VideoInput]:
    matches = [m for m in sorted(glob.glob(pattern, recursive=True), key=os.fsencode) if _is_match(pattern, m)]
    if not matches:
        name = printable_name(pattern)
        yield VideoInput(name, Path(pattern), VideoNotFound(f"{name}: matches no file", source=name))
    yield from (VideoInput(printable_name(m), Path(m)) for m in matches)


def _is_match(pattern: str, match: str) -> bool:
    """Folders are not, nor what a wildcard found that is never data; a system folder may be named in the pattern."""
    written = set(Path(pattern).parts)
    return not os.path.isdir(match) and all(part in written or is_data_name(part) for part in Path(match).parts)


def _unique(videos: Iterable[VideoInput]) -> list[VideoInput]:
    first: dict[str, VideoInput] = {}
    for video in videos:
        first.setdefault(video.name, video)
    return list(first.values())


def _csv_paths(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            reader.fieldnames = [c.strip() for c in reader.fieldnames or ()]
            column = _path_column(path, reader.fieldnames)
            return [_cell(path, reader.line_num, row[column]) for row in reader]
    except (csv.Error, UnicodeDecodeError) as err:
        raise DatasetError(f"{path}: cannot be read as CSV in UTF-8: {err}") from err


def _parquet_paths(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as raw, pyarrow.parquet.ParquetFile(raw) as file:
            column = _path_column(path, file.schema_arrow.names)
            values: list[Any] = file.read(columns=[column])[column].to_pylist()
    except pyarrow.ArrowException as err:
        raise DatasetError(f"{path}: cannot be read as Parquet: {err}") from err
    return [_cell(path, row, value) for row, value in enumerate(values, start=1)]


def _text_paths(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as err:
        raise DatasetError(f"{path}: is not UTF-8 text: {err}") from err
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _path_column(path: Path, columns: Sequence[str]) -> str:
    for name in PATH_COLUMNS:
        if name in columns:
            return name
    raise DatasetError(f"{path}: needs a column {' or '.join(PATH_COLUMNS)}; it has {', '.join(columns) or 'none'}")


def _cell(path: Path, row: int, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DatasetError(f"{path}: row {row} has no path: {value!r}")
    return value.strip()
