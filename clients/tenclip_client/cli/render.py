"""Predictions, models and extractions as rich tables.

Everything takes the console to print on, so that a test can read it back.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tenclip_api.errors import TenclipError
from tenclip_client._extraction import ExtractionReport
from tenclip_client._types import (
    ClassScore,
    ClipPrediction,
    ClipUpdate,
    Features,
    ModelChanges,
    ModelInfo,
    ModelList,
    Prediction,
    Timeline,
    TimelinePoint,
    VideoInfo,
)
from tenclip_client.cli.messages import one_line
from tenclip_client.cli.salience import adaptive_line, sampler_facts, sampler_word, timeline_notes
from tenclip_client.report.words import percent
from tenclip_data.wording import some_of
from tenclip_features.rows import VideoFailure

BAR_WIDTH = 24
# Left-aligned fractions of a cell, an eighth each, and their plain stand-ins.
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_ASCII_LEVELS = "_.-=+*#@"


def print_prediction(console: Console, name: str, prediction: Prediction) -> None:
    """One video: what the file is, its best classes with bars, and what else was asked for."""
    console.print(Text(name, style="bold"))
    console.print(Text(f"  {video_line(prediction.video)}", style="dim"))
    console.print(scores_table(prediction.top, console))
    if prediction.clips:
        console.print(clips_table(prediction.clips, console))
    if prediction.timeline is not None:
        print_timeline(console, prediction.timeline)
    if prediction.adaptive is not None:
        console.print(adaptive_line(prediction.adaptive))
    if prediction.features is not None:
        console.print(features_line(prediction.features))
    for warning in _warnings(prediction):
        console.print(Text(f"  note: {warning}", style="yellow"))
    console.print(_provenance_line(prediction))
    console.print()


def print_update(console: Console, name: str, update: ClipUpdate) -> None:
    """One line: which clip is done, what it shows, and what the video looks like so far."""
    clip, best, so_far = update.clip.clip, update.clip.top[0], update.top[0]
    line = Text(f"{name}  ", style="dim")
    line.append(f"{update.num_done}/{update.num_clips}  {clip.start_seconds:.2f} - {clip.end_seconds:.2f} s  ")
    line.append(f"{percent(best.score)} {best.label}", style="cyan")
    line.append(f"  so far {percent(so_far.score)} {so_far.label}")
    console.print(line)


def print_error(console: Console, name: str, error: TenclipError) -> None:
    """A video that could not be used, in the place where its prediction would stand."""
    console.print(Text(name, style="bold"))
    console.print(Text(f"  {type(error).__name__}: {one_line(error).removeprefix(f'{name}: ')}", style="red"))
    console.print()


def scores_table(top: Sequence[ClassScore], console: Console) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", width=4)
    table.add_column(max_width=48, overflow="ellipsis", no_wrap=True)
    table.add_column(width=BAR_WIDTH)
    table.add_column(justify="right")
    for rank, score in enumerate(top, start=1):
        style = "bold green" if rank == 1 else ""
        table.add_row(
            str(rank),
            Text(score.label, style=style),
            Text(bar(score.score, BAR_WIDTH, ascii_only=_ascii(console)), style="green" if rank == 1 else "cyan"),
            Text(percent(score.score), style=style),
            *([] if score.calibrated is None else [Text(f"calibrated {percent(score.calibrated)}", style="dim")]),
        )
    return table


def clips_table(clips: Sequence[ClipPrediction], console: Console) -> Table:
    """One row a clip: when, what, how sure, and the runner-up."""
    table = Table(box=None, padding=(0, 1), header_style="dim", pad_edge=False)
    table.add_column("  clip", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True, min_width=13)
    table.add_column("best", max_width=28, no_wrap=True)
    table.add_column("", width=BAR_WIDTH // 2)
    table.add_column("", justify="right", no_wrap=True, min_width=6)
    table.add_column("next", style="dim", max_width=28, no_wrap=True)
    for entry in clips:
        seconds = f"{entry.clip.start_seconds:.2f} - {entry.clip.end_seconds:.2f}"
        best, then = (*entry.top[:2], None, None)[:2]
        table.add_row(
            str(entry.clip.index),
            seconds,
            Text(best.label if best else ""),
            Text(bar(best.score if best else 0, BAR_WIDTH // 2, ascii_only=_ascii(console)), style="cyan"),
            percent(best.score) if best else "",
            Text(f"{percent(then.score)} {then.label}" if then else ""),
        )
    return table


def print_timeline(console: Console, timeline: Timeline) -> None:
    """The salience over time as a line of blocks; marks below the windows that were classified."""
    if not timeline.points:
        return
    width = max(10, min(console.width - 6, 100, 2 * len(timeline.points)))
    levels, marks = sparkline(timeline.points, width, ascii_only=_ascii(console))
    start, end = timeline.points[0].start_seconds, max(p.end_seconds for p in timeline.points)
    ends = f"{start:.1f} s", f"{end:.1f} s"
    console.print(Text(f"  salience by {timeline.scorer}", style="dim"))
    console.print(Text(f"  {levels}", style="magenta"))
    console.print(Text(f"  {marks}", style="green"))
    console.print(Text(f"  {ends[0]}{ends[1].rjust(width - len(ends[0]))}", style="dim"))
    for note in timeline_notes(timeline):
        console.print(Text(f"  note: {note}", style="yellow"))


def sparkline(points: Sequence[TimelinePoint], width: int, *, ascii_only: bool = False) -> tuple[str, str]:
    """(levels, marks), each `width` characters wide: equal columns of time, in each the highest score of its windows.

    A column is marked where a selected window reaches into it; one that no window reaches is blank.
    """
    start, end = points[0].start_seconds, max(p.end_seconds for p in points)
    seconds_per_column = max(end - start, 1e-9) / width
    scores: list[float | None] = [None] * width
    marks = [" "] * width
    for point in points:
        first = min(int((point.start_seconds - start) / seconds_per_column), width - 1)
        last = min(max(math.ceil((point.end_seconds - start) / seconds_per_column), first + 1), width)
        for column in range(first, last):
            known = scores[column]
            scores[column] = point.score if known is None else max(known, point.score)
            if point.selected:
                marks[column] = "^"
    return "".join(_levels(scores, _ASCII_LEVELS if ascii_only else _LEVELS)), "".join(marks)


def _levels(scores: Sequence[float | None], steps: str) -> Iterable[str]:
    known = [s for s in scores if s is not None and math.isfinite(s)]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    for score in scores:
        if score is None or not math.isfinite(score):
            yield " "
        else:
            share = (score - low) / (high - low) if high > low else 0.5
            yield steps[min(int(share * len(steps)), len(steps) - 1)]


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar for a share of 0 to 1, in steps of an eighth of a character; anything above 0 shows."""
    share = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
    if ascii_only:
        return "#" * max(round(share * width), int(share > 0))
    eighths = max(round(share * width * 8), int(share > 0))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def features_line(features: Features) -> Text:
    length = math.sqrt(sum(v * v for v in features.mean))
    first = ", ".join(f"{v:.3g}" for v in features.mean[:4])
    more = ", ..." if features.dim > 4 else ""
    return Text(f"  features: {len(features.clips)} x {features.dim}; mean [{first}{more}], length {length:.3g}")


