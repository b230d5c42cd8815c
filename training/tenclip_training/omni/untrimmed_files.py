"""Untrimmed videos of a manifest -> rows that a network of segments, or of clips, learns from.

A row of snippets is a video with the times of its positive and negative frames (columns positive_seconds and
negative_seconds): training draws from them anew at each visit. A row of clips is a piece [start, end) of a video. Both
have the column `kind`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.samples import Sample
from tenclip_training.curation.durations import find_durations
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, StoreFailure
from tenclip_training.data.segments import NEGATIVE_COLUMN, POSITIVE_COLUMN
from tenclip_training.omni.score_store import Decoding, FrameScores, score_files, score_frames
from tenclip_training.omni.teachers import Ensemble
from tenclip_training.omni.untrimmed import (
    NEGATIVES,
    PIECE_SECONDS,
    POSITIVES,
    THRESHOLD,
    Form,
    ScoreOf,
    Use,
    cut,
    inside,
    judge_frames,
    judge_piece,
    spans_of,
)
from tenclip_training.omni.web_files import WebFiles, as_video, check_classes, judged

NO_POSITIVE, TOO_SHORT, NOTHING_LEFT = "no positive frame", "too short", "nothing beside its annotated part"


@dataclass(frozen=True, kw_only=True)
class UntrimmedRules:
    """rate: frames a second, of snippets; piece_seconds: of clips; shortest_seconds: a piece that is shorter is left
    out. See `untrimmed`.
    """

    form: Form
    use: Use = "whole"
    score_of: ScoreOf = "own"
    threshold: float = THRESHOLD
    rate: float = 1.0
    piece_seconds: float = PIECE_SECONDS
    shortest_seconds: float = 0.0


@dataclass(kw_only=True)
class UntrimmedReport:
    """rows: for a manifest. pieces: that were looked at, frames or clips; positive: of them. skipped: videos (snippets)
    or pieces (clips) of which nothing is used, by reason. filled: videos with fewer than two negative frames, in whose
    samples positive ones take their place.
    """

    form: Form
    teacher: str
    videos: int
    rows: list[Sample] = field(default_factory=list)
    pieces: int = 0
    positive: int = 0
    filled: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    failures: list[StoreFailure] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "form": self.form,
            "teacher": self.teacher,
            "videos": self.videos,
            "rows": len(self.rows),
            "looked_at": self.pieces,
            "positive": self.positive,
            "filled_with_positives": self.filled,
            "skipped": dict(self.skipped),
            "classes": dict(self.classes),
            "failures": [dataclasses.asdict(f) for f in self.failures],
        }


def use_untrimmed(
    ensemble: Ensemble,
    web: WebFiles,
    folder: Path,
    decoding: Decoding,
    rules: UntrimmedRules,
    progress: Progress | None = None,
) -> UntrimmedReport:
    """Score the videos and choose from them.

    Raises DatasetError where nothing can be read or nothing is left, and for labels that the teacher does not know;
    InvalidRequest for images, and for snippets by a teacher of clips; ModelError for scores that are no numbers.
    """
    if web.num_images:
        raise InvalidRequest(f"{web.num_images} of the files are images, which have no length; `tenclip omni filter`")
    if rules.form == "snippets" and not ensemble.of_frames:
        raise InvalidRequest(
            f"snippets are single frames, and {ensemble.name} looks over time: name a network of frames, or use clips"
        )
    if rules.score_of == "own":
        check_classes(
            Path("the videos"), web.samples, ensemble.labels, "With --unlabelled the labels of the videos are not used"
        )
    choose = _snippets if rules.form == "snippets" else _clips
    report = choose(ensemble, web, folder, decoding, rules, progress)
    if not report.rows:
        why = ", ".join(f"{count} {reason}" for reason, count in report.skipped.most_common())
        first = f"; the first that cannot be read: {report.failures[0].message}" if report.failures else ""
        raise DatasetError(f"nothing is left of {report.videos} videos ({why or 'none can be read'}){first}")
    return report


def _snippets(
    ensemble: Ensemble,
    web: WebFiles,
    folder: Path,
    decoding: Decoding,
    rules: UntrimmedRules,
    progress: Progress | None,
) -> UntrimmedReport:
    videos = [_whole(s) for s in web.samples]
    scores, failures = score_frames(ensemble, videos, folder, decoding, rate=rules.rate, progress=progress)
    report = UntrimmedReport(
        form="snippets", teacher=ensemble.name, videos=len(web.samples), failures=_each_once(failures)
    )
    for sample, video, source in zip(web.samples, videos, web.sources, strict=True):
        if video.name in scores:
            _add_snippets(report, ensemble, sample, source, scores[video.name], rules)
    return report


def _add_snippets(
    report: UntrimmedReport,
    ensemble: Ensemble,
    sample: Sample,
    source: str,
    found: FrameScores,
    rules: UntrimmedRules,
) -> None:
    spans = spans_of(found.duration, sample.start_seconds, sample.end_seconds, rules.use)
    used = np.flatnonzero(inside(found.seconds, spans))
    report.pieces += len(used)
    if len(used) < POSITIVES + NEGATIVES:
        report.skipped[NOTHING_LEFT if not spans else TOO_SHORT] += 1
        return
    own = [ensemble.labels.index(label) for label in sample.labels] if rules.score_of == "own" else []
    verdict = judge_frames(found.scores[used], own, of=rules.score_of, threshold=rules.threshold)
    report.positive += len(verdict.positive)
    if not len(verdict.positive):
        report.skipped[NO_POSITIVE] += 1
        return
    report.filled += len(verdict.negative) < NEGATIVES
    label = ensemble.labels[verdict.label]
    row = judged(
        dataclasses.replace(sample, start_seconds=None, end_seconds=None),
        label,
        kind="snippets",
        confidence=round(verdict.confidence, 6),
        source=source,
        teacher=ensemble.name,
        **{
            POSITIVE_COLUMN: _times(found.seconds[used[verdict.positive]]),
            NEGATIVE_COLUMN: _times(found.seconds[used[verdict.negative]]),
        },
    )
    report.rows.append(row)
    report.classes[label] += 1


def _times(seconds: NDArray[np.float64]) -> str:
    # A frame is found from 1 us before it is shown; milliseconds would name the one before it.
    return ";".join(f"{s:.6f}" for s in seconds)


def _clips(
    ensemble: Ensemble,
    web: WebFiles,
    folder: Path,
    decoding: Decoding,
    rules: UntrimmedRules,
    progress: Progress | None,
) -> UntrimmedReport:
    report = UntrimmedReport(form="clips", teacher=ensemble.name, videos=len(web.samples))
    whole = {s.path: dataclasses.replace(s, start_seconds=None, end_seconds=None, extra={}) for s in web.samples}
    durations = find_durations(list(whole.values()), workers=decoding.workers, timeout_seconds=decoding.timeout_seconds)
    report.failures += [
        StoreFailure(video=key, reason=error.reason, message=error.message) for key, error in durations.unknown.items()
    ]
    pieces: list[tuple[Sample, str, SetVideo]] = []
    for sample, source in zip(web.samples, web.sources, strict=True):
        duration = durations.seconds.get(whole[sample.path].key)
        if duration is None:
            continue
        spans = spans_of(duration, sample.start_seconds, sample.end_seconds, rules.use)
        if not spans:
            report.skipped[NOTHING_LEFT] += 1
        for start, end in cut(spans, rules.piece_seconds):
            if end - start < rules.shortest_seconds - 1e-6:
                report.skipped[TOO_SHORT] += 1
                continue
            part = dataclasses.replace(sample, start_seconds=round(start, 3), end_seconds=round(end, 3))
            pieces.append((part, source, as_video(part)))
    if not pieces:
        return report
    scores, failures = score_files(ensemble, [video for *_, video in pieces], folder, decoding, progress)
    report.failures += _each_once(failures)
    for part, source, video in pieces:
        if video.name in scores:
            _add_clip(report, ensemble, part, source, scores[video.name], rules)
    return report


def _add_clip(
    report: UntrimmedReport,
    ensemble: Ensemble,
    part: Sample,
    source: str,
    scores: NDArray[np.float32],
    rules: UntrimmedRules,
) -> None:
    report.pieces += 1
    own = [ensemble.labels.index(label) for label in part.labels] if rules.score_of == "own" else []
    number, confidence = judge_piece(scores, own, of=rules.score_of)
    if confidence < rules.threshold:
        report.skipped["low confidence"] += 1
        return
    report.positive += 1
    label = ensemble.labels[number]
    report.rows.append(
        judged(part, label, kind="clip", confidence=round(confidence, 6), source=source, teacher=ensemble.name)
    )
    report.classes[label] += 1


def _whole(sample: Sample) -> SetVideo:
    return SetVideo(name=sample.name, path=sample.path)


def _each_once(failures: Sequence[StoreFailure]) -> list[StoreFailure]:
    return list({f.video: f for f in failures}.values())
