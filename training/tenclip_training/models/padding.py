"""Widths of convolutions as GPUs multiply them: the same function, with zeros up to a multiple of 8.

Tensor cores take channels in eights, and R(2+1)D's middle planes (45, 230, 460, 921) are none: cuDNN then pads at every
call, or takes a slower kernel. Channels of zeros add nothing to any sum, so the padded network is the same function,
up to the order of additions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_training.models.video_model import VideoModel

MULTIPLE = 8


class PadChannels(nn.Module):
    """Zeros for the channels that a clip lacks: [B,C,T,H,W] -> [B,`channels`,T,H,W], in channels-last memory."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, clips: Tensor) -> Tensor:
        last = clips.permute(0, 2, 3, 4, 1)  # [B,T,H,W,C], which is how the memory lies
        return F.pad(last, (0, self.channels - clips.shape[1])).permute(0, 4, 1, 2, 3)


def padded(model: VideoModel, *, multiple: int = MULTIPLE, stem_channels: int | None = None) -> VideoModel:
    """A copy whose middle widths are multiples of `multiple`, and whose stem sees `stem_channels` channels.

    A middle width lies between two convolutions with nothing but batch norm and ReLU between them: those of (2+1)D
    pairs. stem_channels: None takes `multiple`; 3 leaves the stem as it is. Clips still have three channels.
    Zeros stay zeros in training too: no gradient reaches them. The copy's state_dict has other shapes than that of
    `create_model`, so it is for running and exporting, not for checkpoints. Raises ValueError for numbers below 1 and
    for fewer channels than the stem has.

    >>> wide = padded(create_model("r2plus1d_18", num_classes=400))
    >>> wide.stem[1].out_channels, wide.layer2[0].conv1[0][0].out_channels  # 45 and 230 before
    (48, 232)
    """
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, got {multiple}")
    network = copy.deepcopy(model)
    for part in network.modules():
        if isinstance(part, nn.Sequential):
            for first, norms, second in _pairs(part):
                _widen(first, norms, second, -(-first.out_channels // multiple) * multiple)
    _pad_stem(network, multiple if stem_channels is None else stem_channels)
    return network


def leaves(part: nn.Module) -> Iterator[nn.Module]:
    """The modules of nested `nn.Sequential`s in the order in which they run; anything else is a leaf."""
    if isinstance(part, nn.Sequential):
        for child in part:
            yield from leaves(child)
    else:
        yield part


def _pairs(chain: nn.Sequential) -> Iterator[tuple[nn.Conv3d, list[nn.BatchNorm3d], nn.Conv3d]]:
    """Two convolutions of a chain and the batch norms between them, where channels stay apart in between."""
    parts = list(leaves(chain))
    at = [i for i, part in enumerate(parts) if isinstance(part, nn.Conv3d)]
    for i, j in pairwise(at):
        between = parts[i + 1 : j]
        first, second = parts[i], parts[j]
        assert isinstance(first, nn.Conv3d)
        assert isinstance(second, nn.Conv3d)
        if first.groups == second.groups == 1 and all(isinstance(p, nn.BatchNorm3d | nn.ReLU) for p in between):
            yield first, [p for p in between if isinstance(p, nn.BatchNorm3d)], second


@torch.no_grad()
def _widen(first: nn.Conv3d, norms: list[nn.BatchNorm3d], second: nn.Conv3d, width: int) -> None:
    """Give the map between two convolutions `width` channels, the new ones zero, in place."""
    more = width - first.out_channels
    if more == 0:
        return
    first.weight = nn.Parameter(_with_zeros(first.weight, 0, more))
    if first.bias is not None:
        first.bias = nn.Parameter(_with_zeros(first.bias, 0, more))
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean = _with_zeros(norm.running_mean, 0, more)
        norm.running_var = torch.cat([norm.running_var, norm.running_var.new_ones(more)])
        norm.weight = nn.Parameter(_with_zeros(norm.weight, 0, more))
        norm.bias = nn.Parameter(_with_zeros(norm.bias, 0, more))
        norm.num_features = width
    second.weight = nn.Parameter(_with_zeros(second.weight, 1, more))
    first.out_channels = second.in_channels = width


@torch.no_grad()
def _pad_stem(network: VideoModel, channels: int) -> None:
    """Where the network has one stem that begins with a plain convolution, let it see `channels` channels."""
    stem = getattr(network, "stem", None)
    first = next(leaves(stem), None) if isinstance(stem, nn.Sequential) else None
    if not isinstance(first, nn.Conv3d) or first.groups != 1:
        return
    if channels == first.in_channels:
        return
    if channels < first.in_channels:
        raise ValueError(f"the stem has {first.in_channels} channels, so stem_channels cannot be {channels}")
    first.weight = nn.Parameter(_with_zeros(first.weight, 1, channels - first.in_channels))
    first.in_channels = channels
    assert isinstance(stem, nn.Sequential)
    network.stem = nn.Sequential(PadChannels(channels), *stem)


def _with_zeros(values: Tensor, dim: int, more: int) -> Tensor:
    shape = list(values.shape)
    shape[dim] = more
    return torch.cat([values, values.new_zeros(shape)], dim)
