"""pytorch-i3d's InceptionI3d: TensorFlow's padding, worked out from the input's size in every layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    pads: list[int] = []
    for n, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit3D(nn.Module):
    def __init__(self, i: int, o: int, k: int = 1, s: int = 1, *, last: bool = False) -> None:
        super().__init__()
        self.k, self.s, self.last = (k, k, k), (s, s, s), last
        self.conv3d = nn.Conv3d(i, o, k, s, 0, bias=last)
        if not last:
            self.bn = nn.BatchNorm3d(o, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3d(same(x, self.k, self.s))
        return out if self.last else F.relu(self.bn(out))


class Pool(nn.Module):
    def __init__(self, k: tuple[int, ...], s: tuple[int, ...]) -> None:
        super().__init__()
        self.k, self.s = k, s

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(same(x, self.k, self.s), self.k, self.s)


class Inception(nn.Module):
    def __init__(self, i: int, o: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit3D(i, o[0])
        self.b1a, self.b1b = Unit3D(i, o[1]), Unit3D(o[1], o[2], 3)
        self.b2a, self.b2b = Unit3D(i, o[3]), Unit3D(o[3], o[4], 3)
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit3D(i, o[5])

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(parts, dim=1)


MODULES: list[tuple[str, tuple[int, ...] | Pool]] = [
    ("Mixed_3b", (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", (128, 128, 192, 32, 96, 64)),
    ("MaxPool3d_4a_3x3", Pool((3, 3, 3), (2, 2, 2))),
    ("Mixed_4b", (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", (256, 160, 320, 32, 128, 128)),
    ("MaxPool3d_5a_2x2", Pool((2, 2, 2), (2, 2, 2))),
    ("Mixed_5b", (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", (384, 192, 384, 48, 128, 128)),
]


class InceptionI3d(nn.Module):
    def __init__(self, width: int, *, num_classes: int = 400) -> None:
        super().__init__()
        self.order = ["Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"]
        self.add_module("Conv3d_1a_7x7", Unit3D(3, width, 7, 2))
        self.add_module("MaxPool3d_2a_3x3", Pool((1, 3, 3), (1, 2, 2)))
        self.add_module("Conv3d_2b_1x1", Unit3D(width, width))
        self.add_module("Conv3d_2c_3x3", Unit3D(width, 3 * width, 3))
        self.add_module("MaxPool3d_3a_3x3", Pool((1, 3, 3), (1, 2, 2)))
        i = 3 * width
        for name, planes in MODULES:
            self.order.append(name)
            if isinstance(planes, Pool):
                self.add_module(name, planes)
            else:
                o = tuple(p * width // 64 for p in planes)
                self.add_module(name, Inception(i, o))
                i = o[0] + o[2] + o[4] + o[5]
        self.logits = Unit3D(i, num_classes, last=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B,K,T''] at 224 pixels: a position for each place of the pool in time; above, places in space follow."""
        for name in self.order:
            x = self.get_submodule(name)(x)
        out: Tensor = self.logits(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return out.flatten(2)
