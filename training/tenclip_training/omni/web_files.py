"""Web data as rows of a manifest: with the labels that they were asked for by, their sources, and verdicts on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Sample
from tenclip_training.curation.manifests import read_labelled
from tenclip_training.curation.video_sets import SetVideo, read_set

SOURCE_COLUMN, TRUTH_COLUMN = "source", "true_label"


@dataclass(frozen=True, kw_only=True)
class WebFiles:
    """samples: the rows, each file (or part of one) once. sources: the source of each. notes: for a person."""

    samples: tuple[Sample, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def source_names(self) -> tuple[str, ...]:
        """Each once, in their order."""
        return tuple(dict.fromkeys(self.sources))

    @property
    def num_images(self) -> int:
        return sum(s.is_image for s in self.samples)

    def of_source(self, source: str) -> list[int]:
        """The places of its rows."""
        return [i for i, s in enumerate(self.sources) if s == source]


def read_web(
    source: Path,
    *,
    videos: Path | None = None,
    label_column: str | None = None,
    labelled: bool = True,
    source_column: str = SOURCE_COLUMN,
) -> WebFiles:
    """Images and videos of `source`; without `labelled` the labels that it may have are not looked at.

    The source of a row is what its column `source_column` says, else the name of the manifest. Raises DatasetError.
    """
    notes: tuple[str, ...]
    if labelled:
        manifest = read_labelled(source, videos=videos, label_column=label_column, missing="keep", images=True)
        samples, notes = manifest.samples, manifest.warnings
    else:
        found, said = read_set(source, videos=videos, images=True)
        samples, notes = tuple(_unlabelled(v) for v in found), tuple(said)
    if source_column != SOURCE_COLUMN and not any(_cell(s, source_column) for s in samples):
        why = "" if labelled else "; without labels the columns of a table are not read"
        raise DatasetError(f"{source}: no row names its source in a column {source_column}{why}")
    once = tuple({s.key: s for s in samples}.values())
    if len(once) < len(samples):
        notes = (
            *notes,
            f"{source}: {len(samples) - len(once)} rows name a file that another row names, and count once",
        )
    default = source.stem if source.is_file() else source.resolve().name
    sources = tuple(str(_cell(s, source_column) or default) for s in once)
    return WebFiles(samples=once, sources=sources, notes=notes)


def _unlabelled(video: SetVideo) -> Sample:
    return Sample(
        path=video.path,
        name=str(video.path),
        labels=(),
        start_seconds=video.start_seconds,
        end_seconds=video.end_seconds,
    )


def _cell(sample: Sample, column: str) -> Any:
    """A cell by the name of its column, whatever its case; None where it is empty or there is none."""
    found = next((v for name, v in sample.extra.items() if name.lower() == column.lower()), None)
    return None if found is None or not str(found).strip() else found


def true_label(sample: Sample) -> str | None:
    """What the row says that the file shows, where it knows."""
    found = _cell(sample, TRUTH_COLUMN)
    return None if found is None else str(found)


def as_video(sample: Sample) -> SetVideo:
    """The sample as stores know files; its key is its name there."""
    return SetVideo(
        name=sample.key, path=sample.path, start_seconds=sample.start_seconds, end_seconds=sample.end_seconds
    )


def judged(sample: Sample, label: str, **columns: Any) -> Sample:
    """The row with its pseudo-label and further columns; what it came with is the column query_label."""
    extra: Mapping[str, Any] = {
        **{k: v for k, v in sample.extra.items() if k not in columns},
        "query_label": ";".join(sample.labels) or None,
        **columns,
    }
    return dataclasses.replace(sample, labels=(label,), extra=extra)


def check_classes(source: Path, samples: Sequence[Sample], classes: Sequence[str], hint: str = "") -> None:
    """Raise DatasetError for labels that the teacher does not know, by their names. hint: what else would work."""
    known = set(classes)
    unknown = dict.fromkeys(label for s in samples for label in s.labels if label not in known)
    if unknown:
        shown = ", ".join(list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise DatasetError(
            f"{source}: the teacher does not know the labels {shown}; it knows {len(classes)}: "
            f"{', '.join(list(classes)[:5])}, ... {hint}".rstrip()
        )
