"""Pixels to the network's input: the one normalisation of training, evaluation and the exported graph.

B clips of T frames, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenclip_video.spec import ClipSpec


def normalise(clips: Tensor, spec: ClipSpec) -> Tensor:
    """uint8 [B,T,H,W,3] in `spec.color_order` -> float32 [B,3,T,H,W], normalised by the spec's mean and std.

    The result is a view in channels-last memory: the pixels stay where they are.

    >>> clips = torch.zeros(2, 16, 112, 112, 3, dtype=torch.uint8)
    >>> normalise(clips, ClipSpec()).shape
    torch.Size([2, 3, 16, 112, 112])
    """
    scale, bias = (torch.from_numpy(a).to(clips.device) for a in spec.affine())
    return scale_and_shift(clips, scale, bias)


def scale_and_shift(clips: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """uint8 [B,T,H,W,3], scale [3], bias [3] -> [B,3,T,H,W] of the scale's type: `normalise` with given constants."""
    return torch.addcmul(bias, clips.to(scale.dtype), scale).permute(0, 4, 1, 2, 3)  # (B,T,H,W,C) -> (B,C,T,H,W)
