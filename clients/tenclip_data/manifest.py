"""Manifests: which videos a dataset has, what they show, and which split each belongs to.

::

    read_manifest(source)
      |-- DIR/                     class-named sub-folders, or train/ and val/ that hold them
      |-- FILE.csv, FILE.parquet   columns path and label; optional start_seconds, end_seconds, split; others are kept
      |-- FILE.csv                 Kinetics' own columns: label, youtube_id, time_start, time_end, split
      |-- trainlist01.txt          UCF-101: `Class/v_x.avi 1`; the other list and classInd.txt are found beside it
      `-- wave_test_split1.txt     HMDB-51: `x.avi 0|1|2`; the other classes' files are found beside it

Everything that cannot be used raises DatasetError, which names the file and the line.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
import hashlib
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tenclip_api.errors import DatasetError

# What to do about a video that a manifest names and that is not there. "keep": it stays in the manifest, fails when it
# is opened, and is counted there as any other unreadable video (lists of YouTube videos are never complete).
Missing = Literal["error", "keep"]

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"}
    | {".gif", ".ogv"}
)
PATH_COLUMNS = ("path", "video", "video_path", "file")
LABEL_COLUMNS = ("label", "labels", "class")
START_COLUMNS = ("start_seconds", "start")
END_COLUMNS = ("end_seconds", "end")
KINETICS_COLUMNS = frozenset({"label", "youtube_id", "time_start", "time_end"})
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
DEFAULT_HELD_OUT = 0.2


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row: a video, or the half-open part [start_seconds, end_seconds) of one.

    `name` is how the manifest writes the path, `path` the file that it means, `line` where the row stands.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    split: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    @property
    def key(self) -> str:
        """The sample's name in ledgers and reports: its path, with the part of the video where it has one."""
        if self.start_seconds is None and self.end_seconds is None:
            return self.name
        end = "" if self.end_seconds is None else f"{self.end_seconds:g}"
        return f"{self.name}[{self.start_seconds or 0:g}:{end}]"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples and the label space that their labels index.

    `labels` lists every class in the order of the classifier's outputs; all of a sample's labels are in it.
    """

    source: Path
    samples: tuple[Sample, ...]
    labels: tuple[str, ...]

    @property
    def multi_label(self) -> bool:
        return any(len(s.labels) > 1 for s in self.samples)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.split for s in self.samples))

    def split(self, name: str) -> Manifest:
        """The samples of one split, same label space. Raises DatasetError when there are none."""
        samples = tuple(s for s in self.samples if s.split == name)
        if not samples:
            known = ", ".join(repr(s) for s in self.splits)
            raise DatasetError(f"{self.source}: no video in split {name!r}; its splits are {known}")
        return dataclasses.replace(self, samples=samples)

    def targets(self, sample: Sample) -> tuple[int, ...]:
        """Indices of the sample's labels in `labels`."""
        return tuple(self._index[label] for label in sample.labels)

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    def with_labels(self, labels: Sequence[str]) -> Manifest:
        """The same samples in another label space. Raises DatasetError for a label that it does not have."""
        labels = tuple(labels)
        known = set(labels)
        if len(known) != len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise DatasetError(f"the label space has {twice!r} more than once")
        for sample in self.samples:
            for label in sample.labels:
                if label not in known:
                    raise DatasetError(f"{_place(self.source, sample)}: {_unknown(label, labels)}")
        return dataclasses.replace(self, labels=labels)


