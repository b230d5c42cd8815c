"""Presets: the input and the test protocol of each public family, with which its accuracy was published.

A preset has the number of frames and their stride, sizes in pixels, normalisation, and the resize kernel of the
authors' own decoder. `--family` takes its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tenclip_video.spec import ClipSpec, Resize, ResizeKernel


@dataclass(frozen=True, kw_only=True)
class Preset:
    """`name` is the family, or the family and a variant where weights of one shape were trained on several inputs.

    `protocol` names one of `tenclip_video.protocols`. `published` is the authors' accuracy with it, `source` the
    repository that states all of this. `model` are config values for `create_model` that belong to the input.
    `shapes` are those that the published weights have and the architecture has not by default; the tensors of a file
    show them, so that loading takes them from there.
    """

    name: str
    family: str
    description: str
    clip_spec: ClipSpec
    protocol: str
    published: str | None = None
    source: str
    model: tuple[tuple[str, Any], ...] = ()
    shapes: tuple[tuple[str, Any], ...] = ()

    def made_for(self, crop: int) -> int:
        """The crop that the head is made for where clips are of `crop`, over the rest of which it slides."""
        return min(int(dict(self.model).get("crop", crop)), crop)


def _short_edge(side: int, kernel: ResizeKernel) -> Resize:
    return Resize(mode="short_edge", short_edge=side, height=side, width=side, kernel=kernel)


VMZ_SOURCE = "github.com/facebookresearch/VMZ"
TORCHVISION_SOURCE = "github.com/pytorch/vision torchvision/models/video"
RESNETS3D_SOURCE = "github.com/kenshohara/3D-ResNets-PyTorch"
MMACTION2_SOURCE = "github.com/open-mmlab/mmaction2"
PYTORCHVIDEO_SOURCE = "github.com/facebookresearch/pytorchvideo"
I3D_SOURCE = "github.com/piergiaj/pytorch-i3d"
EFFICIENTNET_SOURCE = "github.com/tensorflow/tpu models/official/efficientnet/lite"

# Mean and standard deviation of Kinetics, as torchvision, VMZ and ig65m have them: the defaults of ClipSpec.
VMZ_SPEC = ClipSpec(
    num_frames=32,
    resize=Resize(mode="squash", height=128, width=171, kernel="swscale_fast_bilinear"),
    crop=112,
    fully_convolutional_crop=128,
)
CSN_SPEC = replace(
    VMZ_SPEC,
    frame_stride=2,
    resize=_short_edge(256, "swscale_fast_bilinear"),
    crop=224,
    fully_convolutional_crop=256,
)
IMAGENET_SPEC = ClipSpec(
    num_frames=1,
    resize=_short_edge(256, "pil_bilinear"),
    crop=224,
    fully_convolutional_crop=None,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
# MMAction2 tests on crops of 256 pixels and pools over the whole map: it is not fully convolutional.
MMACTION2_SPEC = ClipSpec(
    num_frames=8,
    frame_stride=8,
    resize=_short_edge(256, "opencv_bilinear"),
    crop=256,
    fully_convolutional_crop=None,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    value_range="0-255",
)
MMACTION2_VMZ_SPEC = replace(
    MMACTION2_SPEC,
    num_frames=32,
    frame_stride=2,
    mean=(110.2008, 100.63983, 95.99475),
    std=(58.14765, 56.46975, 55.332195),
)
PYTORCHVIDEO_SPEC = ClipSpec(
    num_frames=8,
    frame_stride=8,
    target_fps=30.0,
    resize=_short_edge(256, "torch_bilinear"),
    crop=256,
    fully_convolutional_crop=None,
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
)
RESNETS3D_SPEC = ClipSpec(
    num_frames=16,
    resize=_short_edge(112, "pil_bilinear"),
    crop=112,
    fully_convolutional_crop=None,
    mean=(0.4345, 0.4051, 0.3775),
    std=(0.2768, 0.2713, 0.2737),
)

TORCHVISION = Preset(
    name="torchvision",
    family="torchvision",
    description="16 frames at 15 a second, squashed to 128x171",
    clip_spec=ClipSpec(
        num_frames=16,
        target_fps=15.0,
        resize=Resize(mode="squash", height=128, width=171, kernel="torch_bilinear"),
        crop=112,
        fully_convolutional_crop=None,
    ),
    protocol="torchvision-5",
    published="Kinetics-400 top-1/top-5 of videos: r2plus1d_18 67.46/86.18, r3d_18 63.20/83.48, mc3_18 63.96/84.13",
    source=TORCHVISION_SOURCE,
)
TORCHVISION_2D = Preset(
    name="torchvision-2d",
    family="torchvision-2d",
    description="a ResNet on single frames",
    clip_spec=IMAGENET_SPEC,
    protocol="tsn-3",
    source="github.com/pytorch/vision torchvision/models/resnet.py",
)
VMZ = Preset(
    name="vmz",
    family="vmz",
    description="32 frames, squashed to 128x171",
    clip_spec=VMZ_SPEC,
    protocol="fully-convolutional",
    published="Kinetics-400 top-1 of videos: R(2+1)D-152 from IG-65M 81.6, from Sports-1M 79.5, from scratch 77.3",
    source=VMZ_SOURCE,
)
VMZ_8F = replace(
    VMZ,
    name="vmz-8f",
    description="R(2+1)D-34 trained on 8 frames",
    clip_spec=replace(VMZ_SPEC, num_frames=8),
    published="Kinetics-400 top-1 of videos: R(2+1)D-34 from IG-65M 74.9",
)
VMZ_32F = replace(
    VMZ,
    name="vmz-32f",
    description="R(2+1)D-34 trained on 32 frames",
    published="Kinetics-400 top-1 of videos: R(2+1)D-34 from IG-65M 80.0",
)
IG65M_8F = replace(VMZ_8F, name="ig65m-8f", family="ig65m", source="github.com/moabitcoin/ig65m-pytorch")
IG65M_32F = replace(VMZ_32F, name="ig65m-32f", family="ig65m", source="github.com/moabitcoin/ig65m-pytorch")
VMZ_CSN = replace(
    VMZ,
    name="vmz-csn",
    description="32 frames, every second; short edge 256",
    clip_spec=CSN_SPEC,
    protocol="vmz-10x3",
    published="Kinetics-400 top-1 of videos from IG-65M: ir-CSN-152 82.6, ip-CSN-152 82.5 (10 clips x 3 crops of 256)",
)
RESNETS3D_2020 = Preset(
    name="3d-resnets-2020",
    family="3d-resnets",
    description="16 frames, 0-1 with mean and standard deviation (Kataoka et al. 2020)",
    clip_spec=RESNETS3D_SPEC,
    protocol="3d-resnets",
    source=RESNETS3D_SOURCE,
)
RESNETS3D_2018 = replace(
    RESNETS3D_2020,
    name="3d-resnets-2018",
    description="16 frames, 0-255 less their mean (Hara et al. 2018)",
    clip_spec=replace(RESNETS3D_SPEC, mean=(114.7748, 107.7354, 99.475), std=(1.0, 1.0, 1.0), value_range="0-255"),
    published="Kinetics-400, mean of top-1 and top-5: 18 layers 66.1, 34 71.0, 50 72.2, 101 73.3, 152 73.7, 200 73.7",
)
MMACTION2_8X8 = Preset(
    name="mmaction2-8x8",
    family="mmaction2",
    description="8 frames, every eighth",
    clip_spec=MMACTION2_SPEC,
    protocol="mmaction2-10x3",
    published="Kinetics-400 top-1 of videos: SlowOnly R50 75.15, R101 76.5 (OmniSource 80.4), R(2+1)D-34 68.68",
    source=MMACTION2_SOURCE,
)
MMACTION2_4X16 = replace(
    MMACTION2_8X8,
    name="mmaction2-4x16",
    description="4 frames, every sixteenth",
    clip_spec=replace(MMACTION2_SPEC, num_frames=4, frame_stride=16),
    published="Kinetics-400 top-1 of videos: SlowOnly R50 72.9 (OmniSource 76.8)",
)
MMACTION2_32X2 = replace(
    MMACTION2_8X8,
    name="mmaction2-32x2",
    description="32 frames, every second; ImageNet's mean (R(2+1)D-34; CSN fine-tuned by MMAction2 from IG-65M)",
    clip_spec=replace(MMACTION2_SPEC, num_frames=32, frame_stride=2),
    published="Kinetics-400 top-1 of videos: R(2+1)D-34 74.60, ir-CSN-152 from IG-65M 82.87, ir-CSN-50 79.44",
)
MMACTION2_VMZ_32X2 = replace(
    MMACTION2_8X8,
    name="mmaction2-vmz-32x2",
    description="32 frames, every second; VMZ's mean (CSN from scratch or Sports-1M, and others ported from VMZ)",
    clip_spec=MMACTION2_VMZ_SPEC,
    published="Kinetics-400 top-1 of videos: ip-CSN-152 77.80, ir-CSN-152 76.53, from Sports-1M 79.07 and 78.57",
)
MMACTION2_TSN = replace(
    MMACTION2_8X8,
    name="mmaction2-tsn",
    description="single frames of segments",
    clip_spec=replace(MMACTION2_SPEC, num_frames=1, frame_stride=1),
    protocol="tsn-25",
    published="Kinetics-400 top-1 of videos: 3 segments 70.6 (OmniSource 73.6), from IG-1B 73.1 (OmniSource 75.7)",
)
MMACTION2_TSN_8X8 = replace(
    MMACTION2_8X8,
    name="mmaction2-tsn-8x8",
    description="8 frames, every eighth, each by itself (C2D without pools)",
    clip_spec=replace(MMACTION2_SPEC, crop=224, resize=_short_edge(224, "opencv_bilinear")),
    # A Recognizer2D with a TSNHead: the features of all 10 * 3 * 8 frames are averaged, then come one classifier and
    # one softmax. That is the softmax of the mean logits.
    protocol="mmaction2-10x3-logits",
    published="Kinetics-400 top-1 of videos: C2D R50 without pools 73.16, R101 74.57",
)
MMACTION2_C2D_8X8 = replace(
    MMACTION2_TSN_8X8,
    name="mmaction2-c2d-8x8",
    description="C2D: 8 frames, every eighth",
    # A Recognizer3D with an I3DHead, average_clips="prob": the mean of the clips' softmaxes.
    protocol="mmaction2-10x3",
    published="Kinetics-400 top-1/top-5 of videos: C2D R50 with a temporal pool 73.57/90.96",
)
MMACTION2_C2D_16X4 = replace(
    MMACTION2_C2D_8X8,
    name="mmaction2-c2d-16x4",
    description="C2D: 16 frames, every fourth",
    clip_spec=replace(MMACTION2_C2D_8X8.clip_spec, num_frames=16, frame_stride=4),
    published="Kinetics-400 top-1/top-5 of videos: C2D R50 with a temporal pool 74.54/91.76",
)
MMACTION2_I3D_32X2 = replace(
    MMACTION2_32X2,
    name="mmaction2-i3d-32x2",
    description="I3D-R50: 32 frames, every second",
    published="Kinetics-400 top-1/top-5 of videos: i3d_r50_32x2x1 73.27/90.92",
)
MMACTION2_SLOWFAST_8X8 = replace(
    MMACTION2_32X2,
    name="mmaction2-slowfast-8x8",
    description="SlowFast 8x8: 32 frames, every second, 8 of them for the slow pathway",
    published="Kinetics-400 top-1/top-5 of videos: SlowFast R50 8x8 76.24/92.30, R101 8x8 76.29/91.97",
    model=(("alpha", 4),),
)
MMACTION2_SLOWFAST_4X16 = replace(
    MMACTION2_SLOWFAST_8X8,
    name="mmaction2-slowfast-4x16",
    description="SlowFast 4x16: 32 frames, every second, 4 of them for the slow pathway",
    published="Kinetics-400 top-1/top-5 of videos: SlowFast R50 4x16 75.51/92.05, R101 and R50 76.33/93.03",
    model=(("alpha", 8),),
    shapes=(("fusion_kernel", 5),),
)
# As in the configs of 1.x, to which their accuracies belong. Those of 0.x take the videos' own frames, the middles of
# 10 equal parts, and 192 pixels for S; their README has 73.3 and 75.5.
MMACTION2_X3D_S = replace(
    MMACTION2_8X8,
    name="mmaction2-x3d-s",
    description="X3D-S: 13 frames, every sixth at 30 a second, of 182 pixels (MMAction2 1.x)",
    clip_spec=replace(
        MMACTION2_SPEC,
        num_frames=13,
        frame_stride=6,
        target_fps=30.0,
        resize=_short_edge(182, "opencv_bilinear"),
        crop=182,
        mean=(114.75, 114.75, 114.75),
        std=(57.38, 57.38, 57.38),
    ),
    published="Kinetics-400 top-1 of videos: X3D-S 73.3 (weights of PySlowFast, tested by MMAction2 1.x)",
)
MMACTION2_X3D_M = replace(
    MMACTION2_X3D_S,
    name="mmaction2-x3d-m",
    description="X3D-M: 16 frames, every fifth at 30 a second, of 256 pixels (MMAction2 1.x)",
    clip_spec=replace(
        MMACTION2_X3D_S.clip_spec,
        num_frames=16,
        frame_stride=5,
        resize=_short_edge(256, "opencv_bilinear"),
        crop=256,
    ),
    published="Kinetics-400 top-1 of videos: X3D-M 76.4 (weights of PySlowFast, tested by MMAction2 1.x)",
)
PYTORCHVIDEO_SLOW = Preset(
    name="pytorchvideo-8x8",
    family="pytorchvideo",
    description="8 frames, every eighth at 30 a second",
    clip_spec=PYTORCHVIDEO_SPEC,
    protocol="pytorchvideo-10x3",
    published="Kinetics-400 top-1/top-5 of videos: slow_r50 74.58/91.63",
    source=PYTORCHVIDEO_SOURCE,
    # Above 224 pixels the authors average the logits of the positions.
    model=(("crop", 224), ("head", "mean")),
)
PYTORCHVIDEO_SLOW_4X16 = replace(
    PYTORCHVIDEO_SLOW,
    name="pytorchvideo-4x16",
    description="4 frames, every sixteenth at 30 a second",
    clip_spec=replace(PYTORCHVIDEO_SPEC, num_frames=4, frame_stride=16),
    published="Kinetics-400 top-1/top-5 of videos: slow_r50 72.40/90.18",
)
PYTORCHVIDEO_CSN = replace(
    PYTORCHVIDEO_SLOW,
    name="pytorchvideo-32x2",
    description="32 frames, every second at 30 a second",
    clip_spec=replace(PYTORCHVIDEO_SPEC, num_frames=32, frame_stride=2),
    published="Kinetics-400 top-1/top-5 of videos: csn_r101 77.00/92.90",
)
PYTORCHVIDEO_R2PLUS1D = replace(
    PYTORCHVIDEO_SLOW,
    name="pytorchvideo-16x4",
    description="16 frames, every fourth at 30 a second",
    clip_spec=replace(PYTORCHVIDEO_SPEC, num_frames=16, frame_stride=4),
    published="Kinetics-400 top-1/top-5 of videos: r2plus1d_r50 76.01/92.23",
    # Above 224 pixels the authors average the softmaxes of the positions, so each keeps its logits.
    model=(("crop", 224), ("head", "fixed")),
)
PYTORCHVIDEO_C2D = replace(
    PYTORCHVIDEO_SLOW,
    name="pytorchvideo-c2d-8x8",
    description="C2D: 8 frames, every eighth at 30 a second",
    published="Kinetics-400 top-1/top-5 of videos: c2d_r50 71.46/89.68",
)
PYTORCHVIDEO_I3D = replace(
    PYTORCHVIDEO_SLOW,
    name="pytorchvideo-i3d-8x8",
    description="I3D-R50: 8 frames, every eighth at 30 a second",
    published="Kinetics-400 top-1/top-5 of videos: i3d_r50 73.27/90.70",
)
PYTORCHVIDEO_SLOWFAST_8X8 = replace(
    PYTORCHVIDEO_CSN,
    name="pytorchvideo-slowfast-8x8",
    description="SlowFast 8x8: 32 frames, every second at 30 a second, 8 of them for the slow pathway",
    published="Kinetics-400 top-1/top-5 of videos: slowfast_r50 76.94/92.69, slowfast_r101 77.90/93.27",
    model=(("crop", 224), ("head", "mean"), ("alpha", 4)),
)
PYTORCHVIDEO_SLOWFAST_4X16 = replace(
    PYTORCHVIDEO_SLOWFAST_8X8,
    name="pytorchvideo-slowfast-4x16",
    description="SlowFast 4x16: 32 frames, every second at 30 a second, 4 of them for the slow pathway",
    published="Kinetics-400 top-1/top-5 of videos: slowfast_r50 4x16 75.34/91.89",
    model=(("crop", 224), ("head", "mean"), ("alpha", 8)),
    shapes=(("fusion_kernel", 5),),
)
PYTORCHVIDEO_SLOWFAST_16X8 = replace(
    PYTORCHVIDEO_SLOWFAST_8X8,
    name="pytorchvideo-slowfast-16x8",
    description="SlowFast 16x8: 64 frames, every second at 30 a second, 16 of them for the slow pathway",
    clip_spec=replace(PYTORCHVIDEO_SPEC, num_frames=64, frame_stride=2),
    published="Kinetics-400 top-1/top-5 of videos: slowfast_16x8_r101_50_50 78.70/93.61",
    # Of the 23 blocks of layer3, the first 6 look over time.
    shapes=(
        ("slow_times", (1, 1, (3,) * 6 + (1,) * 17, 3)),
        ("fast_times", (3, 3, (3,) * 6 + (1,) * 17, 3)),
    ),
)


def _x3d(name: str, num_frames: int, frame_stride: int, side: int, made_for: int, published: str) -> Preset:
    """X3D's clips; its head is made for the crop of training, and above it the softmaxes are averaged."""
    return replace(
        PYTORCHVIDEO_SLOW,
        name=f"pytorchvideo-x3d-{name.lower()}",
        description=f"X3D-{name}: {num_frames} frames, every {frame_stride}th at 30 a second, of {side} pixels",
        clip_spec=replace(
            PYTORCHVIDEO_SPEC,
            num_frames=num_frames,
            frame_stride=frame_stride,
            resize=_short_edge(side, "torch_bilinear"),
            crop=side,
        ),
        published=f"Kinetics-400 top-1/top-5 of videos: {published}",
        model=(("crop", made_for), ("head", "fixed")),
    )


