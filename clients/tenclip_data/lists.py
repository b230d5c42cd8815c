"""Lists of videos without a header: one video a line, as MMAction2, SlowFast and pytorchvideo use.

A line is one of::

    path                      only for features and predictions, which need no labels
    path label                MMAction2's video lists, SlowFast's train.csv, pytorchvideo's LabeledVideoDataset
    path start end label      seconds, or HH:MM:SS; the label may hold blanks

separated by blanks, tabs, commas, semicolons or `|`; all lines of a file alike. The path ends where the text before a
separator ends in the suffix of a video (`.mp4`) or is a file that is there, so paths may hold separators; a path in
quotes ends at the closing quote. Empty lines and lines that begin with `#` are passed over.

Whatever is neither is refused with the line and the layouts that would work: lists of frame folders (rawframes), labels
before paths, several labels on a line, lines of different layouts.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.cells import is_number, to_labels, to_seconds
from tenclip_data.paths import is_image_name, is_video_name, locate, resolve
from tenclip_data.samples import SPLIT_NAMES, Sample, picture_refusal, where
from tenclip_data.source import ReadOptions, Rows, refuse_column
from tenclip_data.text import is_excel_delimiter, lines_of, unquoted

LAYOUTS = "'path', 'path label' or 'path start end label' (seconds), separated by blanks, tabs, commas or semicolons"

# Linux allows 4096 bytes in a path.
MAX_LINE_CHARACTERS = 8192

_SEPARATOR = re.compile(r"[ \t]*[,;|][ \t]*|[ \t]+")
_QUOTED_PATH = re.compile(r"""(?:"((?:[^"]|"")+)"|'([^']+)')(?=[ \t,;|]|$)""")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_WHOLE = re.compile(r"-?\d+")


@dataclass(frozen=True)
class ListLine:
    """One line, taken apart. separator: "," ";" "|", or " " for blanks and tabs; "" where there is only a path.

    fields: what follows the path; for blanks, `rest` is that text whole.
    """

    number: int
    text: str
    name: str
    separator: str
    fields: tuple[str, ...]
    rest: str

    @property
    def layout(self) -> str:
        """`path`, `path label` or `path start end label`; "" where it is none of them."""
        first = self.fields[:2]
        if not self.fields:
            return "path"
        if len(self.fields) == 1:
            return "path label"
        timed = len(first) == 2 and all(is_number(f) for f in first)
        if self.separator == " ":
            if not is_number(first[0]):
                return "path label"  # a label of several words
            return "path start end label" if timed and self._label_follows() else ""
        timed = timed or (len(self.fields) == 3 and not any(first))
        return "path start end label" if timed and len(self.fields) == 3 else ""

    def _label_follows(self) -> bool:
        return len(self.fields) == 3 or (len(self.fields) > 3 and not any(_WHOLE.fullmatch(f) for f in self.fields[2:]))

    @property
    def label(self) -> str:
        """The text of the label, blanks in it included; "" where there is none."""
        if self.layout == "path":
            return ""
        skipped = 2 if self.layout == "path start end label" else 0
        if self.separator != " ":
            return self.fields[skipped]
        return unquoted(self.rest.split(None, skipped)[skipped])


def list_rows(source: Path, text: str, options: ReadOptions) -> Rows:
    """Read the samples of a list. Raises DatasetError that names the line."""
    refuse_column(source, options)
    first: ListLine | None = None
    samples = []
    for line in parse_lines(source, text, options.root):
        first = first or line
        _check_layout(source, line, first, options)
        samples.append(_sample(source, line, options))
    return Rows(samples=samples, split_of_file=split_of_file(source))


def looks_like_list(source: Path, text: str, root: Path) -> bool:
    """True where the first line is a row, not a header: it names a video or a URI, or ends in a number."""
    for line in lines_of(text):
        if (
            line.strip()
            and len(line) <= MAX_LINE_CHARACTERS
            and not line.lstrip().startswith("#")
            and not is_excel_delimiter(line)
        ):
            try:
                found = _path_end(line.strip(), root)
            except DatasetError:
                return True
            return found is not None or re.search(r"[ \t,;|]-?\d+$|^[A-Za-z][\w+.-]*://", line.strip()) is not None
    return False


