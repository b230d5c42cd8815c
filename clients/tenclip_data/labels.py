"""Label spaces: files of class names, and what numbers stand for.

Rules for numbers (all labels of a manifest are whole numbers):

- With a file of class names, numbers count its lines from 0, as MMAction2, SlowFast and pytorchvideo do. Where the
  file numbers its classes itself (`1 ApplyEyeMakeup`), the labels may also be meant as its own numbers. The data decide
  (the range of the labels, the names of the folders), and where they do not, it is an error.
- Without names, the label space of a list or a table is "0", "1", ... up to the largest number, so that lists of one
  data set have one label space. Folders that are named by numbers are sorted as numbers.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample, place
from tenclip_data.text import lines_of, read_text, unquoted

# Above this, numbers are no indices of classes but something else (years, ids).
MAX_CLASSES = 100_000
# From here on, labels of which few occur are worth a word.
_MANY = 1000

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)")
_NUMBER_FIRST = re.compile(r"(\d+)(?:[ \t]*[,;:][ \t]*|[ \t]+)(\S.*)")
_NUMBER_LAST = re.compile(r"(.*\S)[ \t]*[,;\t][ \t]*(\d+)")
_NAME_COLUMNS = ("name", "label", "class_name", "label_name", "class", "key", "category")
_NUMBER_COLUMNS = ("id", "index", "label_id", "class_id", "idx", "label", "", "unnamed: 0")


@dataclass(frozen=True)
class ClassNames:
    """Class names in the order of the classifier's outputs. first: the number that the file gives to the first of
    them; None where it has no numbers.
    """

    names: tuple[str, ...]
    first: int | None = None
    source: Path | None = None


def read_labels(path: Path | str) -> tuple[str, ...]:
    """Read class names, in the order of their numbers. Raises DatasetError.

    Understood: one name a line; numbered lines from 0 or 1 (UCF-101's classInd.txt: `1 ApplyEyeMakeup`; `0,abseiling`;
    `abseiling,0`); CSV with columns such as `id,name` (EPIC-100's verb classes: `id,key`); JSON that is a list, or maps
    names to numbers or numbers to names (Something-Something's labels.json).
    """
    return read_class_names(path).names


def read_class_names(path: Path | str) -> ClassNames:
    """Like `read_labels`, with the number that the file gives to its first class."""
    path = Path(path)
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    lines = [(i, line.strip()) for i, line in enumerate(lines_of(text), start=1) if line.strip()]
    if not lines:
        raise DatasetError(f"{path}: holds no labels; write one a line")
    numbered = _from_columns(path, text) or _numbered(path, lines)
    if numbered is not None:
        return numbered
    names = [(i, unquoted(line)) for i, line in lines]
    if path.suffix.lower() == ".csv" and len(names) > 1 and names[0][1].lower() in _NAME_COLUMNS:
        names = names[1:]  # the header of a table with one column
    _refuse_repeats(path, names)
    return ClassNames(tuple(name for _, name in names), source=path)


def label_space(
    given: ClassNames | None, own: tuple[str, ...] | None, samples: Sequence[Sample], *, source: Path, fill: bool
) -> tuple[Sequence[Sample], tuple[str, ...], tuple[str, ...]]:
    """(samples whose labels are in the space, the space, warnings), by the rules of this module.

    given: class names that the caller has; own: names that the source brings.
    fill: whether numbers without names begin at 0 and leave none out. Raises DatasetError.
    """
    classes = given or (ClassNames(own) if own else None)
    if classes is not None:
        classes = dataclasses.replace(classes, names=tuple(_composed(name) for name in classes.names))
    samples = [s if all(map(str.isascii, s.labels)) else _renamed(s, _composed) for s in samples]
    used = {label for s in samples for label in s.labels}
    whole = _whole_numbers(used)
    if whole is None:
        return samples, classes.names if classes else tuple(sorted(used)), ()
    if any(label != number for label, number in whole.items()):
        samples = [_renamed(s, whole.__getitem__) for s in samples]
    numbers = {int(n) for n in whole.values()}
    if min(numbers) < 0:
        bad = next(s for s in samples if any(int(n) < 0 for n in s.labels))
        raise DatasetError(
            f"{place(source, bad)}: label {min(numbers)} is negative; numbers of classes begin at 0, so leave out "
            "videos without a label"
        )
    if classes is not None:
        if set(whole.values()) <= set(classes.names):
            return samples, classes.names, ()
        first = _first_number(source, classes, numbers, samples)
        return [_renamed(s, lambda n: classes.names[int(n) - first]) for s in samples], classes.names, ()
    if not fill:
        return samples, tuple(map(str, sorted(numbers))), ()
    if max(numbers) >= MAX_CLASSES:
        bad = next(s for s in samples if str(max(numbers)) in s.labels)
        raise DatasetError(
            f"{place(source, bad)}: label {max(numbers)} is no number of a class (0 to {MAX_CLASSES - 1}); give the "
            "file of class names as the labels, or name another label column"
        )
    return samples, tuple(map(str, range(max(numbers) + 1))), _odd_numbers(source, numbers)


def _odd_numbers(source: Path, numbers: set[int]) -> tuple[str, ...]:
    last = max(numbers)
    if min(numbers) == 1:
        return (
            f"{source}: no video has label 0 (they are 1 to {last}), and numbers of classes begin at 0; so the "
            "classifier has an output that is never right",
        )
    if last >= _MANY and len(numbers) < last / 10:
        return (f"{source}: the largest label is {last}, so there are {last + 1} classes, and {len(numbers)} occur",)
    return ()


def _composed(label: str) -> str:
    """One spelling of letters with accents: file systems and class files differ in theirs."""
    return unicodedata.normalize("NFC", label)


def _whole_numbers(labels: Iterable[str]) -> dict[str, str] | None:
    """Label -> the same number in plain digits ("3.0" -> "3"); None where one of them is no whole number."""
    plain = {label: re.sub(r"\.0+$", "", label) for label in labels}
    return plain if plain and all(_NUMBER.fullmatch(p) for p in plain.values()) else None


def _first_number(source: Path, classes: ClassNames, numbers: set[int], samples: Sequence[Sample]) -> int:
    """The number that stands for the first class: 0, or the file's own. Raises DatasetError where nothing tells."""
    count = len(classes.names)
    file = classes.source or "the labels"
    possible = [f for f in dict.fromkeys((0, classes.first or 0)) if min(numbers) >= f and max(numbers) - f < count]
    if len(possible) > 1 or (possible and classes.first is None):
        agreeing = {f: _folders_agree(classes.names, samples, f) for f in (0, 1)}
        if agreeing[0] != agreeing[1]:
            better = 0 if agreeing[0] > agreeing[1] else 1
            if better in possible:
                return better
            raise DatasetError(
                f"{source}: its labels count the classes of {file} from 1, as the folders of the videos tell; write "
                "them from 0, or number the lines of the class file (1 NAME)"
            )
    if len(possible) == 1:
        return possible[0]
    if possible:
        raise DatasetError(
            f"{source}: its labels are {min(numbers)} to {max(numbers)}, and {file} numbers its classes from "
            f"{classes.first}; whether the labels count from 0 or from {classes.first} cannot be told. Take the "
            "numbers out of the class file to count from 0, or write names as labels"
        )
    last = next(s for s in samples if str(max(numbers)) in s.labels)
    raise DatasetError(
        f"{place(source, last)}: label {max(numbers)} is not one of the {count} classes of {file}, which count from 0"
        + ("; if the labels count from 1, number the lines of the class file (1 NAME)" if min(numbers) > 0 else "")
    )


def _folders_agree(names: Sequence[str], samples: Sequence[Sample], first: int) -> int:
    """How many videos lie in a folder that has the name of their class, when numbers begin at `first`."""
    plain = [_plain(n) for n in names]
    return sum(
        _plain(s.path.parent.name) == plain[int(label) - first]
        for s in samples
        for label in s.labels
        if 0 <= int(label) - first < len(plain)
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _renamed(sample: Sample, name_of: Callable[[str], str]) -> Sample:
    return dataclasses.replace(sample, labels=tuple(dict.fromkeys(name_of(label) for label in sample.labels)))


# -- files of class names --


def _numbered(path: Path, lines: Sequence[tuple[int, str]]) -> ClassNames | None:
    """`1 ApplyEyeMakeup` or `clapping,0`, where the numbers are all those from 0 or from 1."""
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        matches = [pattern.fullmatch(line) for _, line in lines]
        found = [(int(m[number]), unquoted(m[name])) for m in matches if m]
        if len(found) == len(lines) and sorted(n for n, _ in found) in _ranges(len(found)):
            names = [(line, label) for (line, _), (_, label) in zip(lines, found, strict=True)]
            _refuse_repeats(path, names)
            return _in_order(path, found)
    return None


def _from_columns(path: Path, text: str) -> ClassNames | None:
    """CSV with a header such as `id,name`; None where it has none."""
    lines = [line for line in lines_of(text) if line.strip()]
    delimiter = max(",;\t", key=lines[0].count)
    try:
        rows = [[f.strip() for f in row] for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True)]
    except csv.Error:
        return None
    header = [f.lower() for f in rows[0]] if rows else []
    if len(header) < 2 or any(len(row) != len(header) for row in rows):
        return None
    name = next((c for c in _NAME_COLUMNS if c in header), None)
    number = next((c for c in _NUMBER_COLUMNS if c in header and c != name), None)
    if name is None or number is None or len(rows) < 2:
        return None
    cells = [(row[header.index(number)], unquoted(row[header.index(name)])) for row in rows[1:]]
    if not all(n.isdigit() for n, _ in cells):
        return None
    _refuse_repeats(path, [(i, label) for i, (_, label) in enumerate(cells, start=2)])
    return _in_order(path, [(int(n), label) for n, label in cells])


def _from_json(path: Path, text: str) -> ClassNames:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DatasetError(f"{path}: cannot be read as JSON: {err}") from err
    if isinstance(data, list) and data and all(isinstance(name, str) for name in data):
        _refuse_repeats(path, list(enumerate(data, start=1)))
        return ClassNames(tuple(data), source=path)
    pairs = [_number_and_name(k, v) for k, v in data.items()] if isinstance(data, dict) else []
    found = [p for p in pairs if p is not None]
    if not found or len(found) != len(pairs):
        raise DatasetError(
            f"{path}: is no file of labels; write a JSON list of names, or an object that maps names to numbers"
        )
    _refuse_repeats(path, [(i, name) for i, (_, name) in enumerate(found, start=1)])
    return _in_order(path, found)


def _number_and_name(key: str, value: Any) -> tuple[int, str] | None:
    if isinstance(value, list) and value:  # ImageNet's index: number -> [id, name]
        value = value[-1]
    if isinstance(value, int | str) and not isinstance(value, bool) and re.fullmatch(r"\d+", str(value)):
        return int(value), unquoted(key)
    return (int(key), value) if key.isdigit() and isinstance(value, str) else None


def _in_order(path: Path, found: Sequence[tuple[int, str]]) -> ClassNames:
    numbers = sorted(n for n, _ in found)
    if numbers not in _ranges(len(numbers)):
        wanted = range(min(numbers[0], 1), min(numbers[0], 1) + len(numbers))
        wrong = next(n for n, right in zip(numbers, wanted, strict=True) if n != right)
        raise DatasetError(
            f"{path}: number {wrong} of its {len(numbers)} labels is out of order; numbers must be all those from 0 or "
            "from 1, each once"
        )
    return ClassNames(tuple(name for _, name in sorted(found)), first=numbers[0], source=path)


def _ranges(count: int) -> tuple[list[int], list[int]]:
    return list(range(count)), list(range(1, count + 1))


def _refuse_repeats(path: Path, names: Sequence[tuple[int, str]]) -> None:
    seen: dict[str, int] = {}
    for number, name in names:
        if name in seen:
            raise DatasetError(f"{path}, line {number}: {name!r} stands on line {seen[name]} already")
        seen[name] = number
