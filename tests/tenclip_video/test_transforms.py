from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.transforms import center_offset, crop_views, pyslowfast_offsets, three_crop_offsets


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


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_views_are_windows_of_the_frame(height: int, width: int, crop: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    frames = np.stack([rows, columns, rows * 0], axis=-1).astype(np.uint8)[None]  # a pixel says where it is
    for mode, count in (("center", 1), ("three", 3), ("three-pyslowfast", 3)):
        if crop > min(height, width):
            with pytest.raises(ValueError, match=f"a crop of {crop} does not fit into frames of {height}x{width}"):
                crop_views(frames, crop, mode)  # type: ignore[arg-type]
            continue
        views = crop_views(frames, crop, mode)  # type: ignore[arg-type]
        assert len(views) == count
        for view in views:
            assert view.shape == (1, crop, crop, 3)
            assert np.shares_memory(view, frames)
            top, left = int(view[0, 0, 0, 0]), int(view[0, 0, 0, 1])
            np.testing.assert_array_equal(view, frames[:, top : top + crop, left : left + crop])


@given(st.integers(1, 40), st.integers(0, 30))
def test_three_crops_spread_over_the_longer_side(crop: int, room: int) -> None:
    frames = np.zeros((2, crop, crop + room, 3), np.uint8)
    frames[..., 0] = np.arange(crop + room, dtype=np.uint8)
    left, right, middle = (int(v[0, 0, 0, 0]) for v in crop_views(frames, crop, "three"))
    assert left == 0
    assert right in (room, room - 1)  # rounded down to an even distance, as the authors do
    assert middle == room // 2


def test_crops_take_any_leading_axes() -> None:
    assert crop_views(np.zeros((4, 16, 128, 171, 3), np.uint8), 112, "center")[0].shape == (4, 16, 112, 112, 3)
