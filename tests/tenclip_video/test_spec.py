from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.spec import ClipSpec, Resize


def test_span_counts_both_ends() -> None:
    # R = (L-1)*s + 1
    assert ClipSpec(num_frames=16).span == 16
    assert ClipSpec(num_frames=8, frame_stride=4).span == 29
    assert ClipSpec(num_frames=1, frame_stride=9).span == 1


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        (Resize(), (256, 340), (128, 171)),
        (Resize(), (1920, 1080), (128, 171)),
        (Resize(mode="short_edge", short_edge=128), (240, 320), (128, 170)),
        (Resize(mode="short_edge", short_edge=128), (320, 240), (170, 128)),
        (Resize(mode="short_edge", short_edge=128), (100, 100), (128, 128)),
        (Resize(mode="short_edge", short_edge=256), (1, 3000), (256, 768_000)),
        # 480 * 256 / 272 = 451.76: floored (PySlowFast, pytorchvideo, torchvision), rounded by MMAction2.
        (Resize(mode="short_edge", short_edge=256, kernel="torch_bilinear"), (272, 480), (256, 451)),
        (Resize(mode="short_edge", short_edge=256, kernel="pil_bilinear"), (272, 480), (256, 451)),
        (Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear"), (272, 480), (256, 452)),
        (Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear"), (480, 272), (452, 256)),
        # 45 * 3 / 2 = 67.5: halves go up. 341.33 goes down.
        (Resize(mode="short_edge", short_edge=3, kernel="opencv_bilinear"), (2, 45), (3, 68)),
        (Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear"), (240, 320), (256, 341)),
        (Resize(mode="none"), (17, 31), (17, 31)),
    ],
)
def test_resize_target(resize: Resize, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resize.target(*size) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 400))
def test_short_edge_is_the_short_edge(height: int, width: int, edge: int) -> None:
    target = Resize(mode="short_edge", short_edge=edge).target(height, width)
    assert min(target) == edge
    assert (target[0] <= target[1]) == (height <= width) or target[0] == target[1]
    # The long side is floored: less than a pixel off the aspect ratio.
    exact = edge * max(height, width) / min(height, width)
    assert 0 <= exact - max(target) < 1
    rounded = Resize(mode="short_edge", short_edge=edge, kernel="opencv_bilinear").target(height, width)
    assert min(rounded) == edge
    assert abs(exact - max(rounded)) <= 0.5 + 1e-6


@pytest.mark.parametrize("value_range", ["0-1", "0-255", "-1-1"])
@pytest.mark.parametrize("color_order", ["rgb", "bgr"])
def test_affine_normalises(value_range: Any, color_order: Any) -> None:
    spec = ClipSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), value_range=value_range, color_order=color_order)
    scale, bias = spec.affine()
    assert scale.dtype == bias.dtype == np.float32
    pixels = np.array([[0, 128, 255], [255, 1, 77]], np.uint8)
    values = {"0-1": pixels / 255, "0-255": pixels / 1.0, "-1-1": pixels / 127.5 - 1}[value_range]
    np.testing.assert_allclose(pixels * scale + bias, (values - spec.mean) / spec.std, rtol=1e-5, atol=1e-5)


def test_affine_of_the_default_is_that_of_kinetics() -> None:
    scale, bias = ClipSpec().affine()
    np.testing.assert_allclose(scale, [0.017198, 0.017709, 0.018072], rtol=1e-4)
    np.testing.assert_allclose(bias, [-1.895192, -1.782174, -1.734907], rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"frame_stride": 0}, "frame_stride"),
        ({"target_fps": 0.0}, "target_fps must be positive"),
        ({"target_fps": float("nan")}, "target_fps"),
        ({"crop": 0}, "crop must be at least 1"),
        ({"crop": 200}, "fully_convolutional_crop 128 is below the crop 200"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be positive"),
        ({"std": (0.1, math.inf, 0.1)}, "std must be positive and finite"),
        ({"std": (0.1, math.nan, 0.1)}, "std must be positive and finite"),
        ({"mean": (math.nan, 0.0, 0.1)}, "mean must be finite"),
        ({"target_fps": math.nan}, "target_fps must be positive"),
        ({"target_fps": math.inf}, "target_fps must be positive"),
        ({"mean": (0.1, 0.1)}, "need 3 values"),
        ({"value_range": "0-2"}, "value_range '0-2'"),
        ({"color_order": "yuv"}, "color_order 'yuv'"),
        ({"padding": "zeros"}, "padding 'zeros'"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "stretch"}, "'stretch'"),
        ({"kernel": "lanczos"}, "'lanczos'"),
        ({"height": 0}, "below 1"),
        ({"mode": "short_edge", "short_edge": -3}, "below 1"),
    ],
)
def test_bad_resizes_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Resize(**fields)


def test_survives_json() -> None:
    spec = ClipSpec(
        num_frames=32,
        frame_stride=2,
        target_fps=15.0,
        resize=Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear"),
        crop=224,
        fully_convolutional_crop=None,
        mean=(1.0, 2.0, 3.0),
        value_range="0-255",
        color_order="bgr",
    )
    assert ClipSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="ClipSpec has no field flip"):
        ClipSpec.from_dict({**ClipSpec().to_dict(), "flip": True})
    values = ClipSpec().to_dict()
    values["resize"]["depth"] = 3
    with pytest.raises(ValueError, match=r"ClipSpec\.resize has no field depth"):
        ClipSpec.from_dict(values)


def test_what_is_written_without_the_interlaced_mode_is_read_as_fields() -> None:
    """Bundles and checkpoints of before it was there."""
    values = ClipSpec().to_dict()
    assert values["resize"].pop("interlaced") == "fields"
    assert ClipSpec.from_dict(values) == ClipSpec()
    values["resize"]["interlaced"] = "progressive"
    assert ClipSpec.from_dict(values).resize.interlaced == "progressive"
    with pytest.raises(ValueError, match="interlaced 'bob' is not one of"):
        ClipSpec.from_dict({**values, "resize": {**values["resize"], "interlaced": "bob"}})
