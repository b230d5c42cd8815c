from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.protocols import CropMode
from tenclip_video.transforms import center_offset, crop_offsets, pyslowfast_offsets, three_crop_offsets


def test_center_offset_is_floored() -> None:
    assert [center_offset(size, 112) for size in (112, 113, 128, 171)] == [0, 0, 8, 29]


def test_three_crops_of_wide_and_tall_frames() -> None:
    assert three_crop_offsets(256, 341, 256, 256) == [(0, 0), (0, 84), (0, 42)]  # left, right, middle
    assert three_crop_offsets(340, 256, 256, 256) == [(0, 0), (84, 0), (42, 0)]  # top, bottom, middle
    assert three_crop_offsets(128, 171, 112, 112) == [(8, 0), (8, 58), (8, 29)]


def test_pyslowfast_rounds_the_centre_up_and_reaches_the_end() -> None:
    assert pyslowfast_offsets(256, 341, 256) == [(0, 0), (0, 43), (0, 85)]
    assert pyslowfast_offsets(341, 256, 256) == [(0, 0), (43, 0), (85, 0)]
    assert pyslowfast_offsets(256, 256, 224) == [(16, 0), (16, 16), (16, 32)]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.sampled_from(get_args(CropMode)))
def test_crops_lie_within_the_frame(height: int, width: int, crop: int, mode: CropMode) -> None:
    if crop > min(height, width):
        with pytest.raises(ValueError, match=f"a crop of {crop} does not fit into frames of {height}x{width}"):
            crop_offsets(height, width, crop, mode)
        return
    offsets = crop_offsets(height, width, crop, mode)
    assert len(offsets) == (1 if mode == "center" else 3)
    for top, left in offsets:
        assert 0 <= top <= height - crop
        assert 0 <= left <= width - crop


@given(st.integers(1, 40), st.integers(0, 30))
def test_three_crops_spread_over_the_longer_side(crop: int, room: int) -> None:
    left, right, middle = (offset[1] for offset in crop_offsets(crop, crop + room, crop, "three"))
    assert left == 0
    assert right in (room, room - 1)  # rounded down to an even distance, as the authors do
    assert middle == room // 2
