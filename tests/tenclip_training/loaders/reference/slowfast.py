"""SlowFast as pytorchvideo and as MMAction2 name and compute it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .mmaction2 import Block, ConvModule
from .pytorchvideo import ResBlock, ResStage, Stem

ONES = (1, 1, 1, 1)


# pytorchvideo: a list of blocks that pass on the two pathways' maps, slow first.


class Fuse(nn.Module):
    def __init__(self, planes: int, kernel: int, alpha: int) -> None:
        super().__init__()
        self.conv_fast_to_slow = nn.Conv3d(
            planes, 2 * planes, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(2 * planes)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [torch.cat([x[0], self.norm(self.conv_fast_to_slow(x[1])).relu()], 1), x[1]]


class MultiPath(nn.Module):
    def __init__(self, paths: list[nn.Module], fuse: nn.Module) -> None:
        super().__init__()
        self.multipathway_blocks = nn.ModuleList(paths)
        self.multipathway_fusion = fuse

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        out: list[Tensor] = self.multipathway_fusion(
            [block(part) for block, part in zip(self.multipathway_blocks, x, strict=True)]
        )
        return out


class PoolConcat(nn.Module):
    def __init__(self, sizes: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.pool = nn.ModuleList(nn.AvgPool3d(size, 1) for size in sizes)

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat([pool(part) for pool, part in zip(self.pool, x, strict=True)], 1)


class Projection(nn.Module):
    def __init__(self, planes: int, num_classes: int) -> None:
        super().__init__()
        self.proj = nn.Linear(planes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3).mean((2, 3, 4))
        return out


class PytorchvideoSlowFast(nn.Module):
    """`times`: kernels in time of layer3's bottlenecks, in both pathways, where they are not all 3."""

    def __init__(
        self,
        width: int,
        layers: Sequence[int] = ONES,
        *,
        kernel: int = 7,
        alpha: int = 4,
        frames: int = 32,
        times: Sequence[int] | None = None,
        num_classes: int = 400,
    ) -> None:
        super().__init__()
        self.alpha, thin = alpha, width // 8
        fast_stem = Stem(thin, 5, pool=True)
        blocks: list[nn.Module] = [MultiPath([Stem(width, 1, pool=True), fast_stem], Fuse(thin, kernel, alpha))]
        i = (width + 2 * thin, thin)
        for n in range(4):
            paths: list[nn.Module] = []
            for way, base in enumerate((width, thin)):
                p, o, inputs, stage = base * 2**n, 4 * base * 2**n, i[way], []
                for b in range(layers[n]):
                    time = 1 if way == 0 and n < 2 else 3 if times is None or n != 2 else times[b]
                    stage.append(ResBlock("slow", inputs, p, o, time, (1, 2) if n and not b else (1, 1)))
                    inputs = o
                paths.append(ResStage(stage))
            wide, narrow = 4 * width * 2**n, 4 * thin * 2**n
            blocks.append(MultiPath(paths, Fuse(narrow, kernel, alpha) if n < 3 else nn.Identity()))
            i = (wide + 2 * narrow, narrow)
        blocks += [PoolConcat([(frames // alpha, 7, 7), (frames, 7, 7)]), Projection(wide + narrow, num_classes)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, clips: Tensor) -> Tensor:
        frames = clips.shape[2]
        slow = torch.index_select(clips, 2, torch.linspace(0, frames - 1, frames // self.alpha).long())
        x: list[Tensor] | Tensor = [slow, clips]
        for block in self.blocks:
            x = block(x)
        assert isinstance(x, Tensor)
        return x


# MMAction2: the connections belong to the slow path and have no norm; the head puts the fast pathway first.


class Pathway(nn.Module):
    def __init__(
        self, width: int, layers: Sequence[int], *, slow: bool, kernel: int, alpha: int, ratio: int = 8
    ) -> None:
        super().__init__()
        self.conv1 = ConvModule(3, width, (1 if slow else 5, 7, 7), (1, 2, 2), act=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

        def lateral(planes: int) -> nn.Module:
            module = nn.Module()
            module.conv = nn.Conv3d(planes, 2 * planes, (kernel, 1, 1), (alpha, 1, 1), (kernel // 2, 0, 0), bias=False)
            return module

        if slow:
            self.conv1_lateral = lateral(width // ratio)
        i = width
        for n in range(4):
            p, o, blocks = width * 2**n, 4 * width * 2**n, []
            i += 2 * i // ratio if slow else 0
            for b in range(layers[n]):
                side = 2 if n and not b else 1
                downsample = ConvModule(i, o, (1, 1, 1), (1, side, side), act=False) if side > 1 or i != o else None
                time = 1 if slow and n < 2 else 3
                convs = [
                    ConvModule(i, p, (time, 1, 1), act=True),
                    ConvModule(p, p, (1, 3, 3), (1, side, side), act=True),
                    ConvModule(p, o, (1, 1, 1), act=False),
                ]
                blocks.append(Block(convs, downsample))
                i = o
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))
            if slow and n < 3:
                setattr(self, f"layer{n + 1}_lateral", lateral(o // ratio))


class SlowFastBackbone(nn.Module):
    def __init__(self, width: int, layers: Sequence[int], fast_layers: Sequence[int], kernel: int, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.slow_path = Pathway(width, layers, slow=True, kernel=kernel, alpha=alpha)
        self.fast_path = Pathway(width // 8, fast_layers, slow=False, kernel=kernel, alpha=alpha)

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        picked = nn.functional.interpolate(clips, mode="nearest", scale_factor=(1.0 / self.alpha, 1.0, 1.0))
        slow = self.slow_path.maxpool(self.slow_path.conv1(picked))
        fast = self.fast_path.maxpool(self.fast_path.conv1(clips))
        for n in range(4):
            name = "conv1_lateral" if n == 0 else f"layer{n}_lateral"
            slow = torch.cat((slow, getattr(self.slow_path, name).conv(fast)), dim=1)
            slow, fast = getattr(self.slow_path, f"layer{n + 1}")(slow), getattr(self.fast_path, f"layer{n + 1}")(fast)
        return slow, fast


class SlowFastHead(nn.Module):
    def __init__(self, planes: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(planes, num_classes)


class MMAction2SlowFast(nn.Module):
    def __init__(
        self,
        width: int,
        layers: Sequence[int] = ONES,
        fast_layers: Sequence[int] | None = None,
        *,
        kernel: int = 7,
        alpha: int = 4,
        num_classes: int = 400,
    ) -> None:
        super().__init__()
        self.backbone = SlowFastBackbone(width, layers, fast_layers or layers, kernel, alpha)
        self.cls_head = SlowFastHead(32 * width + 4 * width, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        slow, fast = self.backbone(clips)
        pooled = torch.cat((fast.mean((2, 3, 4)), slow.mean((2, 3, 4))), dim=1)
        out: Tensor = self.cls_head.fc_cls(pooled)
        return out