def video_line(video: VideoInfo) -> str:
    """`320x240, 29.97 fps, 5.2 s, 156 frames, h264 in mp4`."""
    parts = [
        f"{video.width}x{video.height}",
        f"{video.frames_per_second:.4g} fps{' (variable)' if video.variable_frame_rate else ''}",
        f"{video.duration_seconds:.1f} s",
        f"{video.num_frames} frame{'' if video.num_frames == 1 else 's'}",
        f"{video.codec} in {video.container}",
    ]
    if video.rotation:
        parts.append(f"rotated by {video.rotation}")
    if video.mirrored:
        parts.append("mirrored")
    return ", ".join(parts)


def print_models(console: Console, models: ModelList) -> None:
    versions = Counter(m.name for m in models)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for column in ("model", "architecture"):
        table.add_column(column, no_wrap=True)
    for column in ("classes", "features"):
        table.add_column(column, justify="right", no_wrap=True)
    has_samplers = any(model.sampler is not None for model in models)
    for column in ("protocol", *(["sampler"] if has_samplers else []), "runtime", "state"):
        table.add_column(column, overflow="fold")
    for model in models:
        # Where there is one version only, that it is the default says nothing.
        mark = " (default)" if model.is_default_version and versions[model.name] > 1 else ""
        table.add_row(
            Text.assemble((model.ref, "bold"), (mark, "dim")),
            Text(model.architecture),
            str(model.num_classes or "none"),
            str(model.feature_dim),
            Text(model.default_protocol),
            *([Text(sampler_word(model.sampler))] if has_samplers else []),
            Text(model.runtime),
            Text(model.state, style="green" if model.state == "READY" else "yellow"),
        )
    if len(models):
        console.print(table)
    else:
        console.print("The server holds no models.")
    told = {m.ref for m in models if m.state != "READY"} | {m.name for m in models if m.state != "READY"}
    for failed in models.failed:
        if failed.ref in told:
            continue  # an older copy is served, and its state says why
        console.print(Text(f"not loaded: {failed.ref}: {failed.error}", style="red"))


