"""`tenclip export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_export.checkpoint_options import CheckpointOptions, InputOptions
from tenclip_export.options import BundleOptions, CheckOptions, VariantOptions
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from tenclip_export.parity import Row
    from tenclip_video.bundle import Bundle

# File names that say nothing about the model: the folder's name is better.
GENERIC_STEMS = frozenset({"best", "last", "final", "latest", "checkpoint", "model", "weights"})


@with_option_groups
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of `tenclip train`, or a public one.", show_default=False)
    ],
    bundle: BundleOptions,
    reading: CheckpointOptions,
    input: InputOptions,
    variants: VariantOptions,
    checks: CheckOptions,
) -> None:
    """Turn a checkpoint into a bundle that `tenclip serve` serves.

    Public checkpoints (torchvision, VMZ, ig65m, 3D-ResNets, MMAction2, pytorchvideo, I3D and others) are recognised by
    their tensors and get the input and the test protocol of their authors. What the options change of either is
    printed and recorded in the bundle.

    Every installed runtime is checked against torch on golden clips. A runtime that differs by more than rounding ends
    the export, with the table of differences, and nothing is written.

    \b
    Examples:
      tenclip export runs/moves/best.pt
      tenclip export runs/moves/best.pt --out models --name moves --measure
      tenclip export best.pt --labels labels.txt --video sample.mp4 --json
      tenclip export r2plus1d_34_clip32_ft_kinetics.pth --family ig65m-32f --labels kinetics400.txt
      tenclip export fine_tuned.pth --family vmz --frames 16 --stride 2 --resize 128x171 --crop 112 --head global
      tenclip export pretrained_backbone.pth --features-only --name backbone
      tenclip export best.pt --variant fp16,int8 --calibration videos/ --measure
      tenclip export both/best.pt --classifier verb --name verbs
      tenclip export best.pt --variant bf16 --format torch,tensorrt
      tenclip export best.pt --target torchserve --target triton
    """
    from rich.console import Console

    from tenclip_api.errors import ParityError
    from tenclip_export.console import Steps
    from tenclip_export.tables import print_export
    from tenclip_export.targets import check_targets, export_targets

    rows: list[Row] = []
    check_targets(variants.targets, version=bundle.version)
    with Steps(Console(stderr=True)) as steps:
        try:
            written = _write_bundle(checkpoint, bundle, reading, input, variants, checks, steps.step, rows)
        except ParityError:
            steps.close()
            print_export(None, rows, json=checks.json)
            raise
        others = export_targets(written, bundle.out, variants.targets, overwrite=bundle.overwrite, progress=steps.step)
    print_export(written, rows, others, json=checks.json)


def _write_bundle(
    checkpoint: Path,
    options: BundleOptions,
    reading: CheckpointOptions,
    input: InputOptions,
    variants: VariantOptions,
    checks: CheckOptions,
    progress: Callable[[str], None],
    rows: list[Row],
) -> Bundle:
    """Load the checkpoint and export it; `rows` becomes the parity table."""
    from tenclip_export.bundle_writer import export_bundle
    from tenclip_export.targets import check_features_only
    from tenclip_training.loaders import load_any
    from tenclip_training.loaders.one_head import select_head, with_sigmoid_note

    progress(f"reading {checkpoint}")
    loaded = load_any(
        checkpoint,
        family=reading.family,
        clip_spec=input.changes() or None,
        head=reading.head,
        model_options=reading.model_options,
        features_only=reading.features_only,
    )
    loaded = with_sigmoid_note(select_head(loaded, reading.classifier, source=str(checkpoint)))
    spec = loaded.clip_spec
    if loaded.model.num_classes == 0:
        check_features_only(variants.targets)
    labels = options.class_names(loaded.model.num_classes)
    clips = checks.real_clips(spec)
    if variants.calibration:
        progress("reading clips to calibrate on")
    return export_bundle(
        loaded.model,
        spec,
        options.out,
        name=options.name or model_name(checkpoint),
        version=options.version,
        labels=loaded.labels if labels is None else labels,
        clips=clips.get(spec.crop),
        fully_convolutional_clips=clips.get(spec.fully_convolutional_crop or 0),
        family=loaded.family,
        default_protocol=loaded.protocol,
        provenance={**loaded.provenance, "checkpoint": checkpoint.name},
        variants=variants.precisions,
        formats=variants.formats,
        calibration=variants.calibration_clips(spec),
        overwrite=options.overwrite,
        measure=checks.measure,
        progress=progress,
        on_row=rows.append,
    )


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
