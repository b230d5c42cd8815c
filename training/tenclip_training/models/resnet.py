"""3D residual networks: one skeleton, and the stage builder that all residual families use.

A family is a `Design`: a table of what it puts into the skeleton. `residual_factory` makes the architectures' factory
of it.

Modules are named as in torchvision and VMZ (`stem`, `layer1..4`, `conv1.0`, `downsample.0`, `fc`).

    stem       [B,3,T,H,W] -> [B,width,T,H/2,W/2]
    layer1..4  -> [B,8*width,T/8,H/16,W/16], times 4 where blocks are bottlenecks

(sizes for the strides of R(2+1)D; every side is rounded up). A frame model is the same network with kernels that do not
look over time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from tenclip_training.models.blocks import Conv2Plus1d, conv, init_weights, set_batch_norm
from tenclip_training.models.design import Design, check_clip_size
from tenclip_training.models.parts import ConvBuilder, ShortcutBuilder, Stride, shortcut_b
from tenclip_training.models.video_model import Head, VideoModel, check_head, classifier

STAGES: dict[int, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
EXPANSION = 4  # of a bottleneck


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(
        self, in_planes: int, planes: int, stride: Stride, build: ConvBuilder, shortcut: nn.Module | None
    ) -> None:
        super().__init__()
        first, second = build(in_planes, planes, stride, in_planes), build(planes, planes, (1, 1), in_planes)
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(second, nn.BatchNorm3d(planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv2(self.conv1(x)) + residual)
        return out


class Bottleneck(nn.Module):
    """Down to `planes`, the convolution over space and time with the stride, 1x1x1 up to 4 * `planes`.

    The first is 1x1x1, or `reduce_time` x1x1 where a family looks over time there (SlowOnly).
    """

    def __init__(
        self,
        in_planes: int,
        planes: int,
        stride: Stride,
        build: ConvBuilder,
        shortcut: nn.Module | None,
        *,
        reduce_time: int = 1,
    ) -> None:
        super().__init__()
        out_planes = EXPANSION * planes
        reduce, middle = conv(in_planes, planes, (reduce_time, 1)), build(planes, planes, stride, in_planes)
        self.conv1 = nn.Sequential(reduce, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(middle, nn.BatchNorm3d(planes), nn.ReLU(inplace=True))
        self.conv3 = nn.Sequential(conv(planes, out_planes, (1, 1)), nn.BatchNorm3d(out_planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.conv3(self.conv2(self.conv1(x))) + residual)
        return out


class VideoResNet(VideoModel):
    """Stem, four layers of residual blocks, head."""

    def __init__(
        self,
        design: Design,
        *,
        num_classes: int | None,
        stages: Sequence[int],
        width: int,
        bottleneck: bool,
        num_frames: int,
        crop: int,
        head: Head,
        bn_eps: float,
        hidden: int | None = None,
        zero_gamma: bool = False,
    ) -> None:
        """`stages`: blocks in each layer. `hidden`: size of a linear layer, with BN and ReLU, before the classifier."""
        check_head(head, num_frames=num_frames, crop=crop)
        final_map = design.map_size(num_frames, crop)  # too small a clip is an error with any head
        super().__init__(pool_size=None if head == "global" else final_map)
        self.smallest_clip = design.smallest_clip
        self.stem = design.stem
        layers, in_planes = residual_layers(design, in_planes=width, width=width, stages=stages, bottleneck=bottleneck)
        for i, layer in enumerate(layers, 1):
            self.add_module(f"layer{i}", layer)
        frames = (design.pool_frames, 1, 1)
        self.after_layer1 = nn.MaxPool3d(frames, frames) if design.pool_frames > 1 else None
        self.hidden = (
            None if hidden is None else nn.Sequential(nn.Linear(in_planes, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        )
        self.fc = classifier(hidden or in_planes, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps)
        if design.inner_bn_eps is not None:
            set_inner_batch_norm(self, eps=design.inner_bn_eps)
        if zero_gamma:
            zero_init_gamma(self)

    def feature_map(self, clips: Tensor) -> Tensor:
        """See `VideoModel.feature_map`. Raises ValueError for clips that do not fill the kernels of the pools."""
        # Under an exporter sizes are symbols, and under a tracer tensors: comparing them would fix them in the graph.
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # type: ignore[attr-defined,no-untyped-call]
            check_clip_size(clips.shape[2], min(clips.shape[3:]), self.smallest_clip)
        x: Tensor = self.stem(clips)
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
            if i == 1 and self.after_layer1 is not None:
                x = self.after_layer1(x)
        return x

    def project(self, pooled: Tensor) -> Tensor:
        if self.hidden is None:
            return pooled
        batch, positions, planes = pooled.shape
        projected: Tensor = self.hidden(pooled.reshape(-1, planes))  # BatchNorm1d takes [B*P,C]
        return projected.reshape(batch, positions, -1)


def residual_layers(
    design: Design,
    *,
    in_planes: int,
    width: int,
    stages: Sequence[int],
    bottleneck: bool,
    lateral_planes: Callable[[int], int] = lambda layer: 0,
) -> tuple[list[nn.Sequential], int]:
    """The four layers of a design, and the planes that come out of the last.

    `in_planes` come out of the stem, `width` are the planes of layer1. `lateral_planes(i)` are joined to the input of
    layer i (1 to 4), as in SlowFast's slow pathway.
    """
    builds = [design.builds] * 4 if callable(design.builds) else design.builds
    layers: list[nn.Sequential] = []
    per_layer = zip(builds, stages, design.strides, design.reduce_times, strict=True)
    for i, (build, blocks, stride, reduce_time) in enumerate(per_layer, 1):
        in_turn = [reduce_time] if isinstance(reduce_time, int) else reduce_time
        layer, in_planes = residual_layer(
            in_planes + lateral_planes(i),
            width * 2 ** (i - 1),
            stride,
            build,
            design.shortcut or shortcut_b,
            reduce_times=list(islice(cycle(in_turn), blocks)),
            bottleneck=bottleneck,
        )
        layers.append(layer)
    return layers, in_planes


def residual_layer(
    in_planes: int,
    planes: int,
    stride: Stride,
    build: ConvBuilder,
    shortcut: ShortcutBuilder,
    *,
    reduce_times: Sequence[int],
    bottleneck: bool,
) -> tuple[nn.Sequential, int]:
    """One layer, and the planes that come out of it. The first block has the stride. `reduce_times`: one a block."""
    out_planes = planes * (EXPANSION if bottleneck else 1)
    modules: list[nn.Module] = []
    for reduce_time in reduce_times:
        changes_shape = stride != (1, 1) or in_planes != out_planes
        side = shortcut(in_planes, out_planes, stride) if changes_shape else None
        modules.append(
            Bottleneck(in_planes, planes, stride, build, side, reduce_time=reduce_time)
            if bottleneck
            else BasicBlock(in_planes, planes, stride, build, side)
        )
        in_planes, stride = out_planes, (1, 1)
    return nn.Sequential(*modules), in_planes


def residual_factory(design: Callable[..., Design], **defaults: Any) -> Callable[..., VideoModel]:
    """A factory for `register_architecture`, of networks with this design.

    `design(width, **options)` gives the family's choices; its keyword-only options become config values of the
    architecture, with their defaults. `defaults` are those of the other config values: `num_frames`, `crop`, `head`,
    `bn_eps`, `stages`, and where the family varies them `depth`, `bottleneck`, `hidden`, `zero_gamma`. `blocks`
    ("basic" or "bottleneck") is no config value: it says which blocks a family has whose depth does not decide it.
    """
    blocks = defaults.pop("blocks", None)
    options = {p.name: p.default for p in inspect.signature(design).parameters.values() if p.kind is p.KEYWORD_ONLY}
    config: dict[str, Any] = {
        "width": 64,
        "num_frames": 8,
        "crop": 112,
        "head": "fixed",
        "stages": None,
        "bn_eps": 1e-5,
    }
    config |= {**defaults, **options}

    def factory(*, num_classes: int | None, **values: Any) -> VideoModel:
        chosen = {name: values.pop(name) for name in options}
        bottleneck = values.pop("bottleneck", None) if blocks is None else blocks == "bottleneck"
        stages, bottleneck = stages_of(values.pop("depth", 18), values.pop("stages"), bottleneck)
        made = design(values["width"], **chosen)
        return VideoResNet(made, num_classes=num_classes, stages=stages, bottleneck=bottleneck, **values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=value) for name, value in config.items()]
    # `config_defaults` and `create_model` read the config values from the signature.
    factory.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("num_classes", keyword), *parameters]
    )
    factory.__doc__ = design.__doc__
    return factory


def stages_of(depth: int, stages: Sequence[int] | None, bottleneck: bool | None) -> tuple[tuple[int, ...], bool]:
    """(blocks in each layer, whether they are bottlenecks): those given, or those of the depth."""
    if depth not in STAGES and (stages is None or bottleneck is None):
        raise ValueError(f"depth must be one of {', '.join(map(str, STAGES))}, got {depth}")
    blocks = STAGES[depth] if stages is None else tuple(stages)
    if len(blocks) != 4 or min(blocks) < 1:
        raise ValueError(f"stages must be 4 numbers of blocks, each at least 1, got {blocks}")
    return blocks, depth >= 50 if bottleneck is None else bottleneck


def zero_init_gamma(model: nn.Module) -> None:
    """Starts every residual branch at zero: its last batch norm's gamma (Goyal et al. 2017, section 5.1)."""
    for part in model.modules():
        if isinstance(part, BasicBlock | Bottleneck):
            norm = (part.conv3 if isinstance(part, Bottleneck) else part.conv2)[1]
            assert isinstance(norm, nn.BatchNorm3d)
            nn.init.zeros_(norm.weight)


def set_inner_batch_norm(model: VideoResNet, *, eps: float) -> None:
    """Sets the epsilon of the batch norms between the halves of (2+1)D pairs, that of the stem included."""
    for pair in [model.stem, *(part for part in model.modules() if isinstance(part, Conv2Plus1d))]:
        between = pair[1]
        assert isinstance(between, nn.BatchNorm3d)
        between.eps = eps
