from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.data.clip_overrides import RESIZE, ClipOverrides
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.spec_changes import check_crop

PUBLIC = ClipSpec(
    num_frames=32,
    frame_stride=2,
    target_fps=30.0,
    resize=Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear"),
    crop=224,
    fully_convolutional_crop=256,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    value_range="0-255",
    color_order="bgr",
)


def test_nothing_asked_for_changes_nothing() -> None:
    assert ClipOverrides().apply_to(PUBLIC) is PUBLIC


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({"num_frames": 16}, {"num_frames": 16}),
        ({"frame_stride": 1}, {"frame_stride": 1}),
        ({"target_fps": 15.0}, {"target_fps": 15.0}),
        ({"target_fps": 0.0}, {"target_fps": None}),
        ({"mean": (0.5, 0.5, 0.5)}, {"mean": (0.5, 0.5, 0.5)}),
        ({"value_range": "0-1", "color_order": "rgb"}, {"value_range": "0-1", "color_order": "rgb"}),
        ({"interlaced": "progressive"}, {"resize": dataclasses.replace(PUBLIC.resize, interlaced="progressive")}),
        ({"resize_kernel": "pil_bilinear"}, {"resize": dataclasses.replace(PUBLIC.resize, kernel="pil_bilinear")}),
        ({"crop": 200}, {"crop": 200, "fully_convolutional_crop": 256}),
        ({"crop": 200, "fully_convolutional_crop": 0}, {"crop": 200, "fully_convolutional_crop": None}),
        (
            {"resize": (128,)},
            {
                "resize": dataclasses.replace(PUBLIC.resize, short_edge=128),
                "crop": 128,
                "fully_convolutional_crop": None,
            },
        ),
        (
            {"resize": (128, 171), "crop": 112},
            {
                "resize": dataclasses.replace(PUBLIC.resize, mode="squash", height=128, width=171),
                "crop": 112,
                "fully_convolutional_crop": 128,
            },
        ),
    ],
)
def test_only_what_is_asked_for_changes(asked: dict[str, Any], changed: dict[str, Any]) -> None:
    assert ClipOverrides(**asked).apply_to(PUBLIC) == dataclasses.replace(PUBLIC, **changed)


def test_a_family_without_a_larger_crop_gets_none() -> None:
    spec = dataclasses.replace(PUBLIC, fully_convolutional_crop=None)
    assert ClipOverrides(crop=112).apply_to(spec).fully_convolutional_crop is None


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"resize": (64,), "crop": 80}, "a crop of 80 pixels does not fit into frames resized to 64"),
        ({"crop": 257}, "a crop of 257 pixels does not fit"),
        ({"fully_convolutional_crop": 100}, "is below the crop"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"target_fps": -1.0}, "target_fps must be at least 0"),
        ({"value_range": "0-2"}, "value_range '0-2' is not one of"),
    ],
)
def test_clips_that_cannot_be_are_refused(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ClipOverrides(**asked).apply_to(PUBLIC)


SIDES = st.integers(8, 300)


@given(
    frames=st.none() | st.integers(1, 64),
    resize=st.none()
    | st.just(())
    | st.tuples(st.integers(8, 300))
    | st.tuples(st.integers(8, 300), st.integers(8, 300)),
    base=st.sampled_from([ClipSpec(), PUBLIC]),
)
def test_a_new_size_always_gives_crops_that_fit(frames: int | None, resize: Any, base: ClipSpec) -> None:
    changed = ClipOverrides(num_frames=frames, resize=resize).apply_to(base)
    check_crop(changed)
    assert changed.num_frames == (frames or base.num_frames)


@pytest.mark.parametrize("text", ["128x171", "256", "none"])
def test_sizes_are_written_as_they_are_read(text: str) -> None:
    assert RESIZE.show(RESIZE.parse(text)) == text


@pytest.mark.parametrize("text", ["", "big", "1x2x3", "0", "12x", "-3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="write HEIGHTxWIDTH"):
        RESIZE.parse(text)
