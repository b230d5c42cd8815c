from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_video.orientation import Orientation
from tenclip_video.salience.motion_vectors import ReferenceDistances, grid_size, rasterize, turned

# FFmpeg's AVMotionVector.
RECORD = np.dtype(
    [
        ("source", "<i4"),
        ("w", "u1"),
        ("h", "u1"),
        ("src_x", "<i2"),
        ("src_y", "<i2"),
        ("dst_x", "<i2"),
        ("dst_y", "<i2"),
        ("flags", "<u8"),
        ("motion_x", "<i4"),
        ("motion_y", "<i4"),
        ("motion_scale", "<u2"),
    ],
    align=True,
)


def block(x: int, y: int, dx: int, dy: int, *, source: int = -1, size: int = 16, scale: int = 4) -> tuple[int, ...]:
    """A block centred at (x, y), copied from (dx, dy) / scale away."""
    return (source, size, size, 0, 0, x, y, 0, dx, dy, scale)


def records(*blocks: tuple[int, ...]) -> NDArray[Any]:
    return np.array(list(blocks), RECORD)


def test_what_is_copied_from_the_left_has_moved_to_the_right() -> None:
    motion = rasterize(records(block(24, 8, -4 * 8, 4 * 4)), 64, 32, (2, 4))
    assert motion.shape == (2, 4, 2)
    assert motion[0, 1].tolist() == [8 / 64, -4 / 32]
    assert np.count_nonzero(motion) == 2


def test_a_reference_further_away_means_less_motion_a_frame() -> None:
    (past,) = rasterize(records(block(8, 8, -48, 0)), 64, 64, (1, 1), past=3).reshape(-1, 2)
    (future,) = rasterize(records(block(8, 8, 48, 0, source=1)), 64, 64, (1, 1), future=2).reshape(-1, 2)
    assert past.tolist() == [12 / 64 / 3, 0]
    assert future.tolist() == [12 / 64 / 2, 0]


def test_both_predictions_of_a_block_are_averaged() -> None:
    both = records(block(8, 8, -16, 0), block(8, 8, 32, 0, source=1))
    assert rasterize(both, 64, 64, (1, 1))[0, 0, 0] == pytest.approx((4 + 8) / 2 / 64)


def test_blocks_count_by_their_area() -> None:
    two = records(block(8, 8, -16, 0), block(20, 4, -64, 0, size=8))
    assert rasterize(two, 64, 64, (1, 1))[0, 0, 0] == pytest.approx((256 * 4 + 64 * 16) / 320 / 64)


def test_damaged_vectors_stay_within_the_grid_and_the_picture() -> None:
    wild = records(
        block(-30000, 30000, 2**31 - 1, -(2**31), scale=1), block(32000, -32000, -(2**31), 2**31 - 1, scale=0)
    )
    motion = rasterize(wild, 64, 64, (2, 2))
    assert np.isfinite(motion).all()
    assert np.abs(motion).max() == 1


def test_no_vectors_no_motion() -> None:
    assert not rasterize(records(), 64, 64, (2, 3)).any()


@pytest.mark.parametrize(
    ("size", "expected"), [((340, 256), (16, 21)), ((1920, 1080), (32, 32)), ((64, 48), (3, 4)), ((1, 1), (1, 1))]
)
def test_cells_are_no_smaller_than_a_macroblock(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert grid_size(*size, 32, 32) == expected


@given(
    st.sampled_from([0, 90, 180, 270]),
    st.booleans(),
    st.tuples(st.integers(0, 4), st.integers(0, 6)),
    st.tuples(st.integers(0, 4), st.integers(0, 6)),
)
def test_vectors_turn_with_the_picture(
    rotation: int, mirrored: bool, start: tuple[int, int], end: tuple[int, int]
) -> None:
    """Something moves from one cell to another; both cells are turned as pictures are."""
    orientation = Orientation(rotation=rotation, mirrored=mirrored)
    rows, columns = 5, 7

    def shown(cell: tuple[int, int]) -> NDArray[np.int64]:
        picture = np.zeros((rows, columns))
        picture[cell] = 1
        (found,) = np.argwhere(orientation.apply(picture))
        return np.asarray(found)

    motion = np.zeros((rows, columns, 2), np.float32)
    motion[start] = (end[1] - start[1]) / columns, (end[0] - start[0]) / rows
    result = turned(motion, orientation)
    moved = result[tuple(shown(start))] * [result.shape[1], result.shape[0]]
    np.testing.assert_allclose(moved[::-1], shown(end) - shown(start), atol=1e-6)


def test_distances_follow_from_the_order_of_decoding() -> None:
    """I0 P3 B1 b2, then P6 B5 (to which b4 refers) b4."""
    distances = ReferenceDistances()
    for index, is_reference in ((0, True), (3, True), (1, True), (2, False), (6, True), (5, True), (4, False)):
        distances.add(index, is_reference=is_reference)
    assert [distances.take(i) for i in range(7)] == [(1, 1), (1, 2), (1, 1), (3, 1), (1, 1), (2, 1), (3, 1)]
    assert distances.take(5) == (1, 1), "it has been taken"


def test_frames_that_never_come_out_are_forgotten() -> None:
    distances = ReferenceDistances()
    for index in range(10_000):
        distances.add(index, is_reference=True)
    assert len(distances._distances) < 100
