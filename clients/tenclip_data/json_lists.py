"""Lists in JSON: Something-Something, Kinetics, and tables as pandas writes them.

::

    [{"id": "78687", "template": "Holding [something]", "label": "holding a potato", ...}, ...]   Something-Something
    {"QUuC4vJs": {"annotations": {"label": "testifying", "segment": [84, 94]}, "subset": "train", ...}, ...}  Kinetics
    [{"path": "a.mp4", "label": "run"}, ...]                                                      a table, row by row
    {"path": {"0": "a.mp4"}, "label": {"0": "run"}}                                               a table by columns
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.labels import read_labels
from tenclip_data.lists import split_of_file
from tenclip_data.paths import find_video, name_below
from tenclip_data.samples import Sample, where
from tenclip_data.source import ReadOptions, Rows
from tenclip_data.table_rows import table_rows
from tenclip_data.tables import PATH_COLUMNS, Table
from tenclip_data.text import lines_of

_SOMETHING_FOLDERS = ("", "20bn-something-something-v2", "something-something-v2", "videos")
_SOMETHING_LABELS = ("labels.json", "something-something-v2-labels.json")
_ACCEPTED = (
    "Something-Something's list of {id, template}, Kinetics' object of {annotations, subset}, or a list of objects "
    "with path and label"
)


def json_rows(source: Path, text: str, options: ReadOptions) -> Rows:
    """Read the samples of a JSON list, by its content. Raises DatasetError that names the row."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DatasetError(f"{source}: cannot be read as JSON: {err}") from err
    return _rows(source, data, options)


def json_lines_rows(source: Path, text: str, options: ReadOptions) -> Rows:
    """Read the samples of a file with one JSON object a line. Raises DatasetError that names the line."""
    rows = []
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line)))
        except (ValueError, RecursionError) as err:
            raise DatasetError(f"{source}, line {number}: cannot be read as JSON: {err}") from err
        if not isinstance(rows[-1][1], dict):
            raise DatasetError(f"{source}, line {number}: got {line.strip()[:40]!r}, where an object is needed")
    return table_rows(_table(source, rows), options)


def _rows(source: Path, data: Any, options: ReadOptions) -> Rows:
    if isinstance(data, dict) and data:
        lower = {str(k).lower() for k in data}
        if lower & set(PATH_COLUMNS) and all(isinstance(v, dict | list) for v in data.values()):
            return table_rows(_by_columns(source, data), options)
        if all(isinstance(v, dict) and isinstance(v.get("annotations"), dict) for v in data.values()):
            return table_rows(_kinetics_table(source, data), options)
    if not isinstance(data, list) or not data:
        raise DatasetError(f"{source}: not a manifest that tenclip reads: holds {_kind(data)}; use {_ACCEPTED}")
    for number, row in enumerate(data, start=1):
        if not isinstance(row, dict):
            raise DatasetError(f"{where(source, number)}: got {str(row)[:40]!r}, not an object; use {_ACCEPTED}")
    rows = list(enumerate(data, start=1))
    columns = {str(c).lower() for row in data for c in row}
    if "id" in columns and not columns & set(PATH_COLUMNS):
        return _something(source, rows, options)
    return table_rows(_table(source, rows), options)


def _kind(data: Any) -> str:
    if isinstance(data, dict):
        return f"an object with {', '.join(map(str, list(data)[:3]))}" if data else "an empty object"
    return "an empty list" if data == [] else f"{str(data)[:40]!r}"


# -- Something-Something --


def _something(source: Path, rows: Sequence[tuple[int, dict[str, Any]]], options: ReadOptions) -> Rows:
    """Labels are templates without their brackets, as in labels.json, which is found beside the list."""
    samples = []
    for number, row in rows:
        video_id = str(row.get("id") or "").strip()
        if not video_id:
            raise DatasetError(f"{where(source, number)}: no id")
        path = find_video(options.root, video_id, _SOMETHING_FOLDERS) or options.root / f"{video_id}.webm"
        samples.append(
            Sample(
                path=path,
                name=name_below(options.root, path),
                labels=_something_labels(source, number, row, options.label_column),
                extra={k: v for k, v in row.items() if k not in ("id", "template", options.label_column)},
                line=number,
            )
        )
    labels = next((source.with_name(n) for n in _SOMETHING_LABELS if source.with_name(n).is_file()), None)
    own = read_labels(labels) if labels and not options.label_column else None
    return Rows(samples=samples, labels=own, split_of_file=split_of_file(source))


def _something_labels(source: Path, number: int, row: Mapping[str, Any], column: str | None) -> tuple[str, ...]:
    if column is not None and column not in row:
        raise DatasetError(f"{where(source, number)}: no {column!r}; it has {', '.join(row)}")
    value = row[column] if column is not None else row.get("template", row.get("label"))
    if value is None:
        return ()
    text = str(value).strip()
    text = text if column is not None else text.replace("[", "").replace("]", "")
    return (text,) if text else ()


# -- tables --


def _table(source: Path, rows: Sequence[tuple[int, Mapping[str, Any]]]) -> Table:
    columns = tuple(dict.fromkeys(c for _, row in rows for c in row))
    return Table(source=source, columns=columns, rows=[(n, {c: row.get(c) for c in columns}) for n, row in rows])


def _by_columns(source: Path, data: Mapping[str, Any]) -> Table:
    columns = {name: list(v.values()) if isinstance(v, dict) else v for name, v in data.items()}
    lengths = {name: len(v) for name, v in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"{source}: columns of different lengths: {lengths}")
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return _table(source, list(enumerate(rows, start=1)))


def _kinetics_table(source: Path, data: Mapping[str, Any]) -> Table:
    rows = []
    for number, (video_id, entry) in enumerate(data.items(), start=1):
        segment = entry["annotations"].get("segment")
        if not isinstance(segment, list) or len(segment) != 2:
            raise DatasetError(f"{where(source, number)} ({video_id}): segment is {segment!r}, not [start, end]")
        rows.append(
            (
                number,
                {
                    "youtube_id": video_id,
                    "label": entry["annotations"].get("label"),
                    "time_start": segment[0],
                    "time_end": segment[1],
                    "split": entry.get("subset"),
                },
            )
        )
    return _table(source, rows)
