"""Small tables of tagged videos, written as people write them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_csv(path: Path, rows: Sequence[Mapping[str, str]], *, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, /, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def nothing_left_beside(path: Path, *others: Path) -> bool:
    """Whether the folder of `path` holds these files and nothing else: no drafts, no scratch folders."""
    return {p.name for p in path.parent.iterdir()} == {p.name for p in (*others, *([path] if path.exists() else []))}
