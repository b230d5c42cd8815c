"""The filter over files: scores from the store, a verdict on each row, manifests of what is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import write_text
from tenclip_data.samples import Sample
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.curation.video_store import Progress, StoreFailure
from tenclip_training.omni.score_store import Decoding, score_files
from tenclip_training.omni.teacher_filter import (
    Calibration,
    PseudoLabel,
    SourceResult,
    SourceVerdicts,
    ThresholdRule,
    Truth,
    filter_source,
    total_truth,
)
from tenclip_training.omni.teachers import Ensemble, refuse_images
from tenclip_training.omni.web_files import WebFiles, as_video, check_classes, judged, true_label


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A row with its verdict; its label is the pseudo-label, and its further columns are those of the manifest."""

    sample: Sample
    source: str
    kept: bool
    confidence: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class FilterReport:
    """rows: those that were scored, in the order of the manifest. failures: files that could not be read. classes: of
    the teacher. dropped: sources of which nothing is left; uncovered: classes of which nothing is kept.
    """

    teacher: str
    pseudo_label: PseudoLabel
    classes: tuple[str, ...]
    sources: tuple[SourceResult, ...]
    rows: tuple[Judged, ...]
    failures: tuple[StoreFailure, ...]

    @property
    def kept(self) -> list[Sample]:
        """The rows that a student learns from."""
        return [row.sample for row in self.rows if row.kept]

    @property
    def dropped(self) -> tuple[str, ...]:
        return tuple(s.source for s in self.sources if not s.kept)

    @property
    def uncovered(self) -> tuple[str, ...]:
        with_files = {label for s in self.sources for label in s.after}
        return tuple(label for label in self.classes if label not in with_files)

    @property
    def truth(self) -> Truth | None:
        return total_truth(self.sources)


def calibrate(
    ensemble: Ensemble,
    samples: Sequence[Sample],
    folder: Path,
    decoding: Decoding,
    progress: Progress | None = None,
) -> Calibration:
    """How right the teacher is on labelled data of the target that it has not learned from.

    Raises DatasetError where nothing of it can be read, or its labels are not the teacher's.
    """
    check_classes(Path(samples[0].file or "the held-out data"), samples, ensemble.labels)
    scores, failures = score_files(ensemble, [as_video(s) for s in samples], folder, decoding, progress)
    rows = [(scores[s.key], s.labels) for s in samples if s.key in scores]
    if not rows:
        raise DatasetError(f"none of the {len(samples)} held-out videos can be read: {failures[0].message}")
    best = [int(row.argmax()) for row, _ in rows]
    right = [ensemble.labels[b] in labels for b, (_, labels) in zip(best, rows, strict=True)]
    confidences = np.array([row[b] for b, (row, _) in zip(best, rows, strict=True)], np.float32)
    return Calibration(confidences=confidences, right=np.array(right, np.bool_))


def filter_files(
    ensemble: Ensemble,
    web: WebFiles,
    folder: Path,
    decoding: Decoding,
    *,
    pseudo_label: PseudoLabel,
    rule: ThresholdRule,
    calibration: Calibration | None = None,
    progress: Progress | None = None,
) -> FilterReport:
    """Score every file and decide about each source by itself.

    Raises DatasetError where nothing can be read, or no source has survivors; InvalidRequest for a threshold of a
    source that does not exist, and for images with a 3D teacher; ModelError for scores that are no numbers.
    """
    refuse_images(ensemble, web.num_images)
    scores, failures = score_files(ensemble, [as_video(s) for s in web.samples], folder, decoding, progress)
    if not scores:
        raise DatasetError(f"none of the {len(web.samples)} files can be read; the first: {failures[0].message}")
    by_place: dict[int, Judged] = {}
    results = []
    for source in web.source_names:
        places = web.of_source(source)
        read = [i for i in places if web.samples[i].key in scores]
        table = _matrix([scores[web.samples[i].key] for i in read], len(ensemble.labels))
        samples = [web.samples[i] for i in read]
        found = filter_source(
            source,
            table,
            [s.labels for s in samples],
            [true_label(s) for s in samples],
            ensemble.labels,
            pseudo_label=pseudo_label,
            rule=rule,
            calibration=calibration,
            failed=len(places) - len(read),
        )
        results.append(found.result)
        by_place.update(zip(read, _rows(samples, source, found, ensemble), strict=True))
    return FilterReport(
        teacher=ensemble.name,
        pseudo_label=pseudo_label,
        classes=ensemble.labels,
        sources=tuple(results),
        rows=tuple(by_place[i] for i in sorted(by_place)),
        failures=tuple(failures),
    )


def _rows(samples: Sequence[Sample], source: str, found: SourceVerdicts, ensemble: Ensemble) -> list[Judged]:
    rows = []
    for i, sample in enumerate(samples):
        confidence = round(float(found.candidates.confidences[i]), 6)
        kept, reason = bool(found.kept[i]), found.reasons[i]
        row = judged(
            sample,
            ensemble.labels[int(found.candidates.labels[i])],
            teacher_label=ensemble.labels[int(found.candidates.teacher[i])],
            confidence=confidence,
            kept=kept,
            reason=reason,
            source=source,
            teacher=ensemble.name,
        )
        rows.append(Judged(sample=row, source=source, kept=kept, confidence=confidence, reason=reason))
    return rows


def write_results(report: FilterReport, out: Path, folder: Path) -> None:
    """Write the kept rows to the manifest `out`, all of them to folder/scored.parquet, and files that could not be read
    to folder/failures.jsonl. Raises DatasetError, and writes nothing, where nothing is kept.
    """
    if not report.kept:
        top = max((row.confidence for row in report.rows), default=0.0)
        raise DatasetError(
            f"nothing is kept of {len(report.rows)} files: the highest confidence is {top:.3f}; lower the threshold, "
            "or find data that show the teacher's classes"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in report.failures)
    write_text(folder / "failures.jsonl", lines)
    write_manifest(folder / "scored.parquet", [row.sample for row in report.rows])
    write_manifest(out, report.kept)


def _matrix(rows: Sequence[NDArray[np.float32]], classes: int) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.zeros((0, classes), np.float32)
