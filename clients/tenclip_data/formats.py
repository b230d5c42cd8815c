"""Detection of formats: the reader for each kind of folder and file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.folders import folder_rows
from tenclip_data.json_lists import json_lines_rows, json_rows
from tenclip_data.lists import LAYOUTS, list_rows, looks_like_list, split_of_file
from tenclip_data.published_lists import HMDB_LIST, UCF_LIST, read_hmdb, read_ucf
from tenclip_data.samples import SPLIT_NAMES, Sample
from tenclip_data.scan import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_data_name, is_tar, scan_folder, tar_notes
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
from tenclip_data.text import is_excel_delimiter, lines_of, read_text
from tenclip_data.wording import some_of

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
    """Read the samples of a folder or file, not checked yet. Raises DatasetError that names the file and the line."""
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
        columns = None if options.need_labels or options.every_column else _NAMING_COLUMNS
        return table_rows(read_parquet(source, columns=columns), options)
    if UCF_LIST.fullmatch(source.name):
        return read_ucf(source, options)
    if HMDB_LIST.fullmatch(source.name):
        return read_hmdb(source, options)
    if is_tar(source.name):
        raise DatasetError(tar_notes(source.parent, [source])[0])
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES or suffix in (".xlsx", ".xls", ".gz", ".zip"):
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
    first = next((line for line in lines_of(text) if line.strip() and not is_excel_delimiter(line)), "")
    delimiter = max(",;\t|", key=first.count)
    table = read_delimited(source, first, delimiter)
    try:
        table.need(("path", "video", "video_path", "file"))
    except DatasetError as err:
        raise DatasetError(f"{err}; nor is the line a row of a list, for it names no video that is there") from None


# -- folders of lists --


def _read_folder(source: Path, options: ReadOptions) -> Rows:
    """Class folders; else the lists in the folder that are named for splits, as SlowFast and others keep them."""
    named = _split_lists(source)
    count, is_known = _class_folders(source, options)
    if count < (2 if named else 1):
        if named:
            return _read_split_lists(source, _one_a_split(source, named), options)
        if is_known:
            _refuse_lists(source)
    rows = folder_rows(source, options)
    if not named:
        return rows
    names = ", ".join(f.name for files in named.values() for f in files)
    note = f"{source}: is read by its folders; the lists in it ({names}) are not used unless one is named"
    return dataclasses.replace(rows, warnings=(*rows.warnings, note))


def _class_folders(folder: Path, options: ReadOptions) -> tuple[int, bool]:
    """(how many of its folders hold samples; 2 stands for more; whether all of them could be searched)."""
    count, is_known = 0, True
    for entry in _entries(folder):
        if entry.is_dir() and is_data_name(entry.name):
            scan = scan_folder(entry, suffixes=options.suffixes)
            count, is_known = count + bool(scan.videos), is_known and not scan.problems
        if count == 2:
            break
    return count, is_known


def _lists_in(folder: Path) -> list[Path]:
    entries = (e for e in _entries(folder) if e.suffix.lower() in LIST_SUFFIXES and is_data_name(e.name))
    return [e for e in entries if e.is_file()]


def _split_lists(folder: Path) -> dict[str, list[Path]]:
    """Split -> the lists that are named for it: train.csv, val.csv, test.csv."""
    found: dict[str, list[Path]] = {}
    for file in _lists_in(folder):
        split = "" if HMDB_LIST.fullmatch(file.name) else split_of_file(file)
        if split:
            found.setdefault(split, []).append(file)
    return found


def _one_a_split(source: Path, named: dict[str, list[Path]]) -> dict[str, Path]:
    """One list for each split: the one that is called by the split alone, else the only one."""
    chosen = {}
    for split, files in named.items():
        plain = [f for f in files if f.stem.lower() in SPLIT_NAMES] or files
        if len(plain) > 1:
            names = ", ".join(f.name for f in plain)
            raise DatasetError(f"{source}: {names} are all named for split {split!r}; name one, or keep one")
        chosen[split] = plain[0]
    return chosen


def _read_split_lists(source: Path, lists: dict[str, Path], options: ReadOptions) -> Rows:
    samples: list[Sample] = []
    labels: tuple[str, ...] | None = None
    warnings: list[str] = []
    for split, file in lists.items():
        # Published test lists often have no labels.
        rows = _read_file(file, dataclasses.replace(options, need_labels=options.need_labels and split == "train"))
        if options.need_labels and not any(s.labels for s in rows.samples):
            warnings.append(f"{file}: has no labels: passed over")
            continue
        samples += [dataclasses.replace(s, split=s.split or split, file=s.file or file) for s in rows.samples]
        labels = labels or rows.labels
        warnings += rows.warnings
    return Rows(samples=samples, labels=labels, warnings=tuple(warnings))


def _refuse_lists(folder: Path) -> None:
    """Raise where a folder without videos holds lists: one of them is meant."""
    names = [f.name for f in _lists_in(folder)]
    if names:
        raise DatasetError(
            f"{folder}: no videos in class-named sub-folders, but lists ({some_of(names, 3)}); name one of "
            "them, and the folder of the videos"
        )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as err:
        raise DatasetError(f"{folder}: cannot be listed: {err.strerror or err}") from err
