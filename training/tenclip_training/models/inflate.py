"""Inflation: a 3D network starts from the weights of a 2D one (Carreira and Zisserman 2017, section 3.4).

IG-65M (section 4.3.2) inflates R2D to R3D, layer by layer. What has no such layers is refused: see `why_not`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tenclip_training.models.blocks import Conv2Plus1d
from tenclip_training.models.slowfast import SlowFast
from tenclip_training.models.video_model import VideoModel


def inflate_2d_to_3d(
    state2d: Mapping[str, Tensor], model3d: VideoModel, *, include_fc: bool = True, scale: bool = True
) -> None:
    """Loads the weights of a frame model into a network with the same layers and 3D kernels, in place.

    `state2d` has the names of `model3d` (a state_dict of `r2d_*`; `tenclip_training.loaders` maps those of others),
    with convolutions of [O,I,k,k] or [O,I,1,k,k]. Each is repeated over time and divided by the number of frames it
    then covers, so that a clip of one frame again and again gives what the frame gave, away from the first and last
    frames, where the kernels meet the padding. `scale` False leaves the division out: DistInit (section 4.2) writes of
    repeating alone. With `include_fc` False the classifier keeps its own weights (another label space).
    Raises ValueError that says why a network cannot be inflated to, or lists the names that are missing, left over or
    of another shape; nothing is loaded then.
    """
    skipped = () if include_fc else ("fc.weight", "fc.bias")
    target = {name: value for name, value in model3d.state_dict().items() if name not in skipped}
    source = {name: value for name, value in state2d.items() if name not in skipped}
    # Old checkpoints do not count their batches.
    optional = {name for name in target if name.endswith("num_batches_tracked")}
    missing = sorted(set(target) - set(source) - optional)
    unexpected = sorted(set(source) - set(target))
    inflated = {
        name: inflate_kernel(value, target[name], scale=scale) for name, value in source.items() if name in target
    }
    misfits = sorted(
        f"{name} {list(source[name].shape)} for {list(target[name].shape)}" for name, v in inflated.items() if v is None
    )
    if missing or unexpected or misfits:
        if reason := why_not(model3d):
            raise ValueError(f"the frame model cannot be inflated to {model3d.architecture}: {reason}")
        raise ValueError(
            f"the frame model does not fit {model3d.architecture}: {len(missing)} missing {missing[:5]}, "
            f"{len(unexpected)} unexpected {unexpected[:5]}, {len(misfits)} of a wrong shape {misfits[:5]}"
        )
    with torch.no_grad():
        for name, value in inflated.items():
            assert value is not None
            target[name].copy_(value)


def why_not(model: VideoModel) -> str:
    """Why no frame network can be inflated to this one, as the end of a sentence; "" where nothing is in the way."""
    if isinstance(model, SlowFast):
        return "it has two pathways and connections between them, which a frame network has not"
    if any(isinstance(part, Conv2Plus1d) for part in model.modules()):
        return (
            "its (2+1)D convolutions are pairs, one over space and one over time with a batch norm between them, and "
            "a frame network has nothing for the second one"
        )
    if any(isinstance(part, nn.Conv3d) and part.groups > 1 for part in model.modules()):
        return "its convolutions over space and time see one channel each (channel-separated), those of frames see all"
    return ""


def has_flat_kernels(model: VideoModel) -> bool:
    """Whether no convolution looks over time, so that the network can be inflated from: a frame model, or C2D."""
    return all(part.kernel_size[0] == 1 for part in model.modules() if isinstance(part, nn.Conv3d))


def is_frame_model(model: VideoModel) -> bool:
    """Whether the network sees each frame by itself, down to its head: no kernel and no pool looks over time."""
    pools = (part for part in model.modules() if isinstance(part, nn.MaxPool3d | nn.AvgPool3d))
    return has_flat_kernels(model) and all(_frames_of(part.kernel_size) == 1 for part in pools)


def _frames_of(kernel: int | Sequence[int]) -> int:
    return kernel if isinstance(kernel, int) else kernel[0]


def inflate_kernel(value: Tensor, like: Tensor, *, scale: bool = True) -> Tensor | None:
    """`value` with the shape of `like`: [O,I,k,k] or [O,I,1,k,k] -> [O,I,t,k,k]; None where it cannot have it.

    >>> inflate_kernel(torch.full((1, 1, 1, 1), 0.6), torch.empty(1, 1, 3, 1, 1)).flatten().tolist()
    [0.20000000298023224, 0.20000000298023224, 0.20000000298023224]
    """
    if value.shape == like.shape:
        return value
    if value.dim() == 4:
        value = value.unsqueeze(2)  # [O,I,k,k] -> [O,I,1,k,k]
    fits = value.dim() == like.dim() == 5 and value.shape[2] == 1
    if not fits or value.shape[:2] != like.shape[:2] or value.shape[3:] != like.shape[3:]:
        return None
    return value.expand_as(like) / (like.shape[2] if scale else 1)


def flow_stem(rgb: Tensor, channels: int = 2) -> Tensor:
    """The first kernel of a flow network from that of an RGB one: [O,3,...] -> [O,channels,...].

    The mean over the colour channels, once for each channel of flow (DistInit, section 4.2; Wang et al. 2016, TSN):
    0.3, 0.6 and 0.9 become 0.6 and 0.6.
    """
    return rgb.mean(1, keepdim=True).repeat_interleave(channels, 1)