PYTORCHVIDEO_X3D_XS = _x3d("XS", 4, 12, 182, 160, "x3d_xs 69.12/88.63")
PYTORCHVIDEO_X3D_S = _x3d("S", 13, 6, 182, 160, "x3d_s 73.33/91.27")
PYTORCHVIDEO_X3D_M = _x3d("M", 16, 5, 256, 224, "x3d_m 75.94/92.72")
PYTORCHVIDEO_X3D_L = _x3d("L", 16, 5, 356, 312, "x3d_l 77.44/93.31")
I3D = Preset(
    name="i3d",
    family="i3d",
    description="64 frames, x/255*2-1",
    clip_spec=ClipSpec(
        num_frames=64,
        resize=_short_edge(256, "opencv_bilinear"),
        crop=224,
        fully_convolutional_crop=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        value_range="-1-1",
    ),
    # The authors average logits over the positions in time.
    protocol="vmz-logits",
    source=I3D_SOURCE,
)
EFFICIENTNET_LITE = Preset(
    name="efficientnet-lite",
    family="efficientnet-lite",
    description="single frames, (x - 127) / 128",
    clip_spec=replace(IMAGENET_SPEC, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), value_range="0-255"),
    protocol="tsn-3",
    published="ImageNet top-1 75.1",
    source=EFFICIENTNET_SOURCE,
)
# The authors cut out a centre square of the short side times size / (size + 32) before they scale it.
EFFICIENTNET_LITE1 = replace(
    EFFICIENTNET_LITE,
    name="efficientnet-lite1",
    clip_spec=replace(EFFICIENTNET_LITE.clip_spec, resize=_short_edge(272, "pil_bilinear"), crop=240),
    published="ImageNet top-1 76.7",
)
EFFICIENTNET_LITE2 = replace(
    EFFICIENTNET_LITE,
    name="efficientnet-lite2",
    clip_spec=replace(EFFICIENTNET_LITE.clip_spec, resize=_short_edge(292, "pil_bilinear"), crop=260),
    published="ImageNet top-1 77.6",
)