def print_changes(console: Console, changes: ModelChanges, default: str | None = None) -> None:
    """The effect of `tenclip models --load`, `--unload`, `--reload` or `--default`, one line a model."""
    for ref in changes.loaded:
        console.print(Text(f"loaded {ref}", style="green"))
    for ref in changes.unloaded:
        console.print(Text(f"unloaded {ref}"))
    for failed in changes.failed:
        console.print(Text(f"not loaded: {failed.ref}: {failed.error}", style="red"))
    if default:
        what = default if ":" in default else f"{default}'s highest version"
        console.print(Text(f"the default is {what}"))
    elif not (changes.loaded or changes.unloaded or changes.failed):
        console.print("Nothing to change.")


def print_model(console: Console, model: ModelInfo) -> None:
    """One model, all that its server tells."""
    console.print(Text.assemble((model.ref, "bold"), " (default version)" if model.is_default_version else ""))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for what, value in _model_facts(model):
        table.add_row(f"  {what}", escape(value))
    console.print(table)


def _model_facts(model: ModelInfo) -> Iterable[tuple[str, str]]:
    yield "state", model.state
    yield "architecture", model.architecture
    yield "family", model.family
    yield "classes", _classes(model)
    yield "features", str(model.feature_dim)
    yield "runtime", f"{model.runtime}: {model.runtime_reason}" if model.runtime_reason else model.runtime
    yield "protocols", ", ".join(f"{p} (default)" if p == model.default_protocol else p for p in model.protocols)
    yield from sampler_facts(model.sampler)
    for key, value in model.clip_spec.items():
        yield f"clip {key}", _flat(value)
    for parity in model.bundle.get("parity", []):
        yield "parity", _flat(parity)
    for speed in model.bundle.get("speed", []):
        yield "speed", _flat(speed)
    for key, value in model.bundle.get("provenance", {}).items():
        yield f"from {key}", _flat(value)


def _classes(model: ModelInfo) -> str:
    if not model.num_classes:
        return "none: the model has no classifier and answers features only"
    unnamed = " (no published names; numbers stand for them)" if model.label_source == "index" else ""
    shown = ", ".join(model.labels[:8]) + (", ..." if len(model.labels) > 8 else "")
    return f"{model.num_classes}{unnamed}: {shown}" if shown else f"{model.num_classes}{unnamed}"


def print_extraction(console: Console, report: ExtractionReport) -> None:
    """The report of an extraction, with every video that failed."""
    if report.clips:
        reused = f", {report.reused} of them from an earlier run" if report.reused else ""
        console.print(
            Text(
                f"{report.out}: {report.clips} clips of {report.videos} videos{reused}; {report.model}:{report.version}"
            )
        )
    if report.changed:
        console.print(Text(f"extracted anew, because their files had changed: {some_of(report.changed)}"))
    if report.removed:
        console.print(Text(f"gone or not named any more; rows kept (--prune drops them): {some_of(report.removed)}"))
    if report.pruned:
        console.print(Text(f"gone or not named any more; rows dropped: {some_of(report.pruned)}"))
    if report.damaged:
        console.print(Text(f"frames damaged, or missing and stood in for by others, in: {some_of(report.damaged)}"))
    if report.failures:
        total = report.videos + len(report.failures)
        console.print(Text(f"{len(report.failures)} of {total} videos failed:", style="red"))
        console.print(failures_table(report.failures))
        console.print("The same command with --retry-failed tries them again.")


def failures_table(failures: Sequence[VideoFailure]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(style="red", no_wrap=True)
    table.add_column(overflow="fold")
    for failure in failures:
        message = failure.message.removeprefix(f"{failure.video}: ")
        table.add_row(Text(f"  {failure.video}"), failure.reason, Text(message))
    return table


def _provenance_line(prediction: Prediction) -> Text:
    origin = prediction.provenance
    looped = sum(c.clip.looped for c in prediction.clips)
    parts = [f"{origin.model}:{origin.version}", origin.protocol, origin.runtime]
    if looped:
        parts.append(f"{looped} of {len(prediction.clips)} clips looped")
    total = sum(origin.timings.values())
    if total:
        parts.append(f"{total:.2f} s on the server")
    return Text("  " + ", ".join(p for p in parts if p), style="dim")


def _warnings(prediction: Prediction) -> list[str]:
    report = prediction.report
    warnings = list(report.warnings)
    if report.frames_substituted and not warnings:
        warnings.append(
            f"{report.frames_substituted} of {report.frames_requested} frames could not be decoded; "
            "the nearest ones stand in"
        )
    return warnings


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _ascii(console: Console) -> bool:
    return bool(console.options.ascii_only)
