"""The seconds of every video: what a manifest says, else what the file holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import TenclipError
from tenclip_data.cells import to_seconds
from tenclip_data.samples import Sample
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS, for_each

DURATION_COLUMNS = ("duration_seconds", "duration", "seconds", "length_seconds", "video_duration")


@dataclass(frozen=True)
class Durations:
    """seconds: by `Sample.key`. unknown: the error of each video whose file had to be looked at and cannot be read."""

    seconds: dict[str, float]
    unknown: dict[str, TenclipError]


def find_durations(
    samples: Sequence[Sample],
    *,
    workers: int,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    progress: Callable[[int, int], None] | None = None,
) -> Durations:
    """The duration of each sample: of its part where it has start and end; else what one of DURATION_COLUMNS says;
    else what the file holds, which counts its packets.
    """
    seconds: dict[str, float] = {}
    files: dict[Path, list[Sample]] = {}
    for sample in samples:
        stated = _stated(sample)
        if stated is None:
            files.setdefault(sample.path, []).append(sample)
        else:
            seconds[sample.key] = stated
    unknown: dict[str, TenclipError] = {}
    outcomes = for_each(seconds_in_file, files, workers=workers, timeout_seconds=timeout_seconds)
    for done, outcome in enumerate(outcomes, start=1):
        for sample in files[outcome.item]:
            if outcome.error is not None:
                unknown[sample.key] = outcome.error
            elif outcome.value is not None:
                seconds[sample.key] = max(outcome.value - (sample.start_seconds or 0.0), 0.0)
        if progress:
            progress(done, len(files))
    return Durations(seconds, unknown)


def seconds_in_file(path: Path) -> float:
    """The duration that a video's packets add up to. Raises VideoError."""
    from tenclip_video.video import probe

    return probe(path).duration_seconds


def _stated(sample: Sample) -> float | None:
    if sample.end_seconds is not None:
        return sample.end_seconds - (sample.start_seconds or 0.0)
    for column, value in sample.extra.items():
        if column.lower() in DURATION_COLUMNS and (found := _number(value)) is not None:
            return max(found - (sample.start_seconds or 0.0), 0.0)
    return None


def _number(value: Any) -> float | None:
    """Seconds in a cell; None for what is no positive number: such a video is looked at."""
    try:
        found = to_seconds(value)
    except (TypeError, ValueError, TenclipError):
        return None
    return found if found is not None and math.isfinite(found) and found > 0 else None
