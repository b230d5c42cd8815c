"""Presets: what stands in the authors' code, and that the rest of tenclip can use it."""

from __future__ import annotations

import numpy as np
import pytest

from tenclip_training.loaders import PRESETS
from tenclip_training.loaders.presets import LABEL_SOURCES
from tenclip_video.protocols import PROTOCOLS, video_probabilities
from tenclip_video.sampling import plan_clips
from tenclip_video.spec import ClipSpec

FAMILIES = {p.family for p in PRESETS.values()}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_usable(name: str) -> None:
    preset = PRESETS[name]
    protocol = PROTOCOLS[preset.protocol]
    assert not protocol.fully_convolutional or preset.clip_spec.fully_convolutional_crop is not None
    assert ClipSpec.from_dict(preset.clip_spec.to_dict()) == preset.clip_spec
    assert name.startswith(preset.family)
    # The crop must lie inside what the resize gives.
    largest = preset.clip_spec.fully_convolutional_crop or preset.clip_spec.crop
    assert min(preset.clip_spec.resize.target(240, 320)) >= largest


@pytest.mark.parametrize(
    ("name", "clip", "crop", "kernel"),
    [
        ("torchvision", (16, 1, 15.0), (112, None), "torch_bilinear"),
        ("vmz", (32, 1, None), (112, 128), "swscale_fast_bilinear"),
        ("vmz-8f", (8, 1, None), (112, 128), "swscale_fast_bilinear"),
        ("vmz-csn", (32, 2, None), (224, 256), "swscale_fast_bilinear"),
        ("3d-resnets-2020", (16, 1, None), (112, None), "pil_bilinear"),
        ("mmaction2-8x8", (8, 8, None), (256, None), "opencv_bilinear"),
        ("mmaction2-4x16", (4, 16, None), (256, None), "opencv_bilinear"),
        ("mmaction2-vmz-32x2", (32, 2, None), (256, None), "opencv_bilinear"),
        ("pytorchvideo-16x4", (16, 4, 30.0), (256, None), "torch_bilinear"),
        ("i3d", (64, 1, None), (224, None), "opencv_bilinear"),
    ],
)
def test_clips(name: str, clip: tuple[int, int, float | None], crop: tuple[int, int | None], kernel: str) -> None:
    spec = PRESETS[name].clip_spec
    assert (spec.num_frames, spec.frame_stride, spec.target_fps) == clip
    assert (spec.crop, spec.fully_convolutional_crop) == crop
    assert spec.resize.kernel == kernel


@pytest.mark.parametrize(
    ("name", "of_black", "of_white"),
    [
        # (0 - mean) / std and (full - mean) / std of the red channel, from the authors' numbers
        ("vmz", -110.201 / 58.148, (255 - 110.201) / 58.148),
        ("torchvision", -0.43216 / 0.22803, (1 - 0.43216) / 0.22803),
        ("3d-resnets-2020", -0.4345 / 0.2768, (1 - 0.4345) / 0.2768),
        ("3d-resnets-2018", -114.7748, 255 - 114.7748),
        ("mmaction2-8x8", -123.675 / 58.395, (255 - 123.675) / 58.395),
        ("pytorchvideo-8x8", -2.0, (1 - 0.45) / 0.225),
        ("i3d", -1.0, 1.0),
        ("efficientnet-lite", -127 / 128, 1.0),
    ],
)
def test_normalisation(name: str, of_black: float, of_white: float) -> None:
    scale, bias = PRESETS[name].clip_spec.affine()
    np.testing.assert_allclose([bias[0], 255 * scale[0] + bias[0]], [of_black, of_white], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "clip", "crop", "top1"),
    [("mmaction2-x3d-s", (13, 6, 30.0), 182, "73.3"), ("mmaction2-x3d-m", (16, 5, 30.0), 256, "76.4")],
)
def test_x3d_of_mmaction2_is_that_of_its_1x_configs(
    name: str, clip: tuple[int, int, float], crop: int, top1: str
) -> None:
    """configs/recognition/x3d of 1.x, with `target_fps`, and the accuracy of 30 views in the README beside them."""
    preset = PRESETS[name]
    spec = preset.clip_spec
    assert (spec.num_frames, spec.frame_stride, spec.target_fps) == clip
    assert (spec.crop, spec.resize.short_edge) == (crop, crop)
    assert preset.published is not None
    assert top1 in preset.published
    clips = plan_clips(np.arange(300) / 30, 10.0, spec, PROTOCOLS[preset.protocol].selection)
    # Offsets are floor((300 - T * stride) / 9) apart.
    step = (300 - clip[0] * clip[1]) // 9
    assert [c.frames[0] for c in clips] == [k * step for k in range(10)]
    assert clips[-1].frames[-1] == 9 * step + clip[0] * clip[1] - 1


def test_c2d_without_pools_averages_before_the_classifier() -> None:
    """MMAction2's TSNHead: the mean of the features of all frames of all views, one classifier, one softmax."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 3, (10 * 3, 8, 5))  # [views, frames, D]
    weight, bias = rng.normal(0, 1, (4, 5)), rng.normal(0, 1, 4)
    scores = features.mean((0, 1)) @ weight.T + bias
    expected = np.exp(scores) / np.exp(scores).sum()
    logits = (features.mean(1) @ weight.T + bias).astype(np.float32)[..., None]  # [views, K, P]
    found = {}
    for name in ("mmaction2-tsn-8x8", "mmaction2-c2d-8x8"):
        protocol = PROTOCOLS[PRESETS[name].protocol]
        assert (protocol.num_planned, protocol.crop, protocol.selection.rule) == (30, "three", "mmaction2")
        found[name] = video_probabilities(logits, protocol.averaging)
    np.testing.assert_allclose(found["mmaction2-tsn-8x8"], expected, rtol=1e-5)
    # C2D with a pool is a Recognizer3D: the mean of the softmaxes, another distribution.
    assert np.abs(found["mmaction2-c2d-8x8"] - expected).max() > 0.05


def test_label_sources_name_known_families() -> None:
    assert {family for family, _ in LABEL_SOURCES} <= FAMILIES
