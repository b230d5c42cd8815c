"""What salience and adaptive prediction came to, in words for people."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from tenclip_client._types import AdaptiveReport, SamplerInfo, StoppingRule, Timeline


def timeline_notes(timeline: Timeline) -> list[str]:
    """What a reader of the timeline should know: that it is flat, and the notes of its scorer."""
    flat = "all windows score the same, so the scores say nothing of where the action is"
    return [*([flat] if timeline.flat and len(timeline.points) > 1 else []), *timeline.notes]


def adaptive_line(report: AdaptiveReport) -> Text:
    """`used 3 of 10 clips: settled ...`, with what the stopping rule promises."""
    line = Text(f"  used {report.clips_used} of {report.clips_planned} clips", style="bold")
    if not report.settled:
        line.append(
            f": the classes were not settled before the last one, with an error bound of {report.error_bound:.3g}",
            style="not bold dim",
        )
        return line
    promise = (
        f": settled; on videos like those of the calibration, another class than with all clips in at most "
        f"{report.error_bound:.1%} of them (confidence {report.confidence:.1%})"
    )
    line.append(promise, style="not bold dim")
    return line


def sampler_word(sampler: SamplerInfo | None) -> str:
    """For a column of a table: `compressed, adaptive`."""
    if sampler is None:
        return "none"
    return f"{sampler.kind}, adaptive" if sampler.rules else sampler.kind


def sampler_facts(sampler: SamplerInfo | None) -> Iterable[tuple[str, str]]:
    """(what, value) for each thing that is known of a model's sampler."""
    if sampler is None:
        yield "sampler", "none: salient clips are found by motion energy"
        return
    rate = "" if sampler.target_fps is None else f" at {sampler.target_fps:g} frames a second"
    sound = f", {sampler.audio_clips} of the clips chosen by sound" if sampler.audio_clips else ""
    teacher = f", learned from {sampler.teacher}" if sampler.teacher else ""
    yield "sampler", f"{sampler.name}: {sampler.kind}, loss {sampler.loss}{teacher}{sound}"
    yield "sampler windows", f"{sampler.clip_span} frames, {sampler.window_step} apart{rate}"
    if not sampler.rules:
        yield "adaptive", "no: its bundle holds no stopping rule"
    for rule in sampler.rules:
        is_default = rule is sampler.stopping and len(sampler.rules) > 1
        yield f"error bound {rule.error_bound:g}{' (default)' if is_default else ''}", _rule(rule)


def _rule(rule: StoppingRule) -> str:
    return (
        f"adaptive stops at a lead of {rule.threshold:.3g} after {rule.min_clips} to {rule.max_clips} clips, "
        f"{rule.mean_clips:.3g} on average; another class than with all of them in at most {rule.error_bound:.1%} of "
        f"videos (confidence {rule.confidence:.1%}, {rule.num_videos} videos)"
    )
