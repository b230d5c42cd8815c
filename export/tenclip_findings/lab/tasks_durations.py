"""Sets of short and of long videos, as `tenclip curate subset --kind short|long|long-center` makes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Sample
from tenclip_findings.lab.tasks import MANIFEST, Found
from tenclip_training.curation.durations import find_durations
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.curation.subsets import Bands, Budget, Kind, duration_subset


def duration_set(
    folder: Path, manifest: str, kind: Kind, bands: Mapping[str, Any], seed: int, as_long_as: str | None = None
) -> Found:
    """A manifest of the short set, the long set, or the centres of the long ones; equally many videos of each class.

    manifest: of short and long videos together; where in them the action is, is forgotten, as nobody says so on the
    web. bands: fields of `Bands`, in seconds. as_long_as: manifest of another set; no more minutes than it has are
    kept. Raises DatasetError.
    """
    samples = [_whole(s) for s in read_manifest(Path(manifest), leaks="allow").samples]
    limits = Bands(short=tuple(bands["short"]), long=tuple(bands["long"]), center_seconds=bands["center_seconds"])
    budget = None if as_long_as is None else Budget(minutes=_total_seconds(Path(as_long_as)) / 60)
    kept = duration_subset(samples, kind, seed=seed, seconds=seconds_of(samples), bands=limits, budget=budget)
    write_manifest(folder / MANIFEST, kept)
    return {"videos": len(kept), "minutes": round(_total_seconds(folder / MANIFEST) / 60, 3)}


def seconds_of(samples: Sequence[Sample]) -> dict[str, float]:
    """By key. Raises DatasetError for a video whose duration cannot be found."""
    durations = find_durations(samples, workers=1)
    for key, error in durations.unknown.items():
        raise DatasetError(f"{key}: {error.message}")
    return durations.seconds


def _total_seconds(manifest: Path) -> float:
    return sum(seconds_of(read_manifest(manifest, leaks="allow").samples).values())


def _whole(sample: Sample) -> Sample:
    return dataclasses.replace(sample, start_seconds=None, end_seconds=None)
