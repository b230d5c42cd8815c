"""Pairs that a person has looked at and found to be no duplicates: a CSV file with columns source and target.

`duplicates.csv` of a report has these columns, so that the rows which are no duplicates can be kept in a file of their
own and given to the next run.
"""

from __future__ import annotations

import csv
from pathlib import Path

from tenclip_api.errors import DatasetError


def read_reviewed(path: Path | str) -> frozenset[tuple[str, str]]:
    """(source, target) names of reviewed pairs. Raises DatasetError that names the line, and FileNotFoundError."""
    path = Path(path)
    pairs = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or []
            if not {"source", "target"} <= set(columns):
                raise DatasetError(
                    f"{path}, line 1: columns source and target are needed; it has {', '.join(columns) or 'none'}"
                )
            for row in reader:
                if not row["source"] or not row["target"]:
                    raise DatasetError(f"{path}, line {reader.line_num}: source and target must both be named")
                pairs.add((row["source"], row["target"]))
    except (csv.Error, UnicodeDecodeError) as err:
        raise DatasetError(f"{path}: cannot be read as CSV: {err}") from err
    return frozenset(pairs)
