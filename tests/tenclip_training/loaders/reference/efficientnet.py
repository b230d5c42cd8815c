"""EfficientNet-Lite0 to 2 as the `efficientnet_lite_pytorch` port names it, for single images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)]
BLOCKS += [(3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]

# Of the authors' `efficientnet-lite1` and `efficientnet-lite2`: (1.0, 1.1) and (1.1, 1.2) in width and depth.
LITE1 = [(1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 40), (4, 3, 2, 6, 80)]
LITE1 += [(4, 5, 1, 6, 112), (5, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
LITE2 = [(1, 3, 1, 1, 16), (3, 3, 2, 6, 24), (3, 5, 2, 6, 48), (4, 3, 2, 6, 88)]
LITE2 += [(4, 5, 1, 6, 120), (5, 5, 2, 6, 208), (1, 3, 1, 6, 352)]


def same(x: Tensor, k: int, s: int) -> Tensor:
    pads: list[int] = []
    for n in (x.shape[3], x.shape[2]):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def norm(planes: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(planes, eps=1e-3, momentum=0.01)


class MBConvBlock(nn.Module):
    def __init__(self, i: int, o: int, k: int, s: int, expand: int) -> None:
        super().__init__()
        wide, self.k, self.s = i * expand, k, s
        self.expands, self.skips = expand != 1, s == 1 and i == o
        if self.expands:
            self._expand_conv, self._bn0 = nn.Conv2d(i, wide, 1, bias=False), norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, k, s, groups=wide, bias=False)
        self._bn1 = norm(wide)
        self._project_conv, self._bn2 = nn.Conv2d(wide, o, 1, bias=False), norm(o)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        out = F.relu6(self._bn1(self._depthwise_conv(same(out, self.k, self.s))))
        narrow: Tensor = self._bn2(self._project_conv(out))
        return narrow + x if self.skips else narrow


class EfficientNet(nn.Module):
    def __init__(
        self, width: int, *, num_classes: int = 1000, sizes: list[tuple[int, int, int, int, int]] = BLOCKS
    ) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, width, 3, 2, bias=False), norm(width)
        blocks, i = [], width
        for repeats, k, s, expand, planes in sizes:
            for r in range(repeats):
                o = planes * width // 32
                blocks.append(MBConvBlock(i, o, k, s if r == 0 else 1, expand))
                i = o
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = nn.Conv2d(i, 40 * width, 1, bias=False), norm(40 * width)
        self._fc = nn.Linear(40 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(same(x, 3, 2))))
        for block in self._blocks:
            x = block(x)
        out: Tensor = self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))
        return out
