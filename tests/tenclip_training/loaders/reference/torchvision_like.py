"""torchvision's VideoResNet, and VMZ's networks, which are built from its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

Maker = Callable[[int, int, int, int], nn.Module]  # in, out, mid of the block, stride


def formula(i: int, o: int) -> int:
    return (i * o * 27) // (i * 9 + 3 * o)


def pair(i: int, o: int, mid: int, stride: int) -> nn.Sequential:
    space = nn.Conv3d(i, mid, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    time = nn.Conv3d(mid, o, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)
    return nn.Sequential(space, nn.BatchNorm3d(mid), nn.ReLU(inplace=True), time)


def vmz_pair(i: int, o: int, mid: int, stride: int) -> nn.Sequential:
    return pair(i, o, formula(i, o), stride)  # whatever the block's mid


def whole(i: int, o: int, mid: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(i, o, 3, stride, 1, bias=False)


def flat(i: int, o: int, mid: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(i, o, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


def depthwise(i: int, o: int, mid: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(i, o, 3, stride, 1, groups=i, bias=False)


def ip(i: int, o: int, mid: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(i, o, 1, bias=False), nn.BatchNorm3d(o), depthwise(o, o, mid, stride))


class Basic(nn.Module):
    expansion = 1

    def __init__(self, i: int, p: int, maker: Maker, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        mid = formula(i, p)
        self.conv1 = nn.Sequential(maker(i, p, mid, stride), nn.BatchNorm3d(p), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(maker(p, p, mid, 1), nn.BatchNorm3d(p))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        side = x if self.downsample is None else self.downsample(x)
        out: Tensor = (self.conv2(self.conv1(x)) + side).relu()
        return out


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, i: int, p: int, maker: Maker, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv3d(i, p, 1, bias=False), nn.BatchNorm3d(p), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(maker(p, p, formula(i, p), stride), nn.BatchNorm3d(p), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(nn.Conv3d(p, 4 * p, 1, bias=False), nn.BatchNorm3d(4 * p))
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        side = x if self.downsample is None else self.downsample(x)
        out: Tensor = (self.conv3(self.conv2(self.conv1(x))) + side).relu()
        return out


def basic_stem(width: int, pool: bool = False) -> nn.Sequential:
    conv = nn.Conv3d(3, width, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *([nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))] if pool else []))


def r2plus1d_stem(width: int) -> nn.Sequential:
    mid = round(45 * width / 64)
    return nn.Sequential(
        nn.Conv3d(3, mid, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
        nn.BatchNorm3d(mid),
        nn.ReLU(inplace=True),
        nn.Conv3d(mid, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


class VideoResNet(nn.Module):
    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        makers: Sequence[Maker],
        layers: Sequence[int],
        stem: nn.Module,
        *,
        width: int = 64,
        num_classes: int = 400,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.inplanes = width
        self.stem = stem
        for n in range(4):
            layer = self._make_layer(block, makers[n], width * 2**n, layers[n], 1 if n == 0 else 2)
            setattr(self, f"layer{n + 1}", layer)
        self.fc = nn.Linear(width * 8 * block.expansion, num_classes)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm3d):
                m.eps = eps

    def _make_layer(
        self, block: type[Basic] | type[Bottleneck], maker: Maker, p: int, blocks: int, stride: int
    ) -> nn.Sequential:
        downsample = None
        if stride != 1 or self.inplanes != p * block.expansion:
            strides = (1, stride, stride) if maker is flat else (stride, stride, stride)
            downsample = nn.Sequential(
                nn.Conv3d(self.inplanes, p * block.expansion, 1, strides, bias=False),
                nn.BatchNorm3d(p * block.expansion),
            )
        made = [block(self.inplanes, p, maker, stride, downsample)]
        self.inplanes = p * block.expansion
        made += [block(self.inplanes, p, maker, 1, None) for _ in range(1, blocks)]
        return nn.Sequential(*made)

    def maps(self, x: Tensor) -> Tensor:
        for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
            x = getattr(self, name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.maps(x).mean((2, 3, 4)))
        return out


ONES = (1, 1, 1, 1)


def torchvision_r2plus1d(width: int, layers: Sequence[int] = ONES, **kwargs: int) -> VideoResNet:
    return VideoResNet(Basic, [pair] * 4, layers, r2plus1d_stem(width), width=width, **kwargs)


def torchvision_r3d(width: int, layers: Sequence[int] = ONES, **kwargs: int) -> VideoResNet:
    return VideoResNet(Basic, [whole] * 4, layers, basic_stem(width), width=width, **kwargs)


def torchvision_mc3(width: int, layers: Sequence[int] = ONES, **kwargs: int) -> VideoResNet:
    return VideoResNet(Basic, [whole, flat, flat, flat], layers, basic_stem(width), width=width, **kwargs)


def vmz_r2plus1d(width: int, layers: Sequence[int] = ONES, *, deep: bool = False, **kwargs: int) -> VideoResNet:
    block = Bottleneck if deep else Basic
    return VideoResNet(block, [vmz_pair] * 4, layers, r2plus1d_stem(width), width=width, eps=1e-3, **kwargs)


def vmz_csn(width: int, mode: str, layers: Sequence[int] = ONES, **kwargs: int) -> VideoResNet:
    makers = [{"ir": depthwise, "ip": ip}[mode]] * 4
    return VideoResNet(Bottleneck, makers, layers, basic_stem(width, pool=True), width=width, eps=1e-3, **kwargs)
