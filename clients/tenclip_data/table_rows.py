"""From the columns of a table to samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.heads import head_columns, head_labels
from tenclip_data.paths import locate
from tenclip_data.published_tables import EPIC_COLUMNS, epic_rows, kinetics_rows
from tenclip_data.samples import Sample, split_name, where
from tenclip_data.source import ReadOptions, Rows
from tenclip_data.tables import END_COLUMNS, KINETICS_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS, START_COLUMNS, Table

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "label_name", "category", "action", "target", "label_id")
_FRAME_COLUMNS = ("start_frame", "end_frame", "stop_frame")


def table_rows(table: Table, options: ReadOptions) -> Rows:
    """Read the samples of a table, by its columns. Raises DatasetError that names the line."""
    lower = set(table.by_lower)
    if not lower & set(PATH_COLUMNS) - {"video_id"} and lower >= KINETICS_COLUMNS:
        return kinetics_rows(table, options)
    if not lower & set(PATH_COLUMNS) - {"video_id"} and lower >= EPIC_COLUMNS:
        return epic_rows(table, options)
    path = table.need(PATH_COLUMNS)
    heads = head_columns(table, options)
    label = table.need((options.label_column,)) if options.label_column else None
    if label is None and not options.heads:
        label = table.need(LABEL_COLUMNS) if options.need_labels else table.find(LABEL_COLUMNS)
    names = _Columns(path, label, heads, table.find(SPLIT_COLUMNS), table.find(START_COLUMNS), table.find(END_COLUMNS))
    samples = [_sample(table, line, row, names, options) for line, row in table.rows]
    return Rows(samples=samples, warnings=_frame_warning(table, names))


@dataclass(frozen=True)
class _Columns:
    """Which column of a table means what, as written there."""

    path: str
    label: str | None
    heads: Mapping[str, str]
    split: str | None
    start: str | None
    end: str | None


def _sample(table: Table, line: int, row: Mapping[str, Any], columns: _Columns, options: ReadOptions) -> Sample:
    name = table.text(line, row, columns.path)
    if name is None:
        raise DatasetError(f"{where(table.source, line)}: column {columns.path!r} is empty")
    used = {columns.path, columns.label, *columns.heads.values(), columns.split, columns.start, columns.end}
    if options.heads:
        labels = head_labels(table, line, row, columns.heads, options.known_labels)
    else:
        labels = table.labels(line, row, columns.label, options.known_labels)
    return Sample(
        path=_located(table.source, line, options.root, name),
        name=name,
        labels=labels,
        split=split_name(table.text(line, row, columns.split) or ""),
        start_seconds=table.seconds(line, row, columns.start),
        end_seconds=table.seconds(line, row, columns.end),
        extra={k: v for k, v in row.items() if k not in used},
        line=line,
    )


def _frame_warning(table: Table, columns: _Columns) -> tuple[str, ...]:
    frames = table.find(_FRAME_COLUMNS)
    if frames is None or columns.start or columns.end:
        return ()
    return (
        f"{table.source}: column {frames!r} counts frames and is not used, so every row is the whole video; give parts "
        "of videos in seconds, as columns start_seconds and end_seconds",
    )


def _located(source: Path, line: int, root: Path, name: str) -> Path:
    try:
        return locate(root, name)
    except DatasetError as err:
        raise DatasetError(f"{where(source, line)}: {err}") from err
