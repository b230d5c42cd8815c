"""`tenclip omni fit-motion`: the camera motion of real videos, for warping images into clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.curate.options import DecodingOptions
from tenclip_training.commands.curate.subset_options import LabelledOptions
from tenclip_training.commands.options import Json, print_json, usage_errors

if TYPE_CHECKING:
    from tenclip_data.samples import Manifest, Sample
    from tenclip_training.omni.fit_motion import FitResult


@with_option_groups
def fit_motion(
    *,
    manifest: Annotated[Path, typer.Argument(help="Videos, as tenclip train reads them; labels for --per-class.")],
    out: Annotated[Path, typer.Option(help="The motion file to write, JSON.")],
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also fit every class that has enough homographies.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Split to fit on; all: every video.", show_default="train, if there are splits"),
    ] = None,
    stride: Annotated[int, typer.Option(min=1, help="Frames from one to the next, as in the clips to train on.")] = 1,
    fps: Annotated[
        float | None, typer.Option(help="Count frames at this rate.", show_default="the video's own")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of frames of each video.")] = 8,
    features: Annotated[
        Literal["lk", "orb"], typer.Option(help="Corners that are followed, or ORB descriptors that are matched.")
    ] = "lk",
    on_failure: Annotated[
        Literal["drop", "identity"],
        typer.Option(help="A pair without a homography: left out, or a camera that stands still."),
    ] = "drop",
    frames: Annotated[int, typer.Option(min=1, help="Frames of the clips that redrawn steps are reported for.")] = 16,
    labelled: LabelledOptions,
    decoding: DecodingOptions,
    json: Json = False,
) -> None:
    """Fit the camera motion of real videos, for `tenclip train --images warp`.

    Homographies between consecutive sampled frames are estimated from matched
    corners and RANSAC, in coordinates of [-1, 1]; their mean and covariance are
    the maximum likelihood fit of a Gaussian over their 8 entries (OmniSource,
    section 3.5). Fits with few inliers, an area outside 0.5 to 2 or a corner
    that moves by more than a quarter of the frame are left out and counted.
    Give the stride of the clips that are trained on. Labels are needed for
    --per-class alone: without it a folder counts at any depth.

    \b
    Examples:
      tenclip omni fit-motion train.csv --out motion.json
      tenclip omni fit-motion train.csv --out motion.json --stride 16 --per-class
      tenclip omni fit-motion videos/ --out motion.json --fps 15 --json
    """
    from tenclip_training.console import reporting
    from tenclip_training.omni.fit_motion import FitRules
    from tenclip_training.omni.fit_motion import fit_motion as fit
    from tenclip_training.omni.motion import write_motion
    from tenclip_training.omni.pseudo_clips import walk_shares

    with usage_errors():
        rules = FitRules(frame_stride=stride, target_fps=fps, pairs=pairs, features=features, on_failure=on_failure)
    samples = _samples(labelled.read(manifest) if per_class else labelled.read_plain(manifest), split)
    with reporting() as reporter:
        result = fit(
            samples,
            rules,
            per_class=per_class,
            workers=decoding.num_workers(),
            timeout_seconds=decoding.timeout,
            progress=lambda done, total: reporter.update("homographies", done, total, "videos"),
        )
    shares = walk_shares(result.motion.overall, frames)
    facts = {**result.to_dict(), "clips": {"frames": frames, "redrawn": shares.rejected, "held": shares.held}}
    out.parent.mkdir(parents=True, exist_ok=True)
    ledger = _write_failures(out, result)
    write_motion(out, result.motion, facts)
    summary = {"motion": str(out), **facts, "failures": None if ledger is None else str(ledger)}
    if json:
        print_json(summary)
    else:
        _print_fit(summary)


def _samples(manifest: Manifest, split: str | None) -> list[Sample]:
    """Raises DatasetError for a split that is not there."""
    name = split or ("train" if "train" in manifest.splits else "all")
    return list(manifest.samples if name == "all" else manifest.split(name).samples)


def _write_failures(out: Path, result: FitResult) -> Path | None:
    """A line for each video that could not be read, beside the motion file; one of an earlier run is removed."""
    import json
    from dataclasses import asdict

    from tenclip_data.atomic import write_text

    ledger = out.with_name(f"{out.name}.failures.jsonl")
    if not result.failures:
        ledger.unlink(missing_ok=True)
        return None
    write_text(ledger, "".join(json.dumps(asdict(f)) + "\n" for f in result.failures))
    return ledger


def _print_fit(summary: dict[str, Any]) -> None:
    clips = summary["clips"]
    typer.echo(
        f"{summary['homographies']} homographies of {summary['pairs']} pairs of frames, "
        f"{summary['videos'] - summary['videos_failed']} of {summary['videos']} videos"
    )
    for reason, count in summary["rejected"].items():
        typer.echo(f"  without one, {reason}: {count}")
    if summary["classes"]:
        typer.echo(f"classes with a Gaussian of their own: {len(summary['classes'])}")
    if summary["classes_too_small"]:
        typer.echo(f"classes with too few, for which that of all stands in: {len(summary['classes_too_small'])}")
    typer.echo(
        f"in clips of {clips['frames']} frames {clips['redrawn']:.1%} of the draws fold or leave the image and are "
        f"drawn again; in {clips['held']:.1%} of the frames the camera stands still for it"
    )
    if summary["failures"]:
        typer.echo(f"{summary['videos_failed']} videos could not be read: {summary['failures']}")
    typer.echo(summary["motion"])
