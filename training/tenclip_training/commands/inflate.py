"""`tenclip inflate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tenclip_training.commands.options import Json, print_json, usage_errors


def inflate(
    *,
    checkpoint: Annotated[
        Path, typer.Argument(help="A network of frames: of tenclip train, or a public one.", show_default=False)
    ],
    architecture: Annotated[
        str, typer.Option("--architecture", "-a", help="Network of clips with the same layers.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the new checkpoint.", show_default=False)],
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames in a clip.", show_default="the architecture's")
    ] = None,
    scale: Annotated[
        bool, typer.Option(help="Divide kernels by the frames they cover; without, repeat them alone (DistInit).")
    ] = True,
    features_only: Annotated[bool, typer.Option("--features-only", help="Leave the classifier out.")] = False,
    family: Annotated[
        str | None, typer.Option(help="Family of a public checkpoint.", show_default="as its weights tell")
    ] = None,
    json: Json = False,
) -> None:
    """Inflate a network of frames to one of clips, as a checkpoint to fine-tune.

    Each 2D kernel is repeated over time and divided by the frames that it then
    covers, so that a clip of one frame again and again gives what the frame
    gave (away from its first and last frames). R(2+1)D and other networks
    without the same layers are refused. `tenclip train --inflate` does the
    same on the way.

    \b
    Examples:
      tenclip inflate frames/best.pt -a resnets3d_r3d_18 --frames 8 -o r3d.pt
      tenclip inflate resnet50.pth -a slowonly_r50 -o slowonly.pt
    """
    import torch

    from tenclip_api.errors import InvalidRequest
    from tenclip_training.loaders.any import load_any
    from tenclip_training.models.cost import count_parameters
    from tenclip_training.runs.checkpoint import save_checkpoint, weights_sha256
    from tenclip_training.runs.inflation import inflate_model, inflated_spec
    from tenclip_video.spec_changes import change_spec

    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise InvalidRequest(f"--out {out} is the checkpoint itself; name another file")
    loaded = load_any(checkpoint, family=family, features_only=features_only)
    with usage_errors():
        spec = inflated_spec(loaded.clip_spec, architecture)
        if frames is not None:
            spec = change_spec(spec, {"num_frames": frames})
    values = {"num_frames": spec.num_frames, "crop": spec.crop}
    model = inflate_model(loaded.model, architecture, values, scale=scale, source=str(checkpoint))
    provenance: dict[str, Any] = {
        "made_by": "tenclip inflate",
        "torch": str(torch.__version__),
        "inflated_from": str(checkpoint),
        "inflated_from_architecture": loaded.model.architecture,
        "inflated_from_weights_sha256": weights_sha256(loaded.model.state_dict()),
        "kernels": "repeated and divided" if scale else "repeated",
    }
    save_checkpoint(out, model.eval(), clip_spec=spec, labels=loaded.labels, provenance=provenance)
    result = {
        "out": str(out),
        "from": str(checkpoint),
        "from_architecture": loaded.model.architecture,
        "architecture": architecture,
        "parameters": count_parameters(model),
        "classes": model.num_classes,
        "labels": None if loaded.labels is None else list(loaded.labels),
        "num_frames": spec.num_frames,
        "crop": spec.crop,
        "scaled": scale,
    }
    if json:
        print_json(result)
    else:
        typer.echo(
            f"wrote {out}: {loaded.model.architecture} inflated to {architecture}, {result['parameters']:,} parameters"
            f", {model.num_classes} classes, clips of {spec.num_frames} frames of {spec.crop} pixels"
        )