PRESETS: dict[str, Preset] = {
    p.name: p
    for p in (
        TORCHVISION,
        TORCHVISION_2D,
        VMZ,
        VMZ_8F,
        VMZ_32F,
        VMZ_CSN,
        IG65M_8F,
        IG65M_32F,
        RESNETS3D_2018,
        RESNETS3D_2020,
        MMACTION2_8X8,
        MMACTION2_4X16,
        MMACTION2_32X2,
        MMACTION2_VMZ_32X2,
        MMACTION2_TSN,
        MMACTION2_TSN_8X8,
        MMACTION2_C2D_8X8,
        MMACTION2_C2D_16X4,
        MMACTION2_I3D_32X2,
        MMACTION2_SLOWFAST_8X8,
        MMACTION2_SLOWFAST_4X16,
        MMACTION2_X3D_S,
        MMACTION2_X3D_M,
        PYTORCHVIDEO_SLOW,
        PYTORCHVIDEO_SLOW_4X16,
        PYTORCHVIDEO_CSN,
        PYTORCHVIDEO_R2PLUS1D,
        PYTORCHVIDEO_C2D,
        PYTORCHVIDEO_I3D,
        PYTORCHVIDEO_SLOWFAST_8X8,
        PYTORCHVIDEO_SLOWFAST_4X16,
        PYTORCHVIDEO_SLOWFAST_16X8,
        PYTORCHVIDEO_X3D_XS,
        PYTORCHVIDEO_X3D_S,
        PYTORCHVIDEO_X3D_M,
        PYTORCHVIDEO_X3D_L,
        I3D,
        EFFICIENTNET_LITE,
        EFFICIENTNET_LITE1,
        EFFICIENTNET_LITE2,
    )
}
# Public label lists by family and number of classes; a name, not the list. Order is the authors' own.
LABEL_SOURCES: dict[tuple[str, int], str] = {
    **{(family, 400): "kinetics400" for family in ("torchvision", "vmz", "ig65m", "mmaction2", "pytorchvideo", "i3d")},
    ("3d-resnets", 400): "kinetics400",
    ("3d-resnets", 700): "kinetics700",
    ("3d-resnets", 339): "moments_in_time",
    ("torchvision-2d", 1000): "imagenet",
    ("efficientnet-lite", 1000): "imagenet",
}
