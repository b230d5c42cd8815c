"""The CSVs of Kinetics and EPIC-KITCHENS-100, known by their columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.heads import head_columns, head_labels
from tenclip_data.lists import split_of_file
from tenclip_data.paths import find_video, name_below
from tenclip_data.samples import Sample, split_name, where
from tenclip_data.source import ReadOptions, Rows
from tenclip_data.tables import END_COLUMNS, SPLIT_COLUMNS, START_COLUMNS, Table

EPIC_COLUMNS = frozenset({"video_id", "start_timestamp", "stop_timestamp"})
EPIC_LABELS = ("verb", "noun", "verb_class", "noun_class", "narration")


def kinetics_rows(table: Table, options: ReadOptions) -> Rows:
    """Read Kinetics: label, youtube_id, time_start, time_end, split. Raises DatasetError that names the line."""
    if options.label_column is not None:
        table.need((options.label_column,))
    label = table.find((options.label_column or "label",))
    if label is None and options.need_labels:
        raise DatasetError(f"{table.source}: no column 'label'; it has {', '.join(table.columns)}")
    samples = [_kinetics_sample(table, line, row, label, options) for line, row in table.rows]
    return Rows(samples=samples, split_of_file=split_of_file(table.source))


def _kinetics_sample(
    table: Table, line: int, row: Mapping[str, Any], label_column: str | None, options: ReadOptions
) -> Sample:
    """Finds the video where the usual download tools put it: trimmed as ID_000012_000022, or whole as ID."""
    source, root, names = table.source, options.root, table.by_lower
    start, end = (table.seconds(line, row, names[c]) for c in ("time_start", "time_end"))
    if start is None or end is None:
        raise DatasetError(f"{where(source, line)}: time_start and time_end are needed")
    video_id = table.text(line, row, names["youtube_id"])
    if video_id is None:
        raise DatasetError(f"{where(source, line)}: column 'youtube_id' is empty")
    label = table.text(line, row, label_column) or ""
    split_column = table.find(SPLIT_COLUMNS)
    split = table.text(line, row, split_column) or ""
    trimmed = f"{video_id}_{int(start):06d}_{int(end):06d}"
    folders = _kinetics_folders(label, split or split_of_file(source))
    path = find_video(root, trimmed, folders)
    whole = None if path is not None else find_video(root, video_id, folders)
    path = path or whole or root / label / f"{trimmed}.mp4"
    return Sample(
        path=path,
        name=name_below(root, path),
        labels=(label,) if label else (),
        split=split_name(split),
        start_seconds=None if whole is None else start,
        end_seconds=None if whole is None else end,
        extra={k: v for k, v in row.items() if k not in (label_column, split_column)},
        line=line,
    )


def _kinetics_folders(label: str, split: str) -> list[str]:
    """Where download tools put a video, below the folder of all videos."""
    labels = dict.fromkeys((label, label.replace(" ", "_")))
    splits = dict.fromkeys((split, split_name(split)))
    tops = [s for s in (*splits, *(f"videos_{s}" for s in splits if s)) if s]
    return ["", *labels, *tops, *(f"{top}/{name}" for top in tops for name in labels)]


def epic_rows(table: Table, options: ReadOptions) -> Rows:
    """Read EPIC-KITCHENS-100: video_id, start_timestamp, stop_timestamp, columns to learn from. Raises DatasetError."""
    column = options.label_column
    label = table.need((column,)) if column else None
    heads = head_columns(table, options)
    if label is None and options.need_labels and not heads:
        label = table.find(("label", "labels"))
        if label is None:
            choices = [c for c in EPIC_LABELS if table.find((c,))]
            raise DatasetError(
                f"{table.source}, line 1: a list of EPIC-KITCHENS has several columns to learn from; "
                + (f"name one as the label column: {', '.join(choices)}" if choices else "this one has none of them")
                + ("; or name verb and noun as heads, for a model of both" if {"verb", "noun"} <= set(choices) else "")
            )
    find = functools.cache(functools.partial(_epic_video, options.root))
    start, end = table.find(START_COLUMNS), table.find(END_COLUMNS)
    samples = []
    for line, row in table.rows:
        video_id = table.text(line, row, table.by_lower["video_id"])
        if video_id is None:
            raise DatasetError(f"{where(table.source, line)}: column 'video_id' is empty")
        path = find(video_id)
        labels = head_labels(table, line, row, heads, options.known_labels)
        samples.append(
            Sample(
                path=path,
                name=name_below(options.root, path),
                labels=labels if options.heads else table.labels(line, row, label, options.known_labels),
                split=split_name(table.text(line, row, table.find(SPLIT_COLUMNS)) or ""),
                start_seconds=table.seconds(line, row, start),
                end_seconds=table.seconds(line, row, end),
                extra={k: v for k, v in row.items() if k not in (label, *heads.values(), start, end)},
                line=line,
            )
        )
    return Rows(samples=samples, split_of_file=split_of_file(table.source))


def _epic_video(root: Path, video_id: str) -> Path:
    """P01_101 lies in P01/videos/ where the download script put it."""
    person = video_id.split("_")[0]
    tops = ("", "videos", "train", "test", "videos/train", "videos/test")
    folders = ("", *(str(PurePosixPath(top, person)) for top in tops), f"{person}/videos", "videos")
    return find_video(root, video_id, folders) or root / person / "videos" / f"{video_id}.MP4"