def split_of_file(source: Path) -> str:
    """The split that a file's name tells: `kinetics400_val_list.txt` -> "val"; "" where it tells none, or several."""
    words = re.split(r"[^a-z]+", source.stem.lower())
    splits = {SPLIT_NAMES[w] for w in words if w in SPLIT_NAMES}
    return splits.pop() if len(splits) == 1 else ""


# -- one line --


def parse_line(number: int, text: str, root: Path) -> ListLine:
    """Take one line apart. Raises DatasetError where two readings are possible, or none."""
    text = text.strip()
    if len(text) > MAX_LINE_CHARACTERS:
        raise DatasetError(f"{text[:40]!r}... has {len(text)} characters, so this is no line of a list ({LAYOUTS})")
    quoted = _QUOTED_PATH.match(text)
    if quoted:
        name = quoted[2] or quoted[1].replace('""', '"')
        return _with_fields(number, text, name.strip(), text[quoted.end() :])
    end = _path_end(text, root)
    if end is None:
        end = _guessed_path_end(text)
    return _with_fields(number, text, text[:end], text[end:])


def _path_end(text: str, root: Path) -> int | None:
    """Find the end of the path: at a video suffix, or after a name that is a file. None where neither is there."""
    ends = [*(m.start() for m in _SEPARATOR.finditer(text) if m.start()), len(text)]
    by_suffix = [e for e in ends if is_video_name(text[:e]) or is_image_name(text[:e])]
    if len(by_suffix) == 1:
        return by_suffix[0]
    there = [e for e in by_suffix or ends if _is_file(root, text[:e])]
    if len(there) > 1:
        names = " and ".join(repr(text[:e]) for e in there)
        raise DatasetError(f"{names} are both files; write the path in double quotes")
    if there:
        return there[0]
    return by_suffix[-1] if by_suffix else None


def _is_file(root: Path, name: str) -> bool:
    try:
        return os.path.isfile(locate(root, name))
    except DatasetError:
        return False


def _guessed_path_end(text: str) -> int:
    """Guess the end of the path of a video that is not there and has no suffix of a video."""
    uri = _URI.match(text)
    if uri:
        return uri.end()
    separators = list(_SEPARATOR.finditer(text))
    if separators and _WHOLE.fullmatch(text[separators[-1].end() :]):
        numbers = re.search(r"(?:[ \t,;|]+-?\d+)+$", text)
        return numbers.start() if numbers and numbers.start() else separators[-1].start()
    delimiters = [m for m in separators if m[0].strip() or "\t" in m[0]]
    return delimiters[0].start() if len(delimiters) == 1 else len(text)


def _with_fields(number: int, text: str, name: str, rest: str) -> ListLine:
    lead = _SEPARATOR.match(rest)
    if lead is None:
        return ListLine(number, text, name, "", (), "")
    separator = lead[0].strip() or " "
    rest = rest[lead.end() :].strip()
    if not rest:
        return ListLine(number, text, name, "", (), "")
    if separator == " ":
        fields = rest.split("\t") if "\t" in rest else rest.split()
        fields = [rest] if rest[0] in "\"'" and rest[-1] == rest[0] else fields
    else:
        fields = _delimited(rest, separator)
    cleaned = [unquoted(f) for f in fields]
    while len(cleaned) > 1 and not cleaned[-1]:
        cleaned.pop()
    return ListLine(number, text, name, separator, tuple(cleaned), rest)


def _delimited(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter, skipinitialspace=True))
    except csv.Error as err:
        raise DatasetError(f"{text!r}: {err}") from err


# -- all lines --