def read_manifest(
    source: Path | str,
    *,
    labels: Sequence[str] | Path | str | None = None,
    videos: Path | str | None = None,
    label_column: str | None = None,
    whole_videos: bool = False,
    missing: Missing = "error",
    held_out: float = DEFAULT_HELD_OUT,
    seed: int = 0,
) -> Manifest:
    """Read any of the formats above.

    labels: the label space, or a file with one label a line; None takes it from the data (sorted, or UCF-101's
    classInd.txt). videos: the folder that relative paths start from; None: the manifest's own.
    label_column: the column of a table to take labels from, where `label` is not what is wanted.
    whole_videos: forget start and end, so that a video of which they mark a small part is used untrimmed.
    held_out, seed: where nothing says what is held out, that part of every class becomes split "val", see
    `stratified_split`. Raises DatasetError.
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source}: no such manifest or folder")
    root = Path(videos) if videos is not None else (source if source.is_dir() else source.parent)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder of videos")
    samples, own_labels = _reader(source)(source, root, label_column)
    if whole_videos:
        samples = [dataclasses.replace(s, start_seconds=None, end_seconds=None) for s in samples]
    if not samples:
        raise DatasetError(f"{source}: lists no videos")
    samples = _check(source, samples, missing)
    space = _label_space(labels, own_labels, samples)
    manifest = Manifest(source=source, samples=tuple(samples), labels=()).with_labels(space)
    if not any(s.split for s in samples):
        return stratified_split(manifest, held_out=held_out, seed=seed)
    return manifest


def stratified_split(manifest: Manifest, *, held_out: float = DEFAULT_HELD_OUT, seed: int = 0) -> Manifest:
    """Give every sample split "train" or "val": `held_out` of each class, rounded, and at least one of two.

    All parts of one video go to the same side. The choice depends on the seed and on the names alone, not on the order
    of the files, so it is the same on every machine, and adding a class moves no video of another one.
    Raises DatasetError when that leaves nothing to hold out.
    """
    if not 0 < held_out < 1:
        raise DatasetError(f"held_out must lie between 0 and 1, got {held_out}")
    names_of_class: dict[str, set[str]] = {}  # a sample of several labels counts for its first
    for sample in manifest.samples:
        names_of_class.setdefault(sample.labels[0], set()).add(sample.name)
    val: set[str] = set()
    for names in names_of_class.values():
        ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
        val.update(ranked[: max(round(len(ranked) * held_out), 1 if len(ranked) > 1 else 0)])
    if not val:
        raise DatasetError(
            f"{manifest.source}: every class has a single video, so none can be held out; add videos or a split column"
        )
    samples = tuple(dataclasses.replace(s, split="val" if s.name in val else "train") for s in manifest.samples)
    return dataclasses.replace(manifest, samples=samples)


def read_labels(path: Path | str) -> tuple[str, ...]:
    """One label a line; UCF-101's `1 ApplyEyeMakeup` (classInd.txt) is understood too. Raises DatasetError."""
    path = Path(path)
    lines = [line.strip() for line in _read_text(path).splitlines()]
    labels = [line for line in lines if line]
    if labels and all(re.fullmatch(rf"{i} \S.*", line) for i, line in enumerate(labels, start=1)):
        labels = [line.split(" ", 1)[1].strip() for line in labels]
    if not labels:
        raise DatasetError(f"{path}: holds no labels; write one a line")
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line and line in seen:
            raise DatasetError(f"{path}, line {number}: {line!r} stands on line {seen[line]} already")
        seen[line] = number
    return tuple(labels)


# -- formats: each reader gives samples with `path` not yet checked, and a label space where the format brings one --

_Rows = tuple[list[Sample], tuple[str, ...] | None]
# In `extra`: which of several list files a sample comes from.
_LIST = "list file"
_Reader = Callable[[Path, Path, str | None], _Rows]
_UCF_LIST = re.compile(r"(train|test)list(\d+)\.txt")
_HMDB_LIST = re.compile(r"(?P<label>.+)_test_split(?P<fold>\d+)\.txt")


def _reader(source: Path) -> _Reader:
    if source.is_dir():
        return _read_folder
    if source.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet
    if _UCF_LIST.fullmatch(source.name):
        return _read_ucf
    if _HMDB_LIST.fullmatch(source.name):
        return _read_hmdb
    if source.suffix.lower() in (".csv", ".tsv"):
        return _read_csv
    raise DatasetError(
        f"{source}: not a manifest that tenclip reads; use a folder of class-named sub-folders, .csv, .parquet, "
        "UCF-101's trainlist01.txt or HMDB-51's CLASS_test_split1.txt"
    )


def _read_folder(source: Path, root: Path, label_column: str | None) -> _Rows:
    _refuse_column(source, label_column)
    folders = _subfolders(root)
    if folders and all(f.name.lower() in SPLIT_FOLDERS for f in folders):
        pairs = [(SPLIT_FOLDERS[f.name.lower()], c) for f in folders for c in _subfolders(f)]
    else:
        pairs = [("", f) for f in folders]
    samples = [
        Sample(path=video, name=video.relative_to(root).as_posix(), labels=(folder.name,), split=split)
        for split, folder in pairs
        for video in sorted(folder.rglob("*"))
        if video.suffix.lower() in VIDEO_SUFFIXES and not video.is_dir()
    ]
    if not samples:
        raise DatasetError(f"{root}: no videos in class-named sub-folders (looked for {root}/CLASS/*.mp4 and the like)")
    return samples, None


