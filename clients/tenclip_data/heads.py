"""Labels of several columns: a verb and a noun of each video, for a network with a classifier for each.

Each column is a head. Its labels get its name in front, "verb:cut" and "noun:tomato", so that one label space has both;
the classes of a head stand side by side there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample, where
from tenclip_data.source import ReadOptions
from tenclip_data.tables import Table

SEPARATOR = ":"


def check_heads(heads: Sequence[str], label_column: str | None = None) -> None:
    """Raises DatasetError for heads that cannot be told apart."""
    if label_column is not None:
        raise DatasetError(f"name one label column ({label_column}), or several heads ({', '.join(heads)}), not both")
    if len(heads) < 2:
        raise DatasetError(f"heads are two columns or more, got {', '.join(heads)}; for one, name the label column")
    for name in heads:
        if not name or SEPARATOR in name:
            raise DatasetError(
                f"head {name!r}: a name without {SEPARATOR!r} is needed, since that parts it from labels"
            )
        if heads.count(name) > 1:
            raise DatasetError(f"head {name!r} is named twice")


def head_columns(table: Table, options: ReadOptions) -> dict[str, str]:
    """The column of each head as written in the table; {} where labels are not needed and one is missing.

    Raises DatasetError where one is missing that is needed.
    """
    found = {name: table.find((name,)) for name in options.heads}
    if not options.need_labels and None in found.values():
        return {}
    return {name: column or table.need((name,)) for name, column in found.items()}


def head_labels(
    table: Table, line: int, row: Mapping[str, Any], columns: Mapping[str, str], known: Collection[str]
) -> tuple[str, ...]:
    """One label of each head, or () where all of its cells are empty.

    known: the label space, where one is given. Raises DatasetError for a cell of several labels, and for a row in which
    some heads have a label and others none.
    """
    labels = []
    for name, column in columns.items():
        own = {label[len(name) + 1 :] for label in known if label.startswith(f"{name}{SEPARATOR}")}
        cell = table.labels(line, row, column, own)
        if len(cell) > 1:
            raise DatasetError(
                f"{where(table.source, line)}: column {column!r} has the labels {', '.join(cell)}; a head takes one"
            )
        labels += [f"{name}{SEPARATOR}{label}" for label in cell]
    if labels and len(labels) < len(columns):
        empty = next(c for n, c in columns.items() if not any(label.startswith(f"{n}{SEPARATOR}") for label in labels))
        raise DatasetError(f"{where(table.source, line)}: column {empty!r} is empty; every head needs a label")
    return tuple(labels)


def head_space(source: Path, samples: Sequence[Sample], heads: Sequence[str]) -> tuple[str, ...]:
    """The label space: the heads in their order, the classes of each sorted, numbers as numbers.

    Raises DatasetError where the source is of a format that has no columns for heads.
    """
    used = {label for s in samples for label in s.labels}
    space = [
        label
        for head in heads
        for label in sorted((u for u in used if u.startswith(f"{head}{SEPARATOR}")), key=_natural)
    ]
    if not space or any(len(s.labels) != len(heads) for s in samples if s.labels) or len(space) < len(used):
        raise DatasetError(
            f"{source}: heads are columns of a table ({', '.join(heads)}), and its format has one label for each video"
        )
    return tuple(space)


def _natural(label: str) -> list[tuple[int, int | str]]:
    """Digits compare as numbers: class 2 before class 10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", label) if part]
