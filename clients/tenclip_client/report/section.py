"""The part of a page that is about one video: its answer, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from tenclip_api.errors import TenclipError
from tenclip_client._types import ClipInfo, ModelInfo, Prediction, VideoFeatures
from tenclip_client.report import facts
from tenclip_client.report.html import Markup, breakable, join, tag
from tenclip_client.report.over_time import ShownClip, figure, span_of, windows_table
from tenclip_client.report.scores import agreement, calibration_of, clips_table, final_scores
from tenclip_client.report.similarity import features_part
from tenclip_client.report.words import counted, percent, seconds

# Characters of a class name that still fit a tile in large letters.
_LONG = 16

Outcome = Prediction | VideoFeatures | TenclipError


@dataclass(frozen=True, kw_only=True)
class Section:
    """One video of a report. name: as its user calls it. verdict: its result in a few words, for lists of videos."""

    name: str
    verdict: str
    failed: bool
    body: Markup


def section(name: str, outcome: Outcome, model: ModelInfo | None = None) -> Section:
    """The section of a video. model: of the answer, for what the answer itself does not say; without, that is left out.

    All text is escaped: names, labels and whatever a server says.
    """
    if isinstance(outcome, TenclipError):
        words = f"{type(outcome).__name__}: {outcome.message.removeprefix(f'{name}: ')}"
        return Section(name=name, verdict=words, failed=True, body=tag("p", words, class_="banner bad"))
    known = model if model is not None and _is_of(model, outcome) else None
    if isinstance(outcome, Prediction):
        return _prediction(name, outcome, known)
    return _features(name, outcome, known)


def _is_of(model: ModelInfo, answer: Prediction | VideoFeatures) -> bool:
    return (model.name, model.version) == (answer.provenance.model, answer.provenance.version)


def _prediction(name: str, answer: Prediction, model: ModelInfo | None) -> Section:
    best = answer.top[0]
    shown = [ShownClip(clip=c.clip, label=c.top[0].label if c.top else "") for c in answer.clips]
    if not shown and answer.features is not None:
        shown = [ShownClip(clip=c.clip) for c in answer.features.clips]
    calibration = calibration_of(model.bundle) if model is not None else None
    calibrated = "" if best.calibrated is None else f"{percent(best.calibrated)} calibrated"
    tiles = [
        (
            "class",
            tag("span", breakable(best.label), class_="long" if len(best.label) > _LONG else None),
            f"{percent(best.score)}" + (f", {calibrated}" if calibrated else ""),
        ),
        *_tiles(answer, [c.clip for c in shown], agreement(answer.top, answer.clips)),
    ]
    body = join(
        _head(answer, tiles, shown),
        _over_time(name, answer, shown),
        tag("h3", "Classes of the video"),
        final_scores(answer.top, calibration, answer.provenance.protocol),
        join(tag("h3", "Classes of its clips"), clips_table(answer.clips, answer.timeline)) if answer.clips else None,
        join(tag("h3", "Features of its clips"), features_part(answer.features)) if answer.features else None,
        _end(answer, model),
    )
    return Section(name=name, verdict=f"{best.label} {percent(best.score)}", failed=False, body=body)


def _features(name: str, answer: VideoFeatures, model: ModelInfo | None) -> Section:
    shown = [ShownClip(clip=c.clip) for c in answer.features.clips]
    vectors = f"{counted(len(shown), 'clip')} x {answer.features.dim:,}"
    body = join(
        _head(answer, [("features", vectors, "a vector a clip"), *_tiles(answer, [c.clip for c in shown], "")], shown),
        _over_time(name, answer, shown),
        tag("h3", "Features of its clips"),
        features_part(answer.features),
        _end(answer, model),
    )
    return Section(name=name, verdict=vectors, failed=False, body=body)


def _tiles(
    answer: Prediction | VideoFeatures, clips: list[ClipInfo], of_clips: str
) -> list[tuple[str, Markup | str, str]]:
    adaptive, timeline = answer.adaptive, answer.timeline
    ran = f"{adaptive.clips_used} of {adaptive.clips_planned}" if adaptive is not None else f"{len(clips)}"
    planned = of_clips if adaptive is None else f"of the planned ones, adaptively{f'; {of_clips}' if of_clips else ''}"
    scorer = timeline.scorer if timeline is not None and timeline.points else "none"
    windows = counted(len(timeline.points), "window") if timeline is not None else "no timeline"
    total = sum(answer.provenance.timings.values())
    return [
        ("clips that ran", ran, planned or "all that were planned"),
        ("salience by", scorer, f"{windows}{', flat' if timeline is not None and timeline.flat else ''}"),
        ("on the server", seconds(total) if total else "from its cache", answer.provenance.runtime),
    ]


def _head(
    answer: Prediction | VideoFeatures, tiles: list[tuple[str, Markup | str, str]], shown: list[ShownClip]
) -> Markup:
    figures = (tag("div", tag("dt", name), tag("dd", value, tag("small", words))) for name, value, words in tiles)
    return join(
        tag("p", facts.video_facts(answer.video), class_="lead"),
        tag("dl", *figures, class_="figures"),
        tag("p", facts.adaptive_words(answer.adaptive), class_="banner") if answer.adaptive is not None else None,
        facts.notice_list(answer, [c.clip for c in shown]),
    )


def _over_time(name: str, answer: Prediction | VideoFeatures, shown: list[ShownClip]) -> Markup:
    span = span_of(answer.video.duration_seconds, answer.timeline)
    return join(
        tag("h3", "Over time"),
        figure(name, span, answer.thumbnails, answer.timeline, shown),
        windows_table(answer.timeline),
    )


def _end(answer: Prediction | VideoFeatures, model: ModelInfo | None) -> Markup:
    return join(tag("h3", "How this answer came about"), facts.details(answer, model))
