"""I3D: Inception-v1 with 3D kernels (Carreira and Zisserman 2017, arXiv:1705.07750), as in pytorch-i3d.

    conv_1a   [B,3,T,H,W] -> [B,64,T/2,H/2,W/2]
    mixed_5c  -> [B,1024,T/8,H/32,W/32]

All padding is TensorFlow's "SAME". The authors' head pools 2 x 7 x 7 with stride 1, so that 64 frames of 224 pixels
give 7 positions in time; they average the logits over them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tenclip_training.models.blocks import SameConv3d, SameMaxPool3d, init_weights, set_batch_norm
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.video_model import Head, VideoModel, classifier, pool_size

# Planes of the four branches: 1x1; 1x1 then 3x3; 1x1 then 3x3; pool then 1x1.
MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


def unit(in_planes: int, planes: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, BN, ReLU."""
    size, step = (kernel, kernel), (stride, stride)
    return nn.Sequential(SameConv3d(in_planes, planes, size, step), nn.BatchNorm3d(planes), nn.ReLU(inplace=True))


class Mixed(nn.Module):
    """Four branches side by side, joined along the channels. `planes` as in `MIXED`."""

    def __init__(self, in_planes: int, planes: tuple[int, ...]) -> None:
        super().__init__()
        p0, p1a, p1b, p2a, p2b, p3b = planes
        self.b0 = unit(in_planes, p0, 1)
        self.b1a, self.b1b = unit(in_planes, p1a, 1), unit(p1a, p1b, 3)
        self.b2a, self.b2b = unit(in_planes, p2a, 1), unit(p2a, p2b, 3)
        self.b3a, self.b3b = SameMaxPool3d((3, 3), (1, 1)), unit(in_planes, p3b, 1)
        self.planes = p0 + p1b + p2b + p3b

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)


class I3D(VideoModel):
    def __init__(
        self, *, num_classes: int | None, width: int, pool_size: tuple[int, int, int] | None, bn_eps: float
    ) -> None:
        super().__init__(pool_size=pool_size)
        scaled = {name: tuple(max(1, p * width // 64) for p in planes) for name, planes in MIXED.items()}
        self.conv_1a = unit(3, width, 7, 2)
        self.pool_2a = SameMaxPool3d((1, 3), (1, 2))
        self.conv_2b = unit(width, width, 1)
        self.conv_2c = unit(width, 3 * width, 3)
        self.pool_3a = SameMaxPool3d((1, 3), (1, 2))
        self.pool_4a = SameMaxPool3d((3, 3), (2, 2))
        self.pool_5a = SameMaxPool3d((2, 2), (2, 2))
        in_planes = 3 * width
        for name, planes in scaled.items():
            mixed = Mixed(in_planes, planes)
            self.add_module(f"mixed_{name}", mixed)
            in_planes = mixed.planes
        self.fc = classifier(in_planes, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps, momentum=0.01)

    def feature_map(self, clips: Tensor) -> Tensor:
        x = self.conv_2b(self.pool_2a(self.conv_1a(clips)))
        x = self.pool_3a(self.conv_2c(x))
        for name in MIXED:
            if name in ("4b", "5b"):
                x = (self.pool_4a if name == "4b" else self.pool_5a)(x)
            x = self.get_submodule(f"mixed_{name}")(x)
        out: Tensor = x
        return out


@register_architecture("i3d", family="i3d", parameters=12_697_264)
def i3d(
    *,
    num_classes: int | None,
    width: int = 64,
    num_frames: int = 64,
    crop: int = 224,
    head: Head = "fixed",
    pool_frames: int = 2,
    bn_eps: float = 1e-3,
) -> VideoModel:
    """I3D for RGB. `pool_frames` is the depth of the head's pool in time, 2 in the authors' network for any clip.

    `width` is the planes of the first convolution, all others in proportion.
    """
    kernel = pool_size(head, num_frames=num_frames, crop=crop, strides=(8, 32))
    if kernel is not None:
        kernel = (min(pool_frames, kernel[0]), *kernel[1:])
    return I3D(num_classes=num_classes, width=width, pool_size=kernel, bn_eps=bn_eps)
