"""MMAction2's recognizers: `backbone` and `cls_head`, convolutions in ConvModules (`conv`, `bn`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

ONES = (1, 1, 1, 1)


class Conv2plus1d(nn.Module):
    def __init__(self, i: int, o: int, k: tuple[int, ...], s: tuple[int, ...], p: tuple[int, ...]) -> None:
        super().__init__()
        mid = int(3 * (i * o * k[1] * k[2]) / (i * k[1] * k[2] + 3 * o))
        self.conv_s = nn.Conv3d(i, mid, (1, k[1], k[2]), (1, s[1], s[2]), (0, p[1], p[2]), bias=False)
        self.bn_s = nn.BatchNorm3d(mid)  # epsilon 1e-5, whatever the outer ones have
        self.conv_t = nn.Conv3d(mid, o, (k[0], 1, 1), (s[0], 1, 1), (p[0], 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv_t(self.bn_s(self.conv_s(x)).relu())
        return out


class ConvModule(nn.Module):
    def __init__(
        self,
        i: int,
        o: int,
        k: tuple[int, ...],
        s: tuple[int, ...] = (1, 1, 1),
        *,
        act: bool,
        eps: float = 1e-5,
        groups: int = 1,
        factorised: bool = False,
    ) -> None:
        super().__init__()
        p = tuple(n // 2 for n in k)
        self.act = act
        if len(k) == 2:
            self.conv: nn.Module = nn.Conv2d(i, o, k, s[-2:], p, bias=False)  # type: ignore[arg-type]
            self.bn: nn.Module = nn.BatchNorm2d(o, eps=eps)
        else:
            plain = nn.Conv3d(i, o, k, s, p, groups=groups, bias=False)  # type: ignore[arg-type]
            self.conv = Conv2plus1d(i, o, k, s, p) if factorised else plain
            self.bn = nn.BatchNorm3d(o, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(self.conv(x))
        return out.relu() if self.act else out


class Block(nn.Module):
    def __init__(self, convs: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        for n, conv in enumerate(convs, 1):
            setattr(self, f"conv{n}", conv)
        self.count, self.downsample = len(convs), downsample

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for n in range(1, self.count + 1):
            out = getattr(self, f"conv{n}")(out)
        side = x if self.downsample is None else self.downsample(x)
        return (out + side).relu()


class Backbone(nn.Module):
    """`kind`: "r2plus1d", "slowonly", "ir", "ip", "2d", "c2d", "i3d" or "i3d-heavy"."""

    def __init__(self, kind: str, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        # C2D is the frame network with pools of its own; its modules are the same.
        self.pools_between = kind in ("c2d", "i3d", "i3d-heavy")
        self.is_c2d, self.heavy = kind == "c2d", kind == "i3d-heavy"
        kind = {"c2d": "2d", "i3d-heavy": "i3d"}.get(kind, kind)
        self.kind, basic = kind, kind == "r2plus1d"
        eps = 1e-3 if kind in ("r2plus1d", "ir", "ip") else 1e-5
        common: dict[str, Any] = {"eps": eps, "factorised": kind == "r2plus1d"}
        stem = {"2d": (7, 7), "slowonly": (1, 7, 7), "i3d": (5, 7, 7)}.get(kind, (3, 7, 7))
        step = 2 if kind == "i3d" and not self.heavy else 1
        self.conv1 = ConvModule(3, width, stem, (step, 2, 2), act=True, **common)
        pool2d, pool3d = nn.MaxPool2d(3, 2, 1), nn.MaxPool3d((1, 3, 3), (step, 2, 2), (0, 1, 1))
        self.maxpool: nn.Module = pool2d if kind == "2d" else pool3d
        i = width
        for n in range(4):
            p, out = width * 2**n, width * 2**n * (1 if basic else 4)
            blocks = []
            for b in range(layers[n]):
                side = 2 if n > 0 and b == 0 else 1
                time = side if kind in ("r2plus1d", "ir", "ip") else 1
                s = (time, side, side)
                one = (1, 1) if kind == "2d" else (1, 1, 1)
                downsample = ConvModule(i, out, one, s, act=False, **common) if side != 1 or i != out else None
                # I3D: all blocks of layer1, every second of layers 2 and 3 from the first, of layer4 from the second.
                inflated = self.heavy or n == 0 or b % 2 == (1 if n == 3 else 0)
                deep = inflated if kind == "i3d" else n >= 2
                blocks.append(Block(self._convs(kind, i, p, s, deep_time=deep, common=common), downsample))
                i = out
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))
        self.out = i

    def _convs(
        self, kind: str, i: int, p: int, s: tuple[int, int, int], *, deep_time: bool, common: dict[str, Any]
    ) -> list[nn.Module]:
        if kind == "r2plus1d":
            first = ConvModule(i, p, (3, 3, 3), s, act=True, **common)
            return [first, ConvModule(p, p, (3, 3, 3), act=False, **common)]
        if kind == "2d":
            return [
                ConvModule(i, p, (1, 1), act=True, **common),
                ConvModule(p, p, (3, 3), s, act=True, **common),
                ConvModule(p, 4 * p, (1, 1), act=False, **common),
            ]
        if kind in ("slowonly", "i3d"):
            reduce = (3, 1, 1) if deep_time else (1, 1, 1)
            middle: nn.Module = ConvModule(p, p, (1, 3, 3), s, act=True, **common)
        else:
            reduce = (1, 1, 1)
            depthwise = ConvModule(p, p, (3, 3, 3), s, act=True, groups=p, **common)
            mixing = [ConvModule(p, p, (1, 1, 1), act=False, **common)] if kind == "ip" else []
            middle = nn.Sequential(*mixing, depthwise)
        return [
            ConvModule(i, p, reduce, act=True, **common),
            middle,
            ConvModule(p, 4 * p, (1, 1, 1), act=False, **common),
        ]

    def forward(self, x: Tensor) -> Tensor:
        if self.is_c2d:
            return self._c2d(x)
        x = self.maxpool(self.conv1(x))
        for n in range(4):
            x = getattr(self, f"layer{n + 1}")(x)
            if n == 0 and self.pools_between:
                x = nn.functional.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        return x

    def _c2d(self, clips: Tensor) -> Tensor:
        batch = clips.shape[0]

        def to_3d(frames: Tensor) -> Tensor:
            return frames.reshape(batch, -1, *frames.shape[1:]).transpose(1, 2)

        def to_2d(x: Tensor) -> Tensor:
            return x.transpose(1, 2).flatten(0, 1)

        x = to_3d(self.conv1(to_2d(clips)))
        frames = to_2d(nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2)))  # no padding
        for n in range(4):
            frames = getattr(self, f"layer{n + 1}")(frames)
            if n == 0:
                frames = to_2d(nn.functional.max_pool3d(to_3d(frames), (2, 1, 1), (2, 1, 1)))
        return to_3d(frames)


class Head(nn.Module):
    def __init__(self, planes: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(planes, num_classes)


class Recognizer(nn.Module):
    def __init__(self, kind: str, width: int, layers: Sequence[int] = ONES, *, num_classes: int = 400) -> None:
        super().__init__()
        self.backbone = Backbone(kind, width, layers)
        self.cls_head = Head(self.backbone.out, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """[B,3,T,H,W]; a 2D recognizer takes its frames as segments and averages them before the classifier."""
        if self.backbone.kind == "2d" and not self.backbone.is_c2d:
            batch, _, frames = clips.shape[:3]
            maps = self.backbone(clips.transpose(1, 2).flatten(0, 1)).mean((2, 3))
            pooled = maps.reshape(batch, frames, -1).mean(1)
        else:
            pooled = self.backbone(clips).mean((2, 3, 4))
        out: Tensor = self.cls_head.fc_cls(pooled)
        return out


class OmniBlock(nn.Module):
    def __init__(self, i: int, p: int, time: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(i, p, (time, 1, 1), padding=(time // 2, 0, 0), bias=False)
        self.conv2 = nn.Conv3d(p, p, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.conv3 = nn.Conv3d(p, 4 * p, 1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm3d(p), nn.BatchNorm3d(p), nn.BatchNorm3d(4 * p)
        if i != 4 * p or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(i, 4 * p, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(4 * p)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        side = self.downsample(x) if hasattr(self, "downsample") else x
        result: Tensor = (self.bn3(self.conv3(out)) + side).relu()
        return result


class OmniBackbone(nn.Module):
    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.pool3d = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        i = width
        for n in range(4):
            blocks = []
            for b in range(layers[n]):
                blocks.append(OmniBlock(i, width * 2**n, 3 if n >= 2 else 1, 2 if n > 0 and b == 0 else 1))
                i = 4 * width * 2**n
            setattr(self, f"layer{n + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool3d(self.bn1(self.conv1(x)).relu())
        for n in range(4):
            x = getattr(self, f"layer{n + 1}")(x)
        return x


class OmniHead(nn.Module):
    def __init__(self, planes: int, num_classes: int) -> None:
        super().__init__()
        self.fc2d = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(planes), nn.Dropout(0.2), nn.Linear(planes, 10)
        )
        self.fc3d = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(planes, num_classes * 2),
            nn.BatchNorm1d(num_classes * 2),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(num_classes * 2, num_classes),
        )


class OmniRecognizer(nn.Module):
    def __init__(self, width: int, layers: Sequence[int] = ONES, *, num_classes: int = 400) -> None:
        super().__init__()
        self.backbone = OmniBackbone(width, layers)
        self.cls_head = OmniHead(32 * width, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        out: Tensor = self.cls_head.fc3d(self.backbone(clips))
        return out


def config_text(clip_len: int, frame_interval: int, mean: float) -> str:
    """A run's config as text, which MMAction2 keeps in `meta`."""
    return (
        f"img_norm_cfg = dict(\n    mean=[{mean}, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_bgr=False)\n"
        f"test_pipeline = [\n    dict(\n        type='SampleFrames',\n        clip_len={clip_len},\n"
        f"        frame_interval={frame_interval},\n        num_clips=10,\n        test_mode=True),\n]\n"
    )
