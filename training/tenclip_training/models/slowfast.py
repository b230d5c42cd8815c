"""SlowFast: a wide network that sees few frames, fed by a narrow one that sees all (Feichtenhofer et al. 2019).

    slow  [B,3,T/alpha,H,W] -> [B,32*width,T/alpha,H/32,W/32]
    fast  [B,3,T,H,W]       -> [B,4*width,T,H/32,W/32], and after stem and layers 1 to 3 into slow

Both see one clip: the slow pathway's frames are taken from it inside the network, so its input is one tensor.
arXiv:1812.03982, as in pytorchvideo and MMAction2, which differ in the frames they take, in the connections between the
pathways (BN and ReLU behind them, or nothing) and in the order of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_training.models.blocks import conv, init_weights, set_batch_norm
from tenclip_training.models.design import Design
from tenclip_training.models.parts import SPATIAL_STRIDES, build_2d, stem_3d, stem_pool_over
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import EXPANSION, residual_layers, stages_of
from tenclip_training.models.video_model import Head, PoolSize, VideoModel, classifier, pool_size

# linspace: T / alpha frames from the first to the last, evenly, rounded down (PySlowFast, pytorchvideo).
# stride: every alpha-th frame (MMAction2).
SlowFrames = Literal["linspace", "stride"]
SLOW_TIMES: tuple[int, ...] = (1, 1, 3, 3)
FAST_TIMES: tuple[int, ...] = (3, 3, 3, 3)
Times = Sequence[int | Sequence[int]]


class Pathway(nn.Module):
    """Stem and four layers; `lateral_planes(i)` are joined to the input of layer i."""

    def __init__(
        self,
        width: int,
        stages: Sequence[int],
        *,
        stem_time: int,
        times: Times,
        lateral_planes: Callable[[int], int] = lambda layer: 0,
    ) -> None:
        super().__init__()
        design = Design(
            stem=stem_3d(width, time=stem_time, pool=stem_pool_over(1)),
            stem_strides=(1, 4),
            builds=build_2d,
            strides=SPATIAL_STRIDES,
            reduce_times=times,
        )
        self.stem = design.stem
        layers, self.planes = residual_layers(
            design, in_planes=width, width=width, stages=stages, bottleneck=True, lateral_planes=lateral_planes
        )
        self.layer1, self.layer2, self.layer3, self.layer4 = layers

    def parts(self) -> list[nn.Module]:
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]


class SlowFast(VideoModel):
    """Two pathways and the connections from fast to slow. See `slowfast` for the arguments."""

    def __init__(
        self,
        *,
        num_classes: int | None,
        width: int,
        beta: int,
        alpha: int,
        stages: Sequence[int],
        fast_stages: Sequence[int],
        slow_times: Times,
        fast_times: Times,
        fusion_kernel: int,
        lateral_norm: bool,
        slow_frames: SlowFrames,
        fast_first: bool,
        pool_size: PoolSize | None,
        bn_eps: float,
    ) -> None:
        super().__init__(pool_size=pool_size)
        self.alpha, self.slow_frames, self.fast_first = alpha, slow_frames, fast_first
        fast_width = width // beta
        # Planes of the fast pathway before layer 1 to 4 of the slow one; twice as many go over.
        fast_planes = [fast_width, *(EXPANSION * fast_width * 2**i for i in range(3))]
        self.slow = Pathway(
            width, stages, stem_time=1, times=slow_times, lateral_planes=lambda layer: 2 * fast_planes[layer - 1]
        )
        self.fast = Pathway(fast_width, fast_stages, stem_time=5, times=fast_times)
        self.lateral = nn.ModuleList(
            _lateral(planes, kernel=fusion_kernel, stride=alpha, norm=lateral_norm) for planes in fast_planes
        )
        self.fc = classifier(self.slow.planes + self.fast.planes, num_classes)
        init_weights(self)
        set_batch_norm(self, eps=bn_eps)

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """A stage is that of both pathways, with the connection behind it."""
        names = ("stem", "layer1", "layer2", "layer3", "layer4")
        both = zip(names, self.slow.parts(), self.fast.parts(), strict=True)
        found = {name: (slow, fast, *self.lateral[i : i + 1]) for i, (name, slow, fast) in enumerate(both)}
        return {**found, "fc": (self.fc,)} if self.num_classes else found

    def feature_map(self, clips: Tensor) -> Tensor:
        """float [B,3,T,H,W] -> float [B,C,T/alpha,H/32,W/32]: slow, and fast averaged over every alpha frames.

        Raises ValueError where T is no multiple of alpha.
        """
        frames = clips.shape[2]
        if frames % self.alpha:
            raise ValueError(f"a clip of {frames} frames cannot be split into {self.alpha} (alpha) equal parts")
        chosen = slow_frame_indices(frames, self.alpha, self.slow_frames)
        slow, fast = clips[:, :, torch.tensor(chosen, device=clips.device)], clips
        for i, (slow_part, fast_part) in enumerate(zip(self.slow.parts(), self.fast.parts(), strict=True)):
            slow, fast = slow_part(slow), fast_part(fast)
            if i < len(self.lateral):
                slow = torch.cat([slow, self.lateral[i](fast)], dim=1)
        fast = F.avg_pool3d(fast, (self.alpha, 1, 1), stride=(self.alpha, 1, 1))
        return torch.cat([fast, slow] if self.fast_first else [slow, fast], dim=1)


def slow_frame_indices(num_frames: int, alpha: int, rule: SlowFrames) -> list[int]:
    """Which frames of a clip the slow pathway sees. They are counted in float32, as torch.linspace does.

    >>> slow_frame_indices(32, 4, "linspace"), slow_frame_indices(32, 8, "stride")
    ([0, 4, 8, 13, 17, 22, 26, 31], [0, 8, 16, 24])
    """
    count = num_frames // alpha
    if rule == "stride":
        return list(range(0, count * alpha, alpha))
    if count == 1:
        return [0]
    last = np.float32(num_frames - 1)
    step = last / np.float32(count - 1)
    # torch counts the second half from the end.
    ahead = [step * np.float32(i) for i in range(count // 2)]
    behind = [last - step * np.float32(count - 1 - i) for i in range(count // 2, count)]
    return [int(index) for index in [*ahead, *behind]]


def _lateral(planes: int, *, kernel: int, stride: int, norm: bool) -> nn.Sequential:
    """A convolution over time that brings the fast pathway's frames to the slow one's number."""
    layers: list[nn.Module] = [conv(planes, 2 * planes, (kernel, 1), (stride, 1))]
    if norm:
        layers += [nn.BatchNorm3d(2 * planes), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


@register_architecture("pytorchvideo_slowfast_r50", family="pytorchvideo", fusion_kernel=7)
@register_architecture("pytorchvideo_slowfast_r101", family="pytorchvideo", depth=101)
@register_architecture(
    "mmaction2_slowfast_r50",
    family="mmaction2",
    fusion_kernel=7,
    lateral_norm=False,
    slow_frames="stride",
    fast_first=True,
    head="global",
)
@register_architecture(
    "mmaction2_slowfast_r101",
    family="mmaction2",
    depth=101,
    fusion_kernel=7,
    lateral_norm=False,
    slow_frames="stride",
    fast_first=True,
    head="global",
)
def slowfast(
    *,
    num_classes: int | None,
    depth: int = 50,
    width: int = 64,
    beta: int = 8,
    alpha: int = 4,
    num_frames: int = 32,
    crop: int = 224,
    head: Head = "fixed",
    stages: Sequence[int] | None = None,
    fast_stages: Sequence[int] | None = None,
    slow_times: Times = SLOW_TIMES,
    fast_times: Times = FAST_TIMES,
    fusion_kernel: int = 5,
    lateral_norm: bool = True,
    slow_frames: SlowFrames = "linspace",
    fast_first: bool = False,
    bn_eps: float = 1e-5,
) -> VideoModel:
    """SlowFast. `num_frames` are the fast pathway's; the slow one sees `num_frames / alpha` of them, chosen by
    `slow_frames`, and has `beta` times as many planes.

    `fast_stages` are the blocks of the fast pathway, as `stages` unless given. `slow_times` and `fast_times` are
    kernels in time of the bottlenecks, one number a layer or some that its blocks take in turn. `fusion_kernel` is the
    kernel in time of the connections, with BN and ReLU behind them for `lateral_norm`. `fast_first` puts the fast
    pathway's features before the slow one's.
    """
    if slow_frames not in get_args(SlowFrames):
        raise ValueError(f"slow_frames must be one of {get_args(SlowFrames)}, got {slow_frames!r}")
    if alpha < 1 or num_frames % alpha:
        raise ValueError(f"num_frames must be a multiple of alpha ({alpha}), got {num_frames}")
    if beta < 1 or width % beta:
        raise ValueError(f"width must be a multiple of beta ({beta}), got {width}")
    blocks, _ = stages_of(depth, stages, True)
    fast_blocks, _ = stages_of(depth, fast_stages or blocks, True)
    return SlowFast(
        num_classes=num_classes,
        width=width,
        beta=beta,
        alpha=alpha,
        stages=blocks,
        fast_stages=fast_blocks,
        slow_times=slow_times,
        fast_times=fast_times,
        fusion_kernel=fusion_kernel,
        lateral_norm=lateral_norm,
        slow_frames=slow_frames,
        fast_first=fast_first,
        pool_size=pool_size(head, num_frames=num_frames, crop=crop, strides=(alpha, 32)),
        bn_eps=bn_eps,
    )
