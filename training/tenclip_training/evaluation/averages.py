"""Accuracies over the splits of a data set: HMDB-51 and UCF-101 report the mean over three.

The mean of a figure is that over splits, each with the same weight, whatever the number of its videos.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError

FIGURES = {"clip_top1": "per clip", "video_top1": "top-1", "video_top5": "top-5"}


@dataclass(frozen=True, kw_only=True)
class SplitFigures:
    """Of one evaluation: a figure's fraction by its name in `FIGURES`, and the videos that it is over."""

    source: str
    videos: int
    values: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SplitAverage:
    """splits: in the order in which they were given; mean, spread: of each figure; spread is the standard deviation
    over splits, None of one split."""

    splits: tuple[SplitFigures, ...]
    mean: dict[str, float]
    spread: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [{"source": s.source, "videos": s.videos, **s.values} for s in self.splits]
        return {"splits": rows, "mean": self.mean, "spread": self.spread}


def average_evaluations(paths: Sequence[Path | str]) -> SplitAverage:
    """From what `tenclip evaluate --out` or `--json` wrote: files, or folders with `evaluation.json`.

    Raises DatasetError for a file that is no evaluation, one that is given twice, evaluations of different classes or
    protocols, and two evaluations of the same videos.
    """
    read = [_read(Path(path)) for path in paths]
    _require_alike(read)
    splits = tuple(
        SplitFigures(
            source=str(file),
            videos=int(values["video_top1"]["total"]),
            values={name: float(values[name]["value"]) for name in FIGURES},
        )
        for file, values in read
    )
    columns = {name: [split.values[name] for split in splits] for name in FIGURES}
    return SplitAverage(
        splits=splits,
        mean={name: statistics.fmean(column) for name, column in columns.items()},
        spread={name: statistics.stdev(c) if len(c) > 1 else None for name, c in columns.items()},
    )


def _read(path: Path) -> tuple[Path, dict[str, Any]]:
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        for name in FIGURES:
            float(values[name]["value"]), int(values[name]["total"])
        values["protocol"], values["labels"], [row["video"] for row in values["videos"]]
    except OSError as err:
        raise DatasetError(f"{file}: cannot be read: {err.strerror or err}") from err
    except (ValueError, KeyError, TypeError) as err:
        raise DatasetError(f"{file}: is not what tenclip evaluate writes: {err!r}") from err
    return file, values


def _require_alike(read: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    first, values = read[0]
    seen: dict[tuple[str, ...], Path] = {}
    for file, other in read:
        for name in ("protocol", "labels"):
            if other[name] != values[name]:
                raise DatasetError(f"{file}: another {name.removesuffix('s')} than in {first}: no mean over both")
        videos = tuple(sorted(row["video"] for row in other["videos"]))
        if videos in seen:
            raise DatasetError(f"{file}: of the same videos as {seen[videos]}; give those of different splits")
        seen[videos] = file
