"""The input and output types that all readers of manifests share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample
from tenclip_data.scan import IMAGE_SUFFIXES, VIDEO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """root: the folder that relative paths start from. label_column: the column that labels are wanted from;
    heads: several of them, a label from each.
    known_labels: the label space, empty where the data give it. need_labels: False where only the videos are wanted;
    then a list without labels is good, and of lists that come in pairs only the one that was named is read.
    every_column: whether columns beyond those that name the video are read from Parquet without labels, too.
    images: whether still images are samples, too; else they are refused.
    """

    root: Path
    label_column: str | None = None
    heads: tuple[str, ...] = ()
    known_labels: frozenset[str] = frozenset()
    need_labels: bool = True
    every_column: bool = False
    keep_missing: bool = False
    images: bool = False

    @property
    def suffixes(self) -> frozenset[str]:
        """Of the files in folders that are samples."""
        return VIDEO_SUFFIXES | IMAGE_SUFFIXES if self.images else VIDEO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The samples of one source. labels: the label space, where the source brings one.
    split_of_file: the split that all samples belong to, where the name of the file says so. fill_numbers: whether a
    label space of numbers begins at 0 and leaves none out, see `labels`.
    """

    samples: Sequence[Sample]
    labels: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()
    split_of_file: str = ""
    fill_numbers: bool = True


def refuse_column(source: Path, options: ReadOptions) -> None:
    """Raise DatasetError where a column is wanted of a format that has none."""
    if options.label_column is not None:
        raise DatasetError(
            f"{source}: no column {options.label_column!r}: its format has one label for each video and no others"
        )
