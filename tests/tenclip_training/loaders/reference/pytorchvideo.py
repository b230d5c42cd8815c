"""pytorchvideo's networks: a list of `blocks` (stem, four stages, head)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

ONES = (1, 1, 1, 1)


class Stem(nn.Module):
    def __init__(self, width: int, time: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, width, (time, 7, 7), (1, 2, 2), (time // 2, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)) if pool else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        return x if self.pool is None else self.pool(x)


class Conv2plus1d(nn.Module):
    """Time comes first."""

    def __init__(self, planes: int, stride: tuple[int, int]) -> None:
        super().__init__()
        t, s = stride
        self.conv_t = nn.Conv3d(planes, planes, (3, 1, 1), (t, 1, 1), (1, 0, 0), bias=False)
        self.norm = nn.BatchNorm3d(planes)
        self.conv_xy = nn.Conv3d(planes, planes, (1, 3, 3), (1, s, s), (0, 1, 1), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_xy(self.norm(self.conv_t(x)).relu())
        return out


class Branch2(nn.Module):
    def __init__(self, kind: str, i: int, p: int, o: int, time: int, stride: tuple[int, int]) -> None:
        super().__init__()
        t, s = stride
        self.conv_a = nn.Conv3d(i, p, (time, 1, 1), padding=(time // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(p)
        self.conv_b: nn.Module
        if kind in ("slow", "c2d", "i3d"):
            self.conv_b = nn.Conv3d(p, p, (1, 3, 3), (1, s, s), (0, 1, 1), bias=False)
        elif kind == "csn":
            self.conv_b = nn.Conv3d(p, p, 3, (t, s, s), 1, groups=p, bias=False)
        else:
            self.conv_b = Conv2plus1d(p, stride)
        self.norm_b = nn.BatchNorm3d(p)
        self.conv_c = nn.Conv3d(p, o, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(o)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_a(self.conv_a(x)).relu()
        x = self.norm_b(self.conv_b(x)).relu()
        out: Tensor = self.norm_c(self.conv_c(x))
        return out


class ResBlock(nn.Module):
    def __init__(self, kind: str, i: int, p: int, o: int, time: int, stride: tuple[int, int]) -> None:
        super().__init__()
        t, s = stride
        self.branch1_conv = self.branch1_norm = None
        if i != o or stride != (1, 1):
            self.branch1_conv = nn.Conv3d(i, o, 1, (t, s, s), bias=False)
            self.branch1_norm = nn.BatchNorm3d(o)
        self.branch2 = Branch2(kind, i, p, o, time, stride)

    def forward(self, x: Tensor) -> Tensor:
        side = x
        if self.branch1_conv is not None and self.branch1_norm is not None:
            side = self.branch1_norm(self.branch1_conv(x))
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


class Head(nn.Module):
    def __init__(self, planes: int, num_classes: int, pool: tuple[int, int, int], softmax: bool) -> None:
        super().__init__()
        self.pool, self.softmax = pool, softmax
        self.proj = nn.Linear(planes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool3d(x, self.pool, stride=1)
        x = self.proj(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
        x = x.softmax(1) if self.softmax else x
        return x.mean((2, 3, 4))


class Net(nn.Module):
    """`kind`: "slow", "csn", "r2plus1d", "c2d" or "i3d"; the last two pool over time in a block of its own."""

    def __init__(self, kind: str, width: int, layers: Sequence[int] = ONES, *, num_classes: int = 400) -> None:
        super().__init__()
        flat = ((1, 1), (1, 2), (1, 2), (1, 2))
        strides = {
            "slow": flat,
            "c2d": flat,
            "i3d": flat,
            "csn": ((1, 1), (2, 2), (2, 2), (2, 2)),
            "r2plus1d": ((1, 2), (1, 2), (2, 2), (2, 2)),
        }[kind]
        pool = (8, 7, 7) if kind == "slow" else (4, 7, 7)
        blocks: list[nn.Module] = [Stem(width, {"csn": 3, "i3d": 5}.get(kind, 1), pool=kind != "r2plus1d")]
        i = width
        for n in range(4):
            p, o = width * 2**n, 4 * width * 2**n
            stage = []
            for b in range(layers[n]):
                time = 3 if kind == "slow" and n >= 2 else 1
                if kind == "i3d":
                    time = ([3], [3, 1], [3, 1], [1, 3])[n][b % (1 if n == 0 else 2)]
                stage.append(ResBlock(kind, i, p, o, time, strides[n] if b == 0 else (1, 1)))
                i = o
            blocks.append(ResStage(stage))
            if n == 0 and kind in ("c2d", "i3d"):
                blocks.append(nn.MaxPool3d((2, 1, 1), (2, 1, 1)))
        blocks.append(Head(i, num_classes, pool, softmax=kind == "r2plus1d"))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x
