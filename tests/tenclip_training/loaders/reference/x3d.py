"""X3D as pytorchvideo and as MMAction2 name and compute it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .mmaction2 import ConvModule

ONES = (1, 1, 1, 1)


def rounded(width: float) -> int:
    """To a multiple of 8, at least 8 and not below 90%."""
    out = max(8, int(width + 4) // 8 * 8)
    return int(out + 8 if out < 0.9 * width else out)


# pytorchvideo.


class Pair(nn.Module):
    """Named for Conv2plus1d: `conv_t` runs first, and in X3D's stem it is the one over space."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_t = nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.conv_xy = nn.Conv3d(width, width, (5, 1, 1), padding=(2, 0, 0), groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_xy(self.conv_t(x))
        return out


class Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = Pair(width), nn.BatchNorm3d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)).relu()
        return out


class SqueezeExcitation(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        squeezed = rounded(planes / 16)
        self.block = nn.Sequential(
            nn.Conv3d(planes, squeezed, 1), nn.ReLU(), nn.Conv3d(squeezed, planes, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.block(x.mean([2, 3, 4], keepdim=True))
        return out


class Branch2(nn.Module):
    def __init__(self, i: int, inner: int, o: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.conv_a, self.norm_a = nn.Conv3d(i, inner, 1, bias=False), nn.BatchNorm3d(inner)
        self.conv_b = nn.Conv3d(inner, inner, 3, (1, stride, stride), 1, groups=inner, bias=False)
        self.norm_b = nn.Sequential(nn.BatchNorm3d(inner), SqueezeExcitation(inner) if squeeze else nn.Identity())
        self.conv_c, self.norm_c = nn.Conv3d(inner, o, 1, bias=False), nn.BatchNorm3d(o)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_b(self.conv_b(self.norm_a(self.conv_a(x)).relu()))
        out: Tensor = self.norm_c(self.conv_c(x * x.sigmoid()))
        return out


class ResBlock(nn.Module):
    def __init__(self, i: int, inner: int, o: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.branch1_conv = self.branch1_norm = None
        if i != o or stride > 1:
            self.branch1_conv = nn.Conv3d(i, o, 1, (1, stride, stride), bias=False)
        if i != o:
            self.branch1_norm = nn.BatchNorm3d(o)
        self.branch2 = Branch2(i, inner, o, stride, squeeze)

    def forward(self, x: Tensor) -> Tensor:
        side = x if self.branch1_conv is None else self.branch1_conv(x)
        side = side if self.branch1_norm is None else self.branch1_norm(side)
        out: Tensor = (side + self.branch2(x)).relu()
        return out


class ResStage(nn.Module):
    def __init__(self, blocks: list[ResBlock]) -> None:
        super().__init__()
        self.res_blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.res_blocks:
            x = block(x)
        return x


class ProjectedPool(nn.Module):
    def __init__(self, i: int, inner: int, o: int, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.pre_conv, self.pre_norm = nn.Conv3d(i, inner, 1, bias=False), nn.BatchNorm3d(inner)
        self.pool = nn.AvgPool3d(size, 1)
        self.post_conv = nn.Conv3d(inner, o, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.post_conv(self.pool(self.pre_norm(self.pre_conv(x)).relu())).relu()
        return out


class Head(nn.Module):
    def __init__(self, i: int, inner: int, o: int, num_classes: int, size: tuple[int, int, int]) -> None:
        super().__init__()
        self.pool = ProjectedPool(i, inner, o, size)
        self.proj = nn.Linear(o, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(self.pool(x).permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        return F.adaptive_avg_pool3d(x.softmax(1), 1).flatten(1)


class PytorchvideoX3D(nn.Module):
    def __init__(
        self,
        width: int,
        layers: Sequence[int] = ONES,
        *,
        frames: int,
        crop: int,
        hidden: int = 2048,
        num_classes: int = 400,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [Stem(width)]
        i = width
        for n in range(4):
            o, stage = width * 2**n, []
            for b in range(layers[n]):
                stage.append(ResBlock(i, int(2.25 * o), o, 1 if b else 2, squeeze=(b + 1) % 2 == 1))
                i = o
            blocks.append(ResStage(stage))
        side = math.ceil(crop / 32)
        blocks.append(Head(i, int(2.25 * i), hidden, num_classes, (frames, side, side)))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


# MMAction2.


class SEModule(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        squeezed = rounded(planes / 16)
        self.fc1, self.fc2 = nn.Conv3d(planes, squeezed, 1), nn.Conv3d(squeezed, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.fc2(self.fc1(F.adaptive_avg_pool3d(x, 1)).relu()).sigmoid()
        return out


class BlockX3D(nn.Module):
    def __init__(self, i: int, inner: int, o: int, stride: int, squeeze: bool) -> None:
        super().__init__()
        self.conv1 = ConvModule(i, inner, (1, 1, 1), act=True)
        self.conv2 = ConvModule(inner, inner, (3, 3, 3), (1, stride, stride), act=False, groups=inner)
        self.conv3 = ConvModule(inner, o, (1, 1, 1), act=False)
        self.se_module = SEModule(inner) if squeeze else None
        shortcut = ConvModule(i, o, (1, 1, 1), (1, stride, stride), act=False)
        self.downsample = shortcut if stride > 1 or i != o else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.conv1(x))
        out = out if self.se_module is None else self.se_module(out)
        side = x if self.downsample is None else self.downsample(x)
        result: Tensor = (self.conv3(F.silu(out)) + side).relu()
        return result


class Bare(nn.Module):
    """A ConvModule without norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)


class Backbone(nn.Module):
    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.conv1_s = Bare(width)
        self.conv1_t = ConvModule(width, width, (5, 1, 1), act=True, groups=width)
        i = width
        for n in range(4):
            o, blocks = width * 2**n, []
            for b in range(layers[n]):
                blocks.append(BlockX3D(i, int(2.25 * o), o, 1 if b else 2, squeeze=b % 2 == 0))
                i = o
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))
        self.conv5 = ConvModule(i, int(2.25 * i), (1, 1, 1), act=True)
        self.planes = int(2.25 * i)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1_t(self.conv1_s.conv(x))
        for n in range(4):
            x = getattr(self, f"layer{n + 1}")(x)
        out: Tensor = self.conv5(x)
        return out


class X3DHead(nn.Module):
    def __init__(self, planes: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(planes, hidden, bias=False), nn.Linear(hidden, num_classes)


class MMAction2X3D(nn.Module):
    def __init__(self, width: int, layers: Sequence[int] = ONES, *, hidden: int = 2048, num_classes: int = 400) -> None:
        super().__init__()
        self.backbone = Backbone(width, layers)
        self.cls_head = X3DHead(self.backbone.planes, hidden, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        pooled = self.backbone(clips).mean((2, 3, 4))
        out: Tensor = self.cls_head.fc2(self.cls_head.fc1(pooled).relu())
        return out