def parse_lines(source: Path, text: str, root: Path) -> Iterator[ListLine]:
    """Take all lines apart, without empty ones and comments. Raises DatasetError that names the line."""
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip() or is_excel_delimiter(line):
            continue
        try:
            if line.lstrip().startswith("#") and not _names_a_file(line.strip()[:MAX_LINE_CHARACTERS], root):
                continue
            yield parse_line(number, line, root)
        except DatasetError as err:
            raise DatasetError(f"{where(source, number)}: {err}") from err


def _names_a_file(text: str, root: Path) -> bool:
    """HMDB-51 has videos whose names begin with `#`."""
    end = _path_end(text, root)
    return end is not None and _is_file(root, text[:end])


def _check_layout(source: Path, line: ListLine, first: ListLine, options: ReadOptions) -> None:
    """Raise DatasetError for a line that is no row, or that is laid out in another way than the first one."""
    at = where(source, line.number)
    _refuse_frames(at, line, options)
    if not line.layout:
        raise DatasetError(f"{at}: {_several_fields(line)}")
    if line.layout == "path" and options.need_labels:
        raise DatasetError(f"{at}: {_no_label(line)}")
    if line.layout != first.layout:
        raise DatasetError(
            f"{at}: {line.text!r} reads as '{line.layout}', where line {first.number} reads as '{first.layout}'; "
            f"a list has lines of one layout: {LAYOUTS}"
        )
    if line.separator != first.separator:
        raise DatasetError(
            f"{at}: the path ends at {line.separator!r}, where line {first.number} has {first.separator!r}; use one "
            "separator in all lines, or put paths in double quotes"
        )


def _refuse_frames(at: str, line: ListLine, options: ReadOptions) -> None:
    root = options.root
    if is_image_name(line.name) and not options.images:
        raise DatasetError(f"{at}: {picture_refusal(line.name)}")
    if is_image_name(line.name) or is_video_name(line.name) or not line.fields:
        return
    if not all(_WHOLE.fullmatch(f) for f in line.fields):
        return
    if len(line.fields) > 1 or (os.path.isdir(resolve(root, line.name)) and not _is_file(root, line.name)):
        raise DatasetError(
            f"{at}: {line.text!r} reads as a folder of frames and their number (a rawframe list); tenclip decodes "
            "videos itself, so use the list of video files ('path/video.mp4 label')"
        )


def _several_fields(line: ListLine) -> str:
    if all(_WHOLE.fullmatch(f) for f in line.fields):
        reading = f"{len(line.fields)} numbers follow the path, which can be frames, seconds or several labels"
    else:
        reading = f"{len(line.fields)} fields follow the path"
    return (
        f"{line.text!r}: {reading}; a line is {LAYOUTS}. For several labels, write a table with a header: path,labels "
        "and the labels separated by ';'"
    )


def _no_label(line: ListLine) -> str:
    separator = _SEPARATOR.search(line.text)
    first = line.text[: separator.start()] if separator else ""
    rest = line.text[separator.end() :] if separator else ""
    if line.name == line.text and is_video_name(rest) and not is_video_name(first) and "/" not in first:
        return f"{line.text!r}: no label after the path; if {first!r} is the label, write it after the path"
    return f"{line.text!r}: no label; write it after the path, as in '{line.name} run' (a line is {LAYOUTS})"


def _sample(source: Path, line: ListLine, options: ReadOptions) -> Sample:
    at = where(source, line.number)
    timed = line.layout == "path start end label"
    start, end = (to_seconds(f) for f in line.fields[:2]) if timed else (None, None)
    if is_video_name(line.label):
        raise DatasetError(f"{at}: {line.text!r} names two videos, {line.name!r} and {line.label!r}; write one a line")
    if re.fullmatch(r"\d+(?:[ ]*,[ ]*\d+)+", line.label):
        raise DatasetError(f"{at}: {_several_fields(line)}")
    try:
        path = locate(options.root, line.name)
        labels = to_labels(line.label, options.known_labels)
    except DatasetError as err:
        raise DatasetError(f"{at}: {err}") from err
    return Sample(path=path, name=line.name, labels=labels, start_seconds=start, end_seconds=end, line=line.number)
