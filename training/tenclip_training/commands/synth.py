"""`tenclip synth`: action videos from the command line."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tenclip_training.synth import SynthConfig


def synth(
    out: Annotated[Path, typer.Argument(help="Folder for videos/, manifest.csv and synth.json; made if need be.")],
    num_classes: Annotated[int, typer.Option(help="The first so many of the 16 motion classes.")] = 8,
    classes: Annotated[
        str | None, typer.Option(help="Names of classes instead, with commas between; `list` prints them all.")
    ] = None,
    videos_per_class: Annotated[int, typer.Option(help="Videos of the most frequent class, over all splits.")] = 120,
    splits: Annotated[
        str, typer.Option(help="Names and fractions, e.g. train=0.7,val=0.1,test=0.2.")
    ] = "train=0.8,test=0.2",
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "112x84",
    seconds: Annotated[
        str | None, typer.Option(help="Shortest-longest duration. (default: 1.5-3; 8-16 with --untrimmed)")
    ] = None,
    fps: Annotated[str, typer.Option(help="Frame rates to draw from, with commas between.")] = "30,25,15",
    vfr: Annotated[float, typer.Option(help="Fraction of videos with a variable frame rate.")] = 0.2,
    objects: Annotated[str, typer.Option(help="Fewest-most moving objects.")] = "1-3",
    clutter: Annotated[int, typer.Option(help="Most motionless things that look like objects.")] = 2,
    distractors: Annotated[int, typer.Option(help="Most things that wander aimlessly.")] = 0,
    camera_shake: Annotated[float, typer.Option(help="Amplitude, as a fraction of the short side.")] = 0.01,
    untrimmed: Annotated[
        bool, typer.Option("--untrimmed", help="The action fills only a part; start and end say which.")
    ] = False,
    action: Annotated[
        str, typer.Option(help="With --untrimmed: least-most part of the video that the action fills.")
    ] = "0.1-0.3",
    long_tail: Annotated[
        float, typer.Option(help="First class's training videos over the last one's; 1: balanced.")
    ] = 1.0,
    noisy_tags: Annotated[
        bool, typer.Option("--noisy-tags", help="Write hashtags with wrong and missing ones.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed and options make the same videos.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. (default: one a core)")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Make action videos: real files whose classes only motion tells apart.

    Every class has the same distribution of single frames, so a network must look at motion to tell them. The manifest
    also says each video's speed, number of objects, shape, texture and more, for probes on other labels.
    A run that was stopped goes on where it was when started again with the same options.

    \b
    Examples:
      tenclip synth videos
      tenclip synth videos --num-classes 16 --videos-per-class 200 --size 160x120
      tenclip synth weak --untrimmed --noisy-tags --long-tail 50
      tenclip synth some --classes move_left,move_right,shake
      tenclip synth videos --classes list
    """
    import time

    from tenclip_training.console import reporting
    from tenclip_training.synth import CLASSES, generate

    if classes == "list":
        typer.echo(json_module.dumps(CLASSES) if json else "\n".join(CLASSES))
        return
    config = _config(
        classes=tuple(classes.split(",")) if classes else (),
        num_classes=num_classes,
        videos_per_class=videos_per_class,
        splits=_splits(splits),
        size=_pair(size, "x", int, "--size", "112x84"),
        seconds=_pair(seconds or ("8-16" if untrimmed else "1.5-3"), "-", float, "--seconds", "1.5-3"),
        frame_rates=_numbers(fps, "--fps"),
        variable_frame_rate=vfr,
        objects=_pair(objects, "-", int, "--objects", "1-3"),
        clutter=clutter,
        distractors=distractors,
        camera_shake=camera_shake,
        untrimmed=_pair(action, "-", float, "--action", "0.1-0.3") if untrimmed else None,
        long_tail=long_tail,
        noisy_tags=noisy_tags,
        seed=seed,
    )
    began = time.perf_counter()
    with reporting() as reporter:
        manifest = generate(
            config, out, workers=workers, progress=lambda done, total: reporter.update("videos", done, total)
        )
    summary = summarise(manifest, time.perf_counter() - began)
    typer.echo(json_module.dumps(summary, indent=2) if json else _in_words(summary))


def summarise(manifest: Path, seconds: float) -> dict[str, Any]:
    """Counts of a manifest and of the `synth.json` beside it, as plain values."""
    import csv
    from collections import Counter

    with manifest.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    description = json_module.loads((manifest.parent / "synth.json").read_text(encoding="utf-8"))
    return {
        "manifest": str(manifest),
        "videos": len(rows),
        "frames": sum(int(row["frames"]) for row in rows),
        "video_seconds": round(sum(float(row["duration"]) for row in rows), 1),
        "bytes": sum((manifest.parent / row["path"]).stat().st_size for row in rows),
        "encoder": description["encoder"],
        "classes": dict(Counter(row["label"] for row in rows)),
        "splits": dict(Counter(row["split"] for row in rows)),
        "seconds": round(seconds, 2),
    }


def _in_words(summary: dict[str, Any]) -> str:
    counts = summary["classes"].values()
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}-{max(counts)}"
    encoder = {"libx264": "H.264"}.get(summary["encoder"], "MPEG-4 part 2: FFmpeg has no libx264 here")
    return (
        f"{summary['videos']} videos of {len(summary['classes'])} classes ({each} each; "
        f"{', '.join(f'{count} {name}' for name, count in summary['splits'].items())}), "
        f"{summary['frames']} frames, {summary['bytes'] / 1e6:.1f} MB ({encoder}) in {summary['seconds']:.1f} s\n"
        f"{summary['manifest']}"
    )


def _config(*, size: tuple[int, int], noisy_tags: bool, **options: Any) -> SynthConfig:
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.synth import NoisyTags, SynthConfig

    try:
        return SynthConfig(width=size[0], height=size[1], noisy_tags=NoisyTags() if noisy_tags else None, **options)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error


def _splits(text: str) -> tuple[tuple[str, float], ...]:
    return tuple(
        (name.strip(), _number(value, float, "--splits", "train=0.8,test=0.2"))
        for name, _, value in (part.partition("=") for part in text.split(","))
    )


def _numbers(text: str, option: str) -> tuple[float, ...]:
    return tuple(_number(part, float, option, "30,25,15") for part in text.split(","))


def _pair(text: str, separator: str, kind: type[Any], option: str, example: str) -> tuple[Any, Any]:
    """`1.5-3` -> (1.5, 3.0); a single number stands for both."""
    first, _, second = text.lower().partition(separator)
    return _number(first, kind, option, example), _number(second or first, kind, option, example)


def _number(text: str, kind: type[Any], option: str, example: str) -> Any:
    from tenclip_api.errors import InvalidRequest

    try:
        return kind(text)
    except ValueError as error:
        raise InvalidRequest(f"{option}: {text!r} is not a number; write it like {example}") from error
