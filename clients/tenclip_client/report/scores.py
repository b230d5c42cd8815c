"""Scores on a page: those of the video as bars, plain and calibrated, and the best classes of each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenclip_client._types import ClassScore, ClipInfo, ClipPrediction, Timeline
from tenclip_client.report.html import Markup, breakable, join, tag
from tenclip_client.report.words import counted, interval, number, percent

# Clips that are listed. A video of hours in windows has thousands; all of them are in the command's JSON.
MAX_CLIPS = 500
TOP_OF_CLIP = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Temperature scaling of a model's scores, as its bundle describes it. ece: expected calibration error."""

    temperature: float
    protocol: str
    num_videos: int
    ece_before: float
    ece_after: float


def calibration_of(bundle: Mapping[str, Any]) -> Calibration | None:
    """The calibration in a bundle.json; None where it has none, or none that this version understands."""
    values = bundle.get("calibration")
    if not isinstance(values, Mapping):
        return None
    try:
        return Calibration(
            temperature=float(values["temperature"]),
            protocol=str(values["protocol"]),
            num_videos=int(values["num_videos"]),
            ece_before=float(values["ece_before"]),
            ece_after=float(values["ece_after"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def final_scores(top: Sequence[ClassScore], calibration: Calibration | None, protocol: str) -> Markup:
    """The best classes of the video, as a table with bars."""
    calibrated = any(s.calibrated is not None for s in top)
    heads = [("class", None), ("score", "number"), ("calibrated", "number") if calibrated else None, ("", None)]
    rows = (
        tag(
            "tr",
            tag("th", breakable(s.label), scope="row"),
            tag("td", percent(s.score), class_="number"),
            tag("td", "-" if s.calibrated is None else percent(s.calibrated), class_="number") if calibrated else None,
            tag(
                "td",
                meter(s.score, "plain"),
                None if s.calibrated is None else meter(s.calibrated, "calibrated"),
                class_="meters",
            ),
        )
        for s in top
    )
    return tag(
        "div",
        tag(
            "table",
            tag("caption", _calibration_words(calibration, protocol, calibrated)),
            tag("thead", tag("tr", *(tag("th", head[0], scope="col", class_=head[1]) for head in heads if head))),
            tag("tbody", *rows),
            class_="scores",
        ),
        class_="scroll",
    )


def _calibration_words(calibration: Calibration | None, protocol: str, calibrated: bool) -> Markup:
    if calibration is None:
        said = "The bundle of this model holds no calibration of its scores."
        return join("Calibrated by the model's own temperature." if calibrated else said)
    error = (
        f"temperature {calibration.temperature:.3g}, fitted on {counted(calibration.num_videos, 'held-out video')}; "
        f"expected calibration error (ECE) {percent(calibration.ece_before)} before and "
        f"{percent(calibration.ece_after)} after, on videos that it was not fitted on"
    )
    if calibrated:
        return join(f"Upper bar: score. Lower bar: calibrated score ({error}).")
    if calibration.protocol == protocol:
        why = "as a whole: not for adaptive predictions, nor for clips that another sampler chose"
    else:
        why = f"and this answer came by {protocol}"
    return join(
        f"The model's calibration ({error}) holds for the protocol {calibration.protocol}, {why}; so there are no "
        "calibrated scores."
    )


def clips_table(clips: Sequence[ClipPrediction], timeline: Timeline | None) -> Markup | None:
    """When each clip is, how salient its window, and its three best classes."""
    if not clips:
        return None
    saliences = salience_of([c.clip for c in clips], timeline)
    has_salience = any(s is not None for s in saliences)
    places = ("best class", "second", "third")
    heads = [("clip", None), ("time", "number"), ("salience", "number") if has_salience else None]
    rows = (
        tag(
            "tr",
            tag("th", c.clip.index, scope="row"),
            time_cell(c.clip),
            tag("td", "-" if salience is None else number(salience), class_="number") if has_salience else None,
            *(_class_cell(c.top[i] if i < len(c.top) else None) for i in range(TOP_OF_CLIP)),
        )
        for c, salience in list(zip(clips, saliences, strict=True))[:MAX_CLIPS]
    )
    table = tag(
        "table",
        cut_off(len(clips)),
        tag(
            "thead",
            tag(
                "tr",
                *(tag("th", head[0], scope="col", class_=head[1]) for head in heads if head),
                *(tag("th", place, scope="col") for place in places),
            ),
        ),
        tag("tbody", *rows),
        class_="clips",
    )
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Clips and their best classes")


def cut_off(num_clips: int) -> Markup | None:
    """Says that clips are missing from a table, where they are."""
    if num_clips <= MAX_CLIPS:
        return None
    return tag("caption", f"The first {MAX_CLIPS} of {num_clips:,} clips; --json prints all of them.")


def time_cell(clip: ClipInfo) -> Markup:
    again = tag("small", " (began again at the video's end)") if clip.looped else None
    return tag("td", interval(clip.start_seconds, clip.end_seconds), again, class_="number")


def agreement(top: Sequence[ClassScore], clips: Sequence[ClipPrediction]) -> str:
    """How many clips say what the video says; nothing where no clip says anything."""
    best = [c.top[0].index for c in clips if c.top]
    if not best or not top:
        return ""
    same = sum(index == top[0].index for index in best)
    return f"best class of {same} of {counted(len(best), 'clip')}"


def salience_of(clips: Sequence[ClipInfo], timeline: Timeline | None) -> list[float | None]:
    """The salience of the window that each clip is; None for a clip that is no window."""
    if timeline is None:
        return [None] * len(clips)
    known = {(round(p.start_seconds, 6), round(p.end_seconds, 6)): p.score for p in timeline.points}
    return [known.get((round(c.start_seconds, 6), round(c.end_seconds, 6))) for c in clips]


def meter(share: float, class_: str = "") -> Markup:
    """A bar beside a figure that is written out in its row."""
    width = 100 * min(max(share, 0.0), 1.0) if share == share else 0.0
    return tag("span", class_=f"meter {class_}".strip(), style=f"width:{width:.1f}%", aria_hidden="true")


def _class_cell(score: ClassScore | None) -> Markup:
    if score is None:
        return tag("td")
    return tag("td", breakable(score.label), " ", tag("b", percent(score.score)), meter(score.score), class_="class")
