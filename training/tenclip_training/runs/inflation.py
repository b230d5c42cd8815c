"""A network of frames becomes one of clips: which values of the two networks must agree, and which clips result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import ARCHITECTURES, VideoModel, create_model
from tenclip_training.models.inflate import has_flat_kernels, inflate_2d_to_3d
from tenclip_training.models.registry import config_defaults
from tenclip_video.spec import ClipSpec

# What a network of clips takes over from the one of frames: the size of its layers, and what no weights carry.
SHARED = ("width", "stages", "bottleneck", "bn_eps")


def inflate_model(
    frames: VideoModel, architecture: str, values: Mapping[str, Any], *, scale: bool, source: str
) -> VideoModel:
    """The architecture with the inflated weights of `frames`, whose classifier it keeps (where there is one).

    values: those of the architecture that are asked for; what they leave out of `SHARED` is that of `frames`.
    Raises InvalidRequest that names `source` where it looks over time already, where one is of optical flow and the
    other is not, or the two do not have the same layers.
    """
    if not has_flat_kernels(frames):
        raise InvalidRequest(
            f"{source}: a {frames.architecture}, which looks over time already; inflation is for networks of frames, "
            "such as r2d_18"
        )
    channels, wanted = (c.get("in_channels", 3) for c in (frames.config, values))
    if channels != wanted:
        kinds = {True: "pictures of 3 channels", False: "optical flow of 2 channels"}
        raise InvalidRequest(
            f"{source}: a network of {kinds[channels == 3]}, and the network of clips would be one of "
            f"{kinds[wanted == 3]}: their first layers differ. Inflate a network of {kinds[wanted == 3]}"
        )
    accepted = config_defaults(ARCHITECTURES[architecture]) if architecture in ARCHITECTURES else {}
    inherited = {name: frames.config[name] for name in SHARED if name in accepted and name in frames.config}
    # Blocks and their number follow from the names of both architectures, unless a value says otherwise.
    inherited = {name: value for name, value in inherited.items() if value is not None}
    try:
        model = create_model(architecture, **{**inherited, **values, "num_classes": frames.config["num_classes"]})
    except (ValueError, TypeError) as err:
        raise InvalidRequest(str(err)) from err
    try:
        inflate_2d_to_3d(frames.state_dict(), model, scale=scale)
    except ValueError as err:
        raise InvalidRequest(f"{source}: {err}. {_candidates(frames)}") from err
    return model


def inflated_spec(spec: ClipSpec, architecture: str) -> ClipSpec:
    """The clips of an inflated network, where nothing else is asked for: its pictures, as many as it is made for."""
    if architecture not in ARCHITECTURES or spec.num_frames > 1:
        return spec
    return dataclasses.replace(spec, num_frames=config_defaults(ARCHITECTURES[architecture])["num_frames"])


def _candidates(frames: VideoModel) -> str:
    """Architectures with the layers of `frames`, as a sentence."""
    names = INFLATABLE.get(frames.config.get("depth", 0), ())
    return f"{frames.architecture} can be inflated to {', '.join(names)}" if names else ""


# Architectures with the layers of a frame ResNet, by its depth.
INFLATABLE = {
    10: ("resnets3d_r3d_10",),
    18: ("resnets3d_r3d_18", "torchvision_r3d_18", "torchvision_mc3_18"),
    34: ("resnets3d_r3d_34",),
    50: ("resnets3d_r3d_50", "slowonly_r50", "mmaction2_i3d_r50", "pytorchvideo_i3d_r50"),
    101: ("resnets3d_r3d_101", "slowonly_r101"),
    152: ("resnets3d_r3d_152",),
}
