"""Frame ResNets that look over time a little: I3D-R50 (inflated kernels) and C2D (none, but a max pool over time).

    stem      [B,3,T,H,W] -> [B,width,T/s,H/4,W/4], s = 4 in MMAction2's I3D and 1 elsewhere
    layer1    then a max pool over two frames
    layer2..4 -> [B,32*width,T/(2*s),H/32,W/32]

I3D-R50: Carreira and Zisserman 2017 (inflation) on He et al. 2016, as in Wang et al. 2018 (arXiv:1711.07971), whose
baseline C2D is.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tenclip_training.models.design import Design
from tenclip_training.models.parts import SPATIAL_STRIDES, build_2d, stem_3d, stem_pool_over
from tenclip_training.models.registry import register_architecture
from tenclip_training.models.resnet import residual_factory

# Kernels in time of the bottlenecks of each layer, which take them in turn.
I3D_TIMES: tuple[tuple[int, ...], ...] = ((3,), (3, 1), (3, 1), (1, 3))


def i3d_r50(
    width: int,
    *,
    reduce_times: Sequence[Sequence[int]] = I3D_TIMES,
    stem_time_stride: int = 1,
    pool_time_stride: int = 1,
    pool_frames: int = 2,
) -> Design:
    """ResNet with a 5x7x7 stem and (3,1,1) in some bottlenecks.

    `reduce_times`: kernels in time of each layer's bottlenecks, which take them in turn. MMAction2 strides by 2 in time
    in the stem's convolution and again in its pool (`conv1_stride_t`, `pool1_stride_t`), pytorchvideo in neither; no
    weight shows it. `pool_frames` is the pool over time behind layer1, 1 for none (`with_pool2`).
    """
    pool = nn.MaxPool3d((1, 3, 3), (pool_time_stride, 2, 2), (0, 1, 1))
    return Design(
        stem=stem_3d(width, time=5, stride=stem_time_stride, pool=pool),
        stem_strides=(stem_time_stride * pool_time_stride, 4),
        builds=build_2d,
        strides=SPATIAL_STRIDES,
        reduce_times=[tuple(times) for times in reduce_times],
        pool_frames=pool_frames,
    )


def c2d(width: int, *, padded: bool = True) -> Design:
    """ResNet on each frame, with a max pool over two frames behind layer1.

    `padded` False is MMAction2's, whose stem pools without padding: 55 pixels of 112, where others make 56.
    """
    pool = stem_pool_over(1) if padded else nn.MaxPool3d((1, 3, 3), (1, 2, 2))
    return Design(
        stem=stem_3d(width, time=1, pool=pool),
        stem_strides=(1, 4),
        stem_pool_padded=padded,
        builds=build_2d,
        strides=SPATIAL_STRIDES,
        pool_frames=2,
    )


_I3D = residual_factory(i3d_r50, blocks="bottleneck", depth=50, crop=224)
register_architecture(
    "mmaction2_i3d_r50",
    family="mmaction2",
    stem_time_stride=2,
    pool_time_stride=2,
    num_frames=32,
    head="global",
    parameters=28_043_472,
)(_I3D)
register_architecture("pytorchvideo_i3d_r50", family="pytorchvideo", parameters=28_043_472)(_I3D)

_C2D = residual_factory(c2d, blocks="bottleneck", depth=50, crop=224)
register_architecture("mmaction2_c2d_r50", family="mmaction2", padded=False, head="global")(_C2D)
register_architecture("mmaction2_c2d_r101", family="mmaction2", padded=False, head="global", depth=101)(_C2D)
register_architecture("pytorchvideo_c2d_r50", family="pytorchvideo")(_C2D)
