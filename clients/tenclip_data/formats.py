"""Which format a source is in, by its content, and its samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.folders import folder_rows
from tenclip_data.json_lists import json_lines_rows, json_rows
from tenclip_data.lists import LAYOUTS, list_rows, looks_like_list, split_of_file
from tenclip_data.published_lists import HMDB_LIST, UCF_LIST, read_hmdb, read_ucf
from tenclip_data.samples import Sample
from tenclip_data.scan import VIDEO_SUFFIXES, is_data_name, scan_folder
from tenclip_data.source import ReadOptions, Rows
from tenclip_data.table_rows import table_rows
from tenclip_data.tables import (
    END_COLUMNS,
    KINETICS_COLUMNS,
    PATH_COLUMNS,
    SPLIT_COLUMNS,
    START_COLUMNS,
    find_delimiter,
    read_delimited,
    read_parquet,
)
from tenclip_data.text import lines_of, read_text

__all__ = ["LIST_SUFFIXES", "read_source", "split_of_file", "videos_root"]

# Suffixes that lists of videos have, where lists and videos stand side by side. A list of another suffix is read, too,
# when it is named as one.
LIST_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".list", ".lst", ".parquet", ".pq", ".json", ".jsonl"})
# What finds the video of a row, where labels are not needed: other columns of Parquet are not read then.
_NAMING_COLUMNS = frozenset({*PATH_COLUMNS, *SPLIT_COLUMNS, *START_COLUMNS, *END_COLUMNS, *KINETICS_COLUMNS, "label"})
_DELIMITED_SUFFIXES = (".csv", ".tsv")


def videos_root(source: Path, videos: Path | str | None) -> Path:
    """The folder that relative paths start from. Raises DatasetError where it is none."""
    root = Path(videos) if videos is not None else (source if source.is_dir() else source.parent)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of videos")
    return root


def read_source(source: Path, options: ReadOptions) -> Rows:
    """The samples of a folder or file, not checked yet. Raises DatasetError that names the file and the line."""
    if source.is_dir():
        return _read_folder(source, options)
    rows = _read_file(source, options)
    # A list for training alone still needs something to be held out of it.
    if rows.split_of_file in ("", "train") or any(s.split for s in rows.samples):
        return rows
    return dataclasses.replace(rows, samples=[dataclasses.replace(s, split=rows.split_of_file) for s in rows.samples])


def _read_file(source: Path, options: ReadOptions) -> Rows:
    suffix = source.suffix.lower()
    if suffix in (".parquet", ".pq"):
        return table_rows(read_parquet(source, columns=None if options.need_labels else _NAMING_COLUMNS), options)
    if UCF_LIST.fullmatch(source.name):
        return read_ucf(source, options)
    if HMDB_LIST.fullmatch(source.name):
        return read_hmdb(source, options)
    if suffix in VIDEO_SUFFIXES or suffix in (".xlsx", ".xls", ".gz", ".zip"):
        raise DatasetError(f"{source}: {_NOT_A_MANIFEST}")
    text = read_text(source)
    if suffix == ".jsonl":
        return json_lines_rows(source, text, options)
    if suffix == ".json" or text.lstrip()[:2] in ("{", "[{"):
        return json_rows(source, text, options)
    delimiter = find_delimiter(source, text)
    if delimiter is not None:
        return table_rows(read_delimited(source, text, delimiter), options)
    if suffix in _DELIMITED_SUFFIXES and not looks_like_list(source, text, options.root):
        _refuse_header(source, text)
    return list_rows(source, text, options)


_NOT_A_MANIFEST = (
    "not a manifest that tenclip reads; use a folder of class-named sub-folders, a CSV or Parquet file with columns "
    f"path and label, a list of lines {LAYOUTS}, Something-Something's JSON, UCF-101's trainlist01.txt or HMDB-51's "
    "CLASS_test_split1.txt"
)


def _refuse_header(source: Path, text: str) -> None:
    """Raise with the columns of a CSV of which none is known."""
    first = next((line for line in lines_of(text) if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    table = read_delimited(source, first, delimiter)
    table.need(("path", "video", "video_path", "file"))


def _read_folder(source: Path, options: ReadOptions) -> Rows:
    lists = _split_lists(source)
    if lists and sum(bool(scan_folder(f).videos) for f in _entries(source) if f.is_dir() and is_data_name(f.name)) < 2:
        return _read_split_lists(source, lists, options)
    rows = folder_rows(source, options)
    if not lists:
        return rows
    names = ", ".join(f.name for f in lists.values())
    note = f"{source}: is read by its folders; the lists in it ({names}) are not used unless one is named"
    return dataclasses.replace(rows, warnings=(*rows.warnings, note))


def _split_lists(folder: Path) -> dict[str, Path]:
    """Split -> the list that is named for it: train.csv, val.csv, test.csv. Raises DatasetError where two are alike."""
    found: dict[str, Path] = {}
    for file in _entries(folder):
        split = split_of_file(file) if file.suffix.lower() in LIST_SUFFIXES and is_data_name(file.name) else ""
        if not split or not file.is_file() or HMDB_LIST.fullmatch(file.name):
            continue
        if split in found:
            return {}
        found[split] = file
    return found


def _read_split_lists(source: Path, lists: dict[str, Path], options: ReadOptions) -> Rows:
    samples: list[Sample] = []
    labels: tuple[str, ...] | None = None
    warnings: list[str] = []
    for split, file in lists.items():
        rows = _read_file(file, options)
        samples += [dataclasses.replace(s, split=s.split or split, file=s.file or file) for s in rows.samples]
        labels = labels or rows.labels
        warnings += rows.warnings
    return Rows(samples=samples, labels=labels, warnings=tuple(warnings))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as err:
        raise DatasetError(f"{folder}: cannot be listed: {err.strerror or err}") from err