def _refuse_column(source: Path, label_column: str | None) -> None:
    if label_column is not None:
        raise DatasetError(
            f"{source}: no column {label_column!r}: its format has one label for each video and no others"
        )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _read_csv(source: Path, root: Path, label_column: str | None) -> _Rows:
    delimiter = "\t" if source.suffix.lower() == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(_read_text(source), newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [c.strip() for c in reader.fieldnames or []]
        reader.fieldnames = columns
        if len(set(columns)) != len(columns):
            raise DatasetError(f"{source}, line 1: a column name stands twice in {', '.join(columns)}")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as err:
        raise DatasetError(f"{source}, line {reader.reader.line_num}: {err}") from err
    for line, row in rows:
        if None in row or None in row.values():
            width = len(columns) + len(row.get(None, ())) - sum(v is None for v in row.values())
            raise DatasetError(f"{source}, line {line}: {width} fields where the header has {len(columns)}")
    if set(columns) >= KINETICS_COLUMNS and not set(columns) & set(PATH_COLUMNS):
        _refuse_column(source, label_column)
        return [_kinetics_sample(source, line, row, root) for line, row in rows], None
    return _table_samples(source, columns, rows, root, label_column), None


def _read_parquet(source: Path, root: Path, label_column: str | None) -> _Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(source)
    except (OSError, pyarrow.ArrowException) as err:
        raise DatasetError(f"{source}: cannot be read as Parquet: {err}") from err
    rows = list(enumerate(table.to_pylist(), start=1))
    return _table_samples(source, table.column_names, rows, root, label_column), None


def _table_samples(
    source: Path, columns: Sequence[str], rows: Iterable[tuple[int, dict[str, Any]]], root: Path, label: str | None
) -> list[Sample]:
    path_column = _column(source, columns, PATH_COLUMNS)
    label_column = _column(source, columns, (label,) if label else LABEL_COLUMNS)
    start_column = next((c for c in START_COLUMNS if c in columns), None)
    end_column = next((c for c in END_COLUMNS if c in columns), None)
    used = {path_column, label_column, start_column, end_column, "split"}
    samples = []
    for line, row in rows:
        name = str(row[path_column] or "").strip()
        if not name:
            raise DatasetError(f"{_where(source, line)}: column {path_column!r} is empty")
        samples.append(
            Sample(
                path=root / name,
                name=name,
                labels=_split_labels(source, line, row[label_column]),
                split=str(row.get("split") or "").strip(),
                start_seconds=_seconds(source, line, start_column, row),
                end_seconds=_seconds(source, line, end_column, row),
                extra={k: v for k, v in row.items() if k not in used},
                line=line,
            )
        )
    return samples


def _kinetics_sample(source: Path, line: int, row: dict[str, Any], root: Path) -> Sample:
    """Finds the video where the usual download tools put it: trimmed as ID_000012_000022, or whole as ID."""
    start, end = _seconds(source, line, "time_start", row), _seconds(source, line, "time_end", row)
    if start is None or end is None:
        raise DatasetError(f"{_where(source, line)}: time_start and time_end are needed")
    label, split, video_id = row["label"].strip(), (row.get("split") or "").strip(), row["youtube_id"].strip()
    if not video_id:
        raise DatasetError(f"{_where(source, line)}: column 'youtube_id' is empty")
    folders = ("", label, label.replace(" ", "_"), split, f"{split}/{label}", f"{split}/{label.replace(' ', '_')}")
    trimmed = f"{video_id}_{int(start):06d}_{int(end):06d}"
    for stem, part in ((trimmed, (None, None)), (video_id, (start, end))):
        for folder in dict.fromkeys(folders):
            for suffix in (".mp4", ".mkv", ".webm", ".avi"):
                if (root / folder / f"{stem}{suffix}").is_file():
                    path = root / folder / f"{stem}{suffix}"
                    return _kinetics_row(source, line, row, path, root, part)
    return _kinetics_row(source, line, row, root / label / f"{trimmed}.mp4", root, (None, None))


def _kinetics_row(
    source: Path, line: int, row: dict[str, Any], path: Path, root: Path, part: tuple[float | None, float | None]
) -> Sample:
    return Sample(
        path=path,
        name=path.relative_to(root).as_posix(),
        labels=_split_labels(source, line, [row["label"]]),
        split=(row.get("split") or "").strip(),
        start_seconds=part[0],
        end_seconds=part[1],
        extra={k: v for k, v in row.items() if k not in ("label", "split")},
        line=line,
    )


def _read_ucf(source: Path, root: Path, label_column: str | None) -> _Rows:
    """`Class/v_x.avi 1`, or without the number in test lists; the class is the folder's name."""
    _refuse_column(source, label_column)
    match = _UCF_LIST.fullmatch(source.name)
    assert match is not None
    samples = []
    for split in ("train", "test"):
        file = source.with_name(f"{split}list{match[2]}.txt")
        if file != source and not file.is_file():
            continue
        for line, text in enumerate(_read_text(file).splitlines(), start=1):
            if not text.strip():
                continue
            name = text.split()[0]
            if "/" not in name:
                raise DatasetError(f"{file}, line {line}: expected 'Class/video.avi 1', got {text!r}")
            label = name.split("/")[-2]
            samples.append(
                Sample(path=root / name, name=name, labels=(label,), split=split, line=line, extra={_LIST: file.name})
            )
    class_index = source.with_name("classInd.txt")
    return samples, read_labels(class_index) if class_index.is_file() else None


def _read_hmdb(source: Path, root: Path, label_column: str | None) -> _Rows:
    """`x.avi 1`: 1 train, 2 test, 0 unused in this fold; the class is in the list's own name."""
    _refuse_column(source, label_column)
    match = _HMDB_LIST.fullmatch(source.name)
    assert match is not None
    samples = []
    for file in sorted(source.parent.glob(f"*_test_split{match['fold']}.txt")):
        label = file.name[: -len(f"_test_split{match['fold']}.txt")]
        for line, text in enumerate(_read_text(file).splitlines(), start=1):
            if not text.strip():
                continue
            name, _, number = text.strip().rpartition(" ")
            split = {"0": "unused", "1": "train", "2": "test"}.get(number)
            if split is None or not name.strip():
                raise DatasetError(f"{file}, line {line}: expected 'video.avi 0', '... 1' or '... 2', got {text!r}")
            name = f"{label}/{name.strip()}"
            samples.append(
                Sample(path=root / name, name=name, labels=(label,), split=split, line=line, extra={_LIST: file.name})
            )
    return samples, None


# -- checks --


def _check(source: Path, samples: Sequence[Sample], missing: Missing) -> list[Sample]:
    seen: dict[tuple[str, float | None, float | None], Sample] = {}
    for sample in samples:
        where = _place(source, sample)
        start, end = sample.start_seconds, sample.end_seconds
        if start is not None and start < 0:
            raise DatasetError(f"{where}: start {start:g} s is negative")
        if end is not None and end <= (start or 0):
            raise DatasetError(f"{where}: end {end:g} s is not after start {start or 0:g} s")
        first = seen.setdefault((sample.name, start, end), sample)
        if first is not sample:
            raise DatasetError(f"{where}: the same video is on line {first.line} already (split {first.split!r})")
        if missing == "error" and not sample.path.is_file():
            raise DatasetError(
                f"{where}: no such file {sample.path}; paths start from the manifest's folder unless another is given, "
                "and missing videos can be kept and counted instead"
            )
    without = [s for s in samples if not s.split]
    if without and len(without) < len(samples):
        raise DatasetError(f"{_place(source, without[0])}: no split, where other videos have one")
    return list(samples)


def _label_space(
    labels: Sequence[str] | Path | str | None, own: tuple[str, ...] | None, samples: Sequence[Sample]
) -> tuple[str, ...]:
    if isinstance(labels, str | Path):
        return read_labels(labels)
    if labels is not None:
        return tuple(labels)
    return own or tuple(sorted({label for s in samples for label in s.labels}))


def _column(source: Path, columns: Sequence[str], names: Sequence[str]) -> str:
    for name in names:
        if name in columns:
            return name
    alternatives = f" (or {', '.join(names[1:])})" if names[1:] else ""
    raise DatasetError(f"{source}, line 1: no column {names[0]!r}{alternatives}; it has {', '.join(columns) or 'none'}")


def _split_labels(source: Path, line: int, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        # Hashtags hold no blanks, and lists of them are written with blanks between.
        parts = value.split() if value.lstrip().startswith("#") else re.split(r"[;|]", value)
    else:
        parts = [str(v) for v in value or ()]
    labels = tuple(dict.fromkeys(p.strip() for p in parts if p.strip()))
    if not labels:
        raise DatasetError(f"{_where(source, line)}: no label")
    return labels


def _seconds(source: Path, line: int, column: str | None, row: Mapping[str, Any]) -> float | None:
    value = row[column] if column is not None else None
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise DatasetError(f"{_where(source, line)}: {column} is {value!r}, not a number of seconds")
    return seconds


def _unknown(label: str, labels: Sequence[str]) -> str:
    close = difflib.get_close_matches(label, labels, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"label {label!r} is not one of the {len(labels)} known ones{hint}"


def _where(source: Path, line: int) -> str:
    return f"{source}, line {line}" if line else f"{source}"


def _place(source: Path, sample: Sample) -> str:
    file = source.with_name(sample.extra[_LIST]) if _LIST in sample.extra else source
    return f"{_where(file, sample.line)} ({sample.name})"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DatasetError(f"{path}: cannot be read as text: {err}") from err
