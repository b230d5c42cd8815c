"""Cells of tables and fields of lists: what a value means as text, labels or seconds.

One rule for several labels of one video, everywhere:

- A text that a person typed (a cell of a table, the last field of a line) holds several labels separated by `;` or `|`.
  Where the label space is given and has the whole text as one label, it is one label.
- Hashtags are separated by blanks: `#run #fun`.
- A list (a list column in Parquet, an array in JSON, a list as pandas prints it into CSV) holds one label an element.
  One-hot vectors are refused where they show: zeros and ones that repeat.
- The name of a folder, and a label of a published list (UCF-101, HMDB-51, Kinetics, Something-Something), is one label.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from tenclip_api.errors import DatasetError

_SEPARATORS = re.compile(r"[;|]")
# ['run', 'jump'], ['run' 'jump'], [1, 2] and [1 2]: how Python and numpy print lists.
_PRINTED_LIST = re.compile(r"""\[\s*(?:(?:'[^']*'|"[^"]*")(?:[\s,]+|(?=\])))*\]|\[[\s\d,.+-]*\]""")
_LIST_ELEMENT = re.compile(r"""'[^']*'|"[^"]*"|[^\s,\[\]'"]+""")
# What one-hot vectors are made of.
_FLAGS = frozenset({"0", "1", "True", "False"})
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def to_text(value: Any) -> str | None:
    """Convert a cell to text; None where it is empty. 3 and 3.0 (integers beside empty cells in pandas) are "3".

    Raises DatasetError for what is no single value.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="surrogateescape")
    if isinstance(value, float | decimal.Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, list | tuple | dict | set):
        raise DatasetError(f"holds {_short(value)}, where one value is needed")
    return str(value).strip() or None


def to_labels(value: Any, known: Collection[str] = ()) -> tuple[str, ...]:
    """Convert a cell to labels, each once, by the rule above; () where it is empty.

    known: the label space, where one is given. Raises DatasetError for what is no label.
    """
    if isinstance(value, list | tuple):
        return _list_labels([_list_label(v) for v in value])
    text = to_text(value)
    if text is None or text in known:
        return () if text is None else (text,)
    if isinstance(value, float | decimal.Decimal) and not re.fullmatch(r"[+-]?\d+", text):
        raise DatasetError(f"label {value!r} is a number with a fraction; a class is a name or a whole number")
    if _PRINTED_LIST.fullmatch(text):
        return _list_labels([_unquote(found[0]) for found in _LIST_ELEMENT.finditer(text[1:-1])])
    if text.startswith("#"):
        return _unique(text.split())
    return _unique(_SEPARATORS.split(text))


def to_seconds(value: Any) -> float | None:
    """Convert a cell to seconds, from a number, `HH:MM:SS.ss`, `MM:SS` or a duration; None where the cell is empty.

    Raises ValueError for anything else.
    """
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.time):
        return value.hour * 3600 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, bool):
        raise ValueError
    text = to_text(value) if not isinstance(value, int | float) else value
    if text is None or (isinstance(text, float) and math.isnan(text)):
        return None
    clock = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if clock:
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def is_number(text: str) -> bool:
    """True for a finite number of seconds, or a time as `HH:MM:SS`."""
    try:
        return to_seconds(text) is not None
    except (ValueError, DatasetError):
        return False


def _list_labels(labels: Sequence[str]) -> tuple[str, ...]:
    if len(labels) > len(set(labels)) and set(labels) <= _FLAGS:
        raise DatasetError(
            f"{_short(list(labels))} reads as a one-hot vector; write the numbers or the names of the classes instead"
        )
    return _unique(labels)


def _list_label(value: Any) -> str:
    text = to_text(value)
    if text is None:
        raise DatasetError("a list of labels has an empty element")
    return text


def _unique(labels: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))


def _unquote(text: str) -> str:
    return str(ast.literal_eval(text)) if text[:1] in "'\"" else text.rstrip(".")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
