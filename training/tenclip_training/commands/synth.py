"""`tenclip synth`: action videos from the command line."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.options import usage_errors
from tenclip_training.commands.synth_options import ClassOptions, SceneOptions, WeakSupervisionOptions

if TYPE_CHECKING:
    from tenclip_training.synth import SynthConfig


@with_option_groups
def synth(
    *,
    out: Annotated[Path, typer.Argument(help="Folder for videos/, manifest.csv and synth.json; made if need be.")],
    classes: ClassOptions,
    scene: SceneOptions,
    supervision: WeakSupervisionOptions,
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

    if classes.classes == "list":
        typer.echo(json_module.dumps(CLASSES) if json else "\n".join(CLASSES))
        return
    config = _config(
        **classes.settings(), **scene.settings(untrimmed=supervision.untrimmed), **supervision.settings(), seed=seed
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


def _config(**settings: Any) -> SynthConfig:
    from tenclip_training.synth import SynthConfig

    with usage_errors():
        return SynthConfig(**settings)
