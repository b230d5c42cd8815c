"""3D-ResNets (2018 and 2020), and torchvision's 2D ResNet, which has the same names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ONES = (1, 1, 1, 1)


class Block(nn.Module):
    """Basic or bottleneck, of 3D or 2D convolutions."""

    def __init__(self, i: int, p: int, stride: int, *, deep: bool, dims: int, downsample: Any) -> None:
        super().__init__()
        conv, norm = (nn.Conv3d, nn.BatchNorm3d) if dims == 3 else (nn.Conv2d, nn.BatchNorm2d)
        self.deep, self.downsample = deep, downsample
        if deep:
            self.conv1, self.bn1 = conv(i, p, 1, bias=False), norm(p)
            self.conv2, self.bn2 = conv(p, p, 3, stride, 1, bias=False), norm(p)
            self.conv3, self.bn3 = conv(p, 4 * p, 1, bias=False), norm(4 * p)
        else:
            self.conv1, self.bn1 = conv(i, p, 3, stride, 1, bias=False), norm(p)
            self.conv2, self.bn2 = conv(p, p, 3, 1, 1, bias=False), norm(p)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out))
        if self.deep:
            out = self.bn3(self.conv3(out.relu()))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class FactorisedBlock(nn.Module):
    def __init__(self, i: int, p: int, stride: int, *, deep: bool, downsample: Any) -> None:
        super().__init__()
        self.deep, self.downsample = deep, downsample

        def halves(n: int, a: int, b: int, s: int) -> None:
            mid = (a * b * 27) // (a * 9 + 3 * b)
            setattr(self, f"conv{n}_s", nn.Conv3d(a, mid, (1, 3, 3), (1, s, s), (0, 1, 1), bias=False))
            setattr(self, f"bn{n}_s", nn.BatchNorm3d(mid))
            setattr(self, f"conv{n}_t", nn.Conv3d(mid, b, (3, 1, 1), (s, 1, 1), (1, 0, 0), bias=False))
            setattr(self, f"bn{n}_t", nn.BatchNorm3d(b))

        if deep:
            self.conv1, self.bn1 = nn.Conv3d(i, p, 1, bias=False), nn.BatchNorm3d(p)
            halves(2, p, p, stride)
            self.conv3, self.bn3 = nn.Conv3d(p, 4 * p, 1, bias=False), nn.BatchNorm3d(4 * p)
        else:
            halves(1, i, p, stride)
            halves(2, p, p, 1)

    def _halves(self, n: int, x: Tensor) -> Tensor:
        between: Tensor = getattr(self, f"bn{n}_s")(getattr(self, f"conv{n}_s")(x))
        out: Tensor = getattr(self, f"bn{n}_t")(getattr(self, f"conv{n}_t")(between.relu()))
        return out

    def forward(self, x: Tensor) -> Tensor:
        if self.deep:
            out = self._halves(2, self.bn1(self.conv1(x)).relu()).relu()
            out = self.bn3(self.conv3(out))
        else:
            out = self._halves(2, self._halves(1, x).relu())
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    def __init__(
        self,
        width: int,
        layers: Sequence[int] = ONES,
        *,
        deep: bool = False,
        shortcut: str = "B",
        factorised: bool = False,
        dims: int = 3,
        stem_frames: int = 7,
        num_classes: int = 400,
    ) -> None:
        super().__init__()
        self.factorised, self.dims = factorised, dims
        conv, norm = (nn.Conv3d, nn.BatchNorm3d) if dims == 3 else (nn.Conv2d, nn.BatchNorm2d)
        if factorised:
            mid = (3 * width * 7 * 49) // (3 * 49 + 7 * width)
            self.conv1_s = nn.Conv3d(3, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
            self.bn1_s = nn.BatchNorm3d(mid)
            self.conv1_t = nn.Conv3d(mid, width, (7, 1, 1), 1, (3, 0, 0), bias=False)
            self.bn1_t = nn.BatchNorm3d(width)
        else:
            kernel: Any = (stem_frames, 7, 7)[3 - dims :]
            padding: Any = (stem_frames // 2, 3, 3)[3 - dims :]
            stride: Any = (1, 2, 2)[3 - dims :]
            self.conv1 = conv(3, width, kernel, stride, padding, bias=False)
            self.bn1 = norm(width)
        self.maxpool = (nn.MaxPool3d if dims == 3 else nn.MaxPool2d)(3, 2, 1)
        inplanes, expansion = width, 4 if deep else 1
        for n in range(4):
            p, stride = width * 2**n, 1 if n == 0 else 2
            blocks = []
            for b in range(layers[n]):
                s = stride if b == 0 else 1
                downsample: Any = None
                if s != 1 or inplanes != p * expansion:
                    if shortcut == "A":
                        downsample = OptionA(p * expansion, s)
                    else:
                        downsample = nn.Sequential(conv(inplanes, p * expansion, 1, s, bias=False), norm(p * expansion))
                if factorised:
                    blocks.append(FactorisedBlock(inplanes, p, s, deep=deep, downsample=downsample))
                else:
                    blocks.append(Block(inplanes, p, s, deep=deep, dims=dims, downsample=downsample))  # type: ignore[arg-type]
                inplanes = p * expansion
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inplanes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.factorised:
            x = self.bn1_t(self.conv1_t(self.bn1_s(self.conv1_s(x)).relu())).relu()
        else:
            x = self.bn1(self.conv1(x)).relu()
        x = self.maxpool(x)
        for n in range(4):
            x = getattr(self, f"layer{n + 1}")(x)
        out: Tensor = self.fc(x.flatten(2).mean(2))
        return out


class OptionA:
    """A function in the authors' code, hence no module and no weights."""

    def __init__(self, planes: int, stride: int) -> None:
        self.planes, self.stride = planes, stride

    def __call__(self, x: Tensor) -> Tensor:
        out = F.avg_pool3d(x, kernel_size=1, stride=self.stride)
        zeros = torch.zeros(out.size(0), self.planes - out.size(1), *out.shape[2:], dtype=out.dtype)
        return torch.cat([out, zeros], dim=1)
