"""Sample and Manifest: what every reader of folders, lists and tables gives."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from tenclip_api.errors import DatasetError
from tenclip_data.scan import IMAGE_SUFFIXES

# What to do about a video that a manifest names and that is not there. "keep": it stays in the manifest, fails when it
# is opened, and is counted there as any other unreadable video (lists of YouTube videos are never complete).
Missing = Literal["error", "keep"]
# What to do about a video that is in two splits, see `leaks`.
Leaks = Literal["error", "warn", "allow"]

# Names that datasets give to their splits, in lower case, and the name that tenclip uses.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# Files whose rows have no line numbers: errors count rows instead.
_ROW_SUFFIXES = frozenset({".parquet", ".pq", ".json"})


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row: a video, or the half-open part [start_seconds, end_seconds) of one.

    name: the path as the manifest writes it. path: the file that it means. line: where the row stands, from 1; 0 in a
    folder. file: the file that the row stands in, where that is not the manifest itself.
    extra: the columns of a table that have no other place.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    split: str = ""
    start_seconds: float | None = None
    end_seconds: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    file: Path | None = None

    @property
    def is_image(self) -> bool:
        """Whether its name is that of a still image."""
        return os.path.splitext(self.name)[1].lower() in IMAGE_SUFFIXES

    @property
    def key(self) -> str:
        """The sample's name in ledgers and reports: its path, with the part of the video where it has one."""
        if self.start_seconds is None and self.end_seconds is None:
            return self.name
        end = "" if self.end_seconds is None else f"{self.end_seconds:g}"
        return f"{self.name}[{self.start_seconds or 0:g}:{end}]"

    @property
    def fingerprint(self) -> str:
        """What identifies the video beyond its name; "" for a file."""
        return ""

    def source(self) -> Path | bytes | BinaryIO:
        """What the video is read from: its file. Samples whose videos lie elsewhere say otherwise."""
        return self.path


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples and the label space that their labels index.

    labels: every class in the order of the classifier's outputs; all of a sample's labels are in it.
    warnings: what a person should know about this data and that is no error; `read_manifest` logs each of them.
    """

    source: Path
    samples: tuple[Sample, ...]
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether any sample has more than one label."""
        return any(len(s.labels) > 1 for s in self.samples)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in the order of their first samples."""
        return tuple(dict.fromkeys(s.split for s in self.samples))

    def split(self, name: str) -> Manifest:
        """Select the samples of one split; the label space stays. Raises DatasetError when there are none.

        Every spelling in SPLIT_NAMES is understood: "validation" selects "val".
        """
        samples = tuple(s for s in self.samples if s.split in (name, split_name(name)))
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
        """Give the same samples another label space. Raises DatasetError for a label that it does not have."""
        labels = tuple(labels)
        known = set(labels)
        if len(known) != len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise DatasetError(f"the label space has {twice!r} more than once")
        for sample in self.samples:
            for label in sample.labels:
                if label not in known:
                    raise DatasetError(f"{place(self.source, sample)}: {_unknown(label, labels)}")
        return dataclasses.replace(self, labels=labels)


def split_name(text: str) -> str:
    """The name that tenclip uses for a split: "Validation" -> "val", "1.0" -> "1". Other names stay as they are."""
    text = re.sub(r"^(\d+)\.0+$", r"\1", text.strip())
    return SPLIT_NAMES.get(text.lower(), text)


def unit(source: Path) -> str:
    """The unit of `Sample.line` in this file: "line" in text, "row" in Parquet and JSON."""
    return "row" if source.suffix.lower() in _ROW_SUFFIXES else "line"


def where(source: Path, line: int) -> str:
    """The place of a row for messages: `m.csv, line 3` or `m.parquet, row 3`; only the file where `line` is 0."""
    return f"{source}, {unit(source)} {line}" if line else f"{source}"


def place(source: Path, sample: Sample) -> str:
    """The place of a sample for messages, with its name: `m.csv, line 3 (a.mp4)`."""
    return f"{where(sample.file or source, sample.line)} ({sample.name})"


def picture_refusal(name: str) -> str:
    """What to tell who lists a picture where videos are read."""
    return (
        f"{name!r} is a picture; tenclip reads videos, so list the video files (training takes pictures where it is "
        "told how to make clips of them: --images)"
    )


def _unknown(label: str, labels: Sequence[str]) -> str:
    close = difflib.get_close_matches(label, labels, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    if label.isdigit() and not all(known.isdigit() for known in labels):
        hint = f"; for numbers, give the file of class names that they count ({labels[0]}, ...) as the labels"
    return f"label {label!r} is not one of the {len(labels)} known ones{hint}"
