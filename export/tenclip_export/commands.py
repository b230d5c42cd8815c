"""`tenclip export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tenclip_export.parity import Row
    from tenclip_export.targets import Written
    from tenclip_video.bundle import Bundle
    from tenclip_video.spec import ClipSpec

# File names that say nothing about the model: the folder's name is better.
GENERIC_STEMS = frozenset({"best", "last", "final", "latest", "checkpoint", "model", "weights"})


class TargetOption(StrEnum):
    bundle = "bundle"
    torchserve = "torchserve"
    triton = "triton"


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of `tenclip train`, or a public one.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of bundles to write into: OUT/NAME/VERSION.")] = Path("models"),
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="from the checkpoint's path")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Its version.", show_default="the next free integer")] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="Of a public checkpoint, where its weights do not show on what input it was trained; "
            "`tenclip models --catalog` lists them.",
            show_default="as its tensors say",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Text file, one class name a line.", show_default="the checkpoint's own, or numbers"),
    ] = None,
    video: Annotated[
        list[Path] | None, typer.Option(help="A video whose clips to check parity on too. Repeatable.")
    ] = None,
    variant: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Precisions, with commas: fp32, fp16, bf16, int8. One that drifts beyond its bound is left out.",
        ),
    ] = "fp32",
    format: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="With commas: onnx, torch (programs for --runtime torch), tensorrt (engines for the GPU of this "
            "machine).",
        ),
    ] = "onnx",
    calibration: Annotated[
        list[Path] | None,
        typer.Option(help="A video, or a folder of videos, to calibrate int8 on. Repeatable.", show_default=False),
    ] = None,
    target: Annotated[
        list[TargetOption] | None,
        typer.Option(
            help="Also write, into OUT, what another server reads: an archive NAME-VERSION.mar for TorchServe, or "
            "NAME/config.pbtxt for Triton. Repeatable.",
            show_default="bundle",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the version if it exists.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Also time each runtime on this machine.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Turn a checkpoint into a bundle that `tenclip serve` serves.

    Public checkpoints (torchvision, VMZ, ig65m, 3D-ResNets, MMAction2, pytorchvideo, I3D and others) are recognised by
    their tensors and get the input and the test protocol of their authors.

    Every installed runtime is checked against torch on golden clips. A runtime that differs by more than rounding ends
    the export, with the table of differences, and nothing is written.

    \b
    Examples:
      tenclip export runs/moves/best.pt
      tenclip export runs/moves/best.pt --out models --name moves --measure
      tenclip export best.pt --labels labels.txt --video sample.mp4 --json
      tenclip export r2plus1d_34_clip32_ft_kinetics.pth --family ig65m-32f --labels kinetics400.txt
      tenclip export best.pt --variant fp16,int8 --calibration videos/ --measure
      tenclip export best.pt --variant bf16 --format torch,tensorrt
      tenclip export best.pt --target torchserve --target triton
    """
    from rich.console import Console

    from tenclip_api.errors import ParityError
    from tenclip_export.bundle_writer import export_bundle
    from tenclip_export.calibration import calibration_clips
    from tenclip_export.console import Steps
    from tenclip_export.targets import check_targets, export_targets
    from tenclip_training.loaders import load_any

    rows: list[Row] = []
    targets = [str(t) for t in target or ()]
    check_targets(targets, version=version)
    with Steps(Console(stderr=True)) as steps:
        steps.step(f"reading {checkpoint}")
        loaded = load_any(checkpoint, family=family)
        names = _labels(labels, loaded.model.num_classes) if labels is not None else loaded.labels
        clips = _real_clips(video or [], loaded.clip_spec)
        if calibration:
            steps.step("reading clips to calibrate on")
        try:
            bundle = export_bundle(
                loaded.model,
                loaded.clip_spec,
                out,
                name=name or model_name(checkpoint),
                version=version,
                labels=names,
                clips=clips.get(loaded.clip_spec.crop),
                fully_convolutional_clips=clips.get(loaded.clip_spec.fully_convolutional_crop or 0),
                family=loaded.family,
                default_protocol=loaded.protocol,
                provenance={**loaded.provenance, "checkpoint": checkpoint.name},
                variants=_listed(variant),
                formats=_listed(format),
                calibration=calibration_clips(calibration, loaded.clip_spec) if calibration else None,
                overwrite=overwrite,
                measure=measure,
                progress=steps.step,
                on_row=rows.append,
            )
        except ParityError:
            steps.close()
            _print_export(None, rows, json=json)
            raise
        written = export_targets(bundle, out, targets, overwrite=overwrite, progress=steps.step)
    _print_export(bundle, rows, written, json=json)


