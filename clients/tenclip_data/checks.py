"""Checks on samples that hold for every format."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.leaks import FileFacts
from tenclip_data.samples import Missing, Sample, picture_refusal, place, unit


def check_samples(
    source: Path, samples: Sequence[Sample], facts: Mapping[Path, FileFacts], missing: Missing, *, images: bool = False
) -> None:
    """Raise DatasetError for the first sample without a label, with an impossible part, or that is listed twice; with
    missing="error" also for the first that is not there. images: still images are samples.
    """
    seen: dict[tuple[str, str, float | None, float | None], Sample] = {}
    for sample in samples:
        at = place(source, sample)
        if sample.is_image and not images:
            raise DatasetError(f"{at}: {picture_refusal(sample.name)}")
        if sample.is_image and (sample.start_seconds is not None or sample.end_seconds is not None):
            raise DatasetError(f"{at}: {sample.name!r} is a picture, which has no start and end")
        if not sample.labels:
            raise DatasetError(f"{at}: no label")
        start, end = sample.start_seconds, sample.end_seconds
        if start is not None and start < 0:
            raise DatasetError(f"{at}: start {start:g} s is negative")
        if end is not None and end <= (start or 0):
            raise DatasetError(f"{at}: end {end:g} s is not after start {start or 0:g} s")
        first = seen.setdefault((sample.split, sample.name, start, end), sample)
        if first is not sample:
            raise DatasetError(
                f"{at}: the same video is on {unit(source)} {first.line} already; a row holds all labels of a video, "
                "and start and end where it is a part of one"
            )
        if missing == "error" and "://" in sample.name:
            raise DatasetError(f"{at}: is a URI; videos are read from files here, so fetch it first and name the file")
        if missing == "error" and facts[sample.path].size is None:
            raise DatasetError(
                f"{at}: no such file {sample.path}; paths start from the manifest's folder unless another is given, "
                "and missing videos can be kept and counted instead"
            )
        if missing == "error" and os.path.isdir(sample.path):
            raise DatasetError(f"{at}: {sample.path} is a folder, not a video; lists of frame folders are not read")
    without = [s for s in samples if not s.split]
    if without and len(without) < len(samples):
        raise DatasetError(f"{place(source, without[0])}: no split, where other videos have one")
