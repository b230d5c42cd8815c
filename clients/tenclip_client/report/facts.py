"""What a page says besides scores: what did not go as it should, how the answer came about, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator

from tenclip_client._types import (
    AdaptiveReport,
    ClipInfo,
    DecodeReport,
    ModelInfo,
    Prediction,
    Provenance,
    VideoFeatures,
    VideoInfo,
)
from tenclip_client.cli.render import video_line
from tenclip_client.report.html import Markup, tag
from tenclip_client.report.scores import meter
from tenclip_client.report.words import counted, percent, seconds

FLAT = (
    "The salience timeline is flat: all windows score the same, so it says nothing of where the action is. Clips that "
    "were to be chosen by it are spread evenly over the time."
)
NO_PICTURES = (
    "There are no pictures of this video: a server older than this client sends none, and neither does one that cannot "
    "decode the frames for them."
)
NO_TIMELINE = "The server sent no salience timeline of this video."


def notices(answer: Prediction | VideoFeatures, clips: list[ClipInfo]) -> Iterator[str]:
    """What a reader has to know about this answer."""
    timeline, report = answer.timeline, answer.report
    if timeline is None or not timeline.points:
        yield NO_TIMELINE
    else:
        if timeline.flat:
            yield FLAT
        yield from (f"Salience: {note}" for note in timeline.notes)
    yield from (f"Decoder: {warning}" for warning in report.warnings)
    if report.frames_substituted and not report.warnings:
        yield (
            f"Decoder: {report.frames_substituted:,} of {report.frames_requested:,} frames could not be decoded; the "
            "nearest ones stand in."
        )
    looped = sum(clip.looped for clip in clips)
    if looped:
        yield f"{looped} of {counted(len(clips), 'clip')} reached beyond the end of the video and began again there."
    if not answer.thumbnails:
        yield NO_PICTURES


def notice_list(answer: Prediction | VideoFeatures, clips: list[ClipInfo]) -> Markup | None:
    found = list(notices(answer, clips))
    return tag("ul", *(tag("li", notice) for notice in found), class_="notices") if found else None


def adaptive_words(report: AdaptiveReport) -> str:
    """How far an adaptive prediction went, and what that is worth."""
    used = f"{report.clips_used} of {counted(report.clips_planned, 'planned clip')} ran"
    if not report.settled:
        return f"{used}: the stopping rule, with an error bound of {percent(report.error_bound)}, let none of them out."
    return (
        f"{used}, then the stopping rule ended it. On videos like those of its calibration, the class differs from "
        f"that of all clips for at most {percent(report.error_bound)} of them, with confidence "
        f"{percent(report.confidence)}."
    )


def video_facts(video: VideoInfo) -> str:
    """What the file is, in a line."""
    return f"{video_line(video)}, {'with' if video.has_audio else 'without'} sound"


def details(answer: Prediction | VideoFeatures, model: ModelInfo | None) -> Markup:
    """Provenance, decoding and timings."""
    facts = tag("dl", *(_fact(*fact) for fact in _facts(answer.provenance, answer.report, model)), class_="facts-list")
    return tag("div", tag("div", facts, class_="card"), _timings(answer.provenance), class_="two")


def _fact(name: str, value: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value))


def _facts(provenance: Provenance, report: DecodeReport, model: ModelInfo | None) -> Iterator[tuple[str, str]]:
    yield "model", f"{provenance.model}:{provenance.version}"
    if model is not None:
        yield "architecture", f"{model.architecture} ({model.family})" if model.family else model.architecture
    yield "protocol", provenance.protocol
    reason = model.runtime_reason if model is not None and model.runtime == provenance.runtime else ""
    yield "runtime", f"{provenance.runtime}: {reason}" if reason else provenance.runtime
    yield "server", f"tenclip {provenance.server_version}" if provenance.server_version else "of an unknown version"
    yield "request", provenance.request_id or "without a number"
    yield "frames asked for", f"{report.frames_requested:,}"
    yield "frames decoded on the way", f"{report.frames_decoded:,}"
    yield "frames stood in for", f"{report.frames_substituted:,}"
    yield "frames damaged", f"{report.frames_corrupt:,}"


def _timings(provenance: Provenance) -> Markup:
    longest = max(provenance.timings.values(), default=0.0) or 1.0
    rows = (
        tag(
            "tr",
            tag("th", stage, scope="row"),
            tag("td", seconds(spent), class_="number"),
            tag("td", meter(spent / longest), class_="meters"),
        )
        for stage, spent in provenance.timings.items()
    )
    total = sum(provenance.timings.values())
    words = f"Where {seconds(total)} on the server went." if total else "The answer came from the server's cache."
    heads = (("stage", None), ("time", "number"), ("", None))
    return tag(
        "div",
        tag(
            "table",
            tag("caption", words),
            tag("thead", tag("tr", *(tag("th", head, scope="col", class_=kind) for head, kind in heads))),
            tag("tbody", *rows),
        ),
        class_="scroll",
    )