def model_name(checkpoint: Path) -> str:
    """A name for the model in `checkpoint`: its file's, or its folder's where the file is called `best.pt` or the like.

    >>> model_name(Path("runs/my moves/best.pt")), model_name(Path("r2plus1d_18-16x112.pth"))
    ('my-moves', 'r2plus1d_18-16x112')
    """
    import re

    stem = checkpoint.stem
    if stem.lower() in GENERIC_STEMS:
        stem = checkpoint.resolve().parent.name or stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("._-")[:128] or "model"


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _labels(path: Path, num_classes: int) -> tuple[str, ...]:
    from tenclip_api.errors import BundleError
    from tenclip_data.manifest import read_labels

    labels = read_labels(path)
    if len(labels) != num_classes:
        raise BundleError(f"{path}: {len(labels)} labels for a model of {num_classes} classes")
    return labels


def _real_clips(videos: list[Path], spec: ClipSpec) -> dict[int, NDArray[np.uint8]]:
    """The middle clip of each video, [B,T,size,size,3], by size: the crop and, where there is one, the larger crop."""
    import numpy as np

    from tenclip_video.clips import read_clips
    from tenclip_video.protocols import Protocol
    from tenclip_video.sampling import ClipSelection

    if not videos:
        return {}
    center = ClipSelection(mode="center", num_clips=1)
    protocols = {spec.crop: Protocol(selection=center)}
    if spec.fully_convolutional_crop is not None:
        protocols[spec.fully_convolutional_crop] = Protocol(selection=center, fully_convolutional=True)
    return {
        size: np.concatenate([read_clips(video, spec, protocol).clips for video in videos])
        for size, protocol in protocols.items()
    }


def _print_export(bundle: Bundle | None, rows: list[Row], written: tuple[Written, ...] = (), *, json: bool) -> None:
    from rich.console import Console
    from rich.markup import escape

    from tenclip_export.tables import export_summary, parity_table, speed_table

    if json:
        import json as jsonlib

        targets = [{"target": w.target, "path": str(w.path), "serve": w.serve} for w in written]
        print(jsonlib.dumps({**export_summary(bundle, rows), "targets": targets}, indent=2, allow_nan=False))
        return
    console = Console()
    if rows:
        console.print(parity_table(rows, bundle.info.tolerance if bundle else None))
    if bundle is None:
        return
    info = bundle.info
    if info.speed:
        console.print(speed_table(info.speed))
    for refused in info.provenance.get("refused_variants", ()):
        console.print(f"[yellow]left out[/] {escape(refused['variant'])}: {escape(refused['reason'])}", highlight=False)
    for note in info.provenance.get("notes", ()):
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    classes = f"{info.num_classes} classes"
    if info.label_source == "index":
        known = info.provenance.get("label_source")
        classes += " named by their numbers; --labels FILE names them" + (f" (the list is {known}'s)" if known else "")
    console.print(f"[green]wrote[/] {escape(str(bundle.path))}  {info.architecture}, {classes}", highlight=False)
    for other in written:
        console.print(f"[green]wrote[/] {escape(str(other.path))}", highlight=False)
    console.print(f"serve it: tenclip serve {escape(str(bundle.path.parent.parent))}", highlight=False)
    for other in written:
        console.print(f"serve it: {escape(other.serve)}", highlight=False, soft_wrap=True)
