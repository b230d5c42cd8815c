"""Inflation: a 3D network starts from the weights of a 2D one (Carreira and Zisserman 2017, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tenclip_training.models.video_model import VideoModel


def inflate_2d_to_3d(state2d: Mapping[str, Tensor], model3d: VideoModel, *, include_fc: bool = True) -> None:
    """Loads the weights of a frame model into a network with the same layers and 3D kernels, in place.

    `state2d` has the names of `model3d` (a state_dict of `r2d_*`; `tenclip_training.loaders` maps those of others),
    with convolutions of [O,I,k,k] or [O,I,1,k,k]. Each is repeated over time and divided by the number of frames it
    then covers, so that a clip of one frame again and again gives what the frame gave, away from the first and last
    frames, where the kernels meet the padding. With `include_fc` False the classifier keeps its own weights (another
    label space). Raises ValueError that lists the names that are missing, left over or of a shape that cannot be
    inflated; nothing is loaded then.
    """
    skipped = () if include_fc else ("fc.weight", "fc.bias")
    target = {name: value for name, value in model3d.state_dict().items() if name not in skipped}
    source = {name: value for name, value in state2d.items() if name not in skipped}
    # Old checkpoints do not count their batches.
    optional = {name for name in target if name.endswith("num_batches_tracked")}
    missing = sorted(set(target) - set(source) - optional)
    unexpected = sorted(set(source) - set(target))
    inflated = {name: _inflate(value, target[name]) for name, value in source.items() if name in target}
    misfits = sorted(
        f"{name} {list(source[name].shape)} for {list(target[name].shape)}" for name, v in inflated.items() if v is None
    )
    if missing or unexpected or misfits:
        raise ValueError(
            f"the frame model does not fit {model3d.architecture}: {len(missing)} missing {missing[:5]}, "
            f"{len(unexpected)} unexpected {unexpected[:5]}, {len(misfits)} of a wrong shape {misfits[:5]}"
        )
    with torch.no_grad():
        for name, value in inflated.items():
            assert value is not None
            target[name].copy_(value)


def _inflate(value: Tensor, like: Tensor) -> Tensor | None:
    """`value` with the shape of `like`; None where it cannot have it."""
    if value.shape == like.shape:
        return value
    if value.dim() == 4:
        value = value.unsqueeze(2)  # [O,I,k,k] -> [O,I,1,k,k]
    fits = value.dim() == like.dim() == 5 and value.shape[2] == 1
    if not fits or value.shape[:2] != like.shape[:2] or value.shape[3:] != like.shape[3:]:
        return None
    return value.expand_as(like) / like.shape[2]
