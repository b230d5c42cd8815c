"""Folders of videos: class-named sub-folders, or train/, val/ and test/ that hold them.

::

    videos/run/a.mp4                      class run
    videos/train/run/a.mp4                split train, class run

A folder that is named as a split (`train`, `val`, `validation`, `test`, ...) and holds class folders is a split. Beside
splits there may be nothing else that holds videos: that is an error, because it cannot be told what it is. What is
passed over (empty folders, videos in no class folder) is named in the warnings. Hidden and system folders are never
data, see `scan`. A folder's name is one label, whatever signs are in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.lists import split_of_file
from tenclip_data.samples import SPLIT_NAMES, Sample
from tenclip_data.scan import (
    IMAGE_SUFFIXES,
    ScanProblem,
    data_folders,
    is_data_name,
    is_tar,
    printable_name,
    scan_folder,
    tar_notes,
)
from tenclip_data.source import ReadOptions, Rows, refuse_column
from tenclip_data.wording import some_of

_LAYOUTS = "FOLDER/CLASS/*.mp4, or FOLDER/train/CLASS/*.mp4 and FOLDER/val/CLASS/*.mp4"


@dataclass(frozen=True)
class _Folder:
    """A folder with the videos in it (`own`) and below it (`below`, without its own)."""

    path: Path
    own: tuple[Path, ...]
    below: tuple[Path, ...]
    problems: tuple[ScanProblem, ...] = ()
    tars: tuple[Path, ...] = ()

    @property
    def videos(self) -> tuple[Path, ...]:
        return self.own + self.below


def folder_rows(source: Path, options: ReadOptions) -> Rows:
    """Read the samples of a folder, by the rules of this module. Raises DatasetError."""
    refuse_column(source, options)
    root = options.root
    folders = [_look(f, options) for f in _folders_in(root)]
    problems = [p for f in folders for p in f.problems]
    if problems and not options.keep_missing:
        raise DatasetError(f"{problems[0]}; make it readable, or let missing videos be kept")
    splits = [f for f in folders if _is_split_name(f.path) and f.below]
    tars = tar_notes(root, [*_files_in(root, is_tar), *(t for f in folders for t in f.tars)])
    rows = _split_folders(root, folders, splits, options) if splits else _class_folders(root, folders, tars)
    strays = _files_in(root, lambda name: os.path.splitext(name)[1].lower() in options.suffixes)
    notes = [*map(str, problems), *tars, *rows.warnings, *_strays(root, strays)]
    return Rows(samples=rows.samples, warnings=tuple(notes), fill_numbers=False)


# -- class folders --


def _class_folders(root: Path, folders: Sequence[_Folder], tars: Sequence[str]) -> Rows:
    classes = [f for f in folders if f.videos]
    if not classes:
        pictures = scan_folder(root, suffixes=IMAGE_SUFFIXES).videos
        hint = "".join(f"; {note}" for note in tars)
        if pictures:
            hint += (
                f"; it holds pictures ({printable_name(pictures[0])}), and tenclip reads videos (training takes "
                "pictures with --images)"
            )
        raise DatasetError(
            f"{root}: no videos in class-named sub-folders (looked for {root}/CLASS/*.mp4 and the like){hint}"
        )
    flat_splits = [f for f in classes if _is_split_name(f.path)]
    if len(flat_splits) > 1 or len(flat_splits) == len(classes):
        raise DatasetError(
            f"{root}: {_names(flat_splits)} hold videos but no class folders, so there is no label to learn; "
            f"use {_LAYOUTS}, or a list with labels"
        )
    _refuse_one_level_too_high(root, classes)
    warnings = []
    if flat_splits:
        warnings.append(
            f"{root}: {_names(flat_splits)} holds videos directly and is taken as a class, not as a split; a split "
            "holds class folders"
        )
    if len(classes) == 1:
        warnings.append(f"{root}: there is one class only, {classes[0].path.name!r}; {_LAYOUTS} is what is understood")
    warnings += _empty(root, [f for f in folders if not f.videos])
    return Rows(samples=[s for f in classes for s in _samples(root, f, "")], warnings=tuple(warnings))


def _refuse_one_level_too_high(root: Path, classes: Sequence[_Folder]) -> None:
    """Raise where the class folders lie one level below what would be taken as classes."""
    if any(f.own for f in classes):
        return
    if len(classes) == 1:
        raise DatasetError(
            f"{root}: all videos lie in folders below {classes[0].path.name}/, which would be the only class; "
            f"did you mean {classes[0].path}? (understood: {_LAYOUTS})"
        )
    told = {split_of_file(f.path) for f in classes}
    if "" not in told and len(told) > 1:
        raise DatasetError(
            f"{root}: {_names(classes)} hold folders of videos and are named like splits; name them train, val and "
            "test, or give one of them"
        )


# -- train/, val/, test/ --


def _split_folders(root: Path, folders: Sequence[_Folder], splits: Sequence[_Folder], options: ReadOptions) -> Rows:
    _refuse_others(root, folders, splits)
    warnings = _empty(root, [f for f in folders if not f.videos])
    samples: list[Sample] = []
    seen: dict[str, Path] = {}
    for folder in splits:
        split = SPLIT_NAMES[folder.path.name.lower()]
        if split in seen:
            raise DatasetError(f"{root}: {seen[split].name}/ and {folder.path.name}/ are both {split!r}; keep one")
        seen[split] = folder.path
        inner = [_look(f, options) for f in _folders_in(folder.path)]
        classes = [f for f in inner if f.videos]
        _refuse_one_level_too_high(folder.path, classes)
        samples += [s for f in classes for s in _samples(root, f, split)]
        warnings += _strays(folder.path, folder.own)
        warnings += _empty(folder.path, [f for f in inner if not f.videos])
    return Rows(samples=samples, warnings=tuple(warnings))


def _refuse_others(root: Path, folders: Sequence[_Folder], splits: Sequence[_Folder]) -> None:
    others = [f for f in folders if f.videos and f not in splits]
    if not others:
        return
    flat = [f for f in others if _is_split_name(f.path)]
    if flat:
        raise DatasetError(
            f"{root}: {_names(flat)} holds videos in no class folder, where {_names(splits)} holds class folders; use "
            f"{flat[0].path}/CLASS/*.mp4"
        )
    count = _count(sum(len(f.videos) for f in others))
    raise DatasetError(
        f"{root}: {_names(others)} ({count}) beside {_names(splits)}: either its class folders are splits, or "
        f"its folders are classes. Move {_names(others)} out, or into a split as {splits[0].path}/CLASS"
    )


# -- helpers --


def _samples(root: Path, folder: _Folder, split: str) -> Iterable[Sample]:
    label = printable_name(folder.path.name)
    for video in folder.videos:
        name = printable_name(video.relative_to(root).as_posix())
        yield Sample(path=video, name=name, labels=(label,), split=split)


def _look(folder: Path, options: ReadOptions) -> _Folder:
    scan = scan_folder(folder, suffixes=options.suffixes)
    own = tuple(v for v in scan.videos if v.parent == folder)
    return _Folder(folder, own, scan.videos[len(own) :], scan.problems, scan.tars)


def _folders_in(folder: Path) -> tuple[Path, ...]:
    try:
        return data_folders(folder)
    except OSError as err:
        raise DatasetError(f"{folder}: cannot be listed: {err.strerror or err}") from err


def _files_in(folder: Path, counts: Callable[[str], bool]) -> list[Path]:
    return sorted(f for f in folder.iterdir() if counts(f.name) and is_data_name(f.name) and f.is_file())


def _is_split_name(folder: Path) -> bool:
    return folder.name.lower() in SPLIT_NAMES


def _names(folders: Iterable[_Folder]) -> str:
    return some_of(f"{printable_name(f.path.name)}/" for f in folders)


def _count(videos: int) -> str:
    return f"{videos} video{'' if videos == 1 else 's'}"


def _empty(root: Path, folders: Sequence[_Folder]) -> list[str]:
    return [f"{root}: no videos in {_names(folders)}: passed over"] if folders else []


def _strays(folder: Path, videos: Sequence[Path]) -> list[str]:
    if not videos:
        return []
    names = some_of(printable_name(v.name) for v in videos)
    return [f"{folder}: {_count(len(videos))} in no class folder not used: {names}"]
