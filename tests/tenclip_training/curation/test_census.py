from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tenclip_training.curation.census import (
    Bars,
    census_histogram,
    census_transform,
    codes_of_grids,
    find_bars,
    frame_codes,
    mirrored,
)

PICTURES = arrays(np.uint8, st.tuples(st.integers(3, 12), st.integers(3, 12)))
GRIDS = arrays(np.float32, (3, 8, 8), elements=st.integers(0, 255))


def test_census_of_the_worked_example() -> None:
    picture = np.array([[12, 15, 11, 10], [20, 18, 17, 9], [30, 25, 16, 14], [28, 27, 13, 8]], np.uint8)
    assert census_transform(picture).tolist() == [[233, 235], [233, 43]]


@given(PICTURES, st.integers(1, 4), st.integers(0, 20))
def test_census_does_not_change_with_brightness_and_contrast(picture: NDArray[np.uint8], times: int, plus: int) -> None:
    picture = picture // 5  # so that nothing is clipped
    assert np.array_equal(census_transform(picture), census_transform((picture * times + plus).astype(np.uint8)))


@given(PICTURES)
def test_census_by_its_definition(picture: NDArray[np.uint8]) -> None:
    codes = census_transform(picture)
    around = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for row, column in np.ndindex(codes.shape):
        bits = [picture[row + 1 + r, column + 1 + c] < picture[row + 1, column + 1] for r, c in around]
        assert codes[row, column] == int("".join("1" if bit else "0" for bit in bits), 2)


def test_a_histogram_has_unit_length() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8)
    assert np.linalg.norm(census_histogram(picture)) == pytest.approx(1)
    assert census_histogram(picture).shape == (64,)


@given(GRIDS)
def test_codes_by_their_definition(grids: NDArray[np.float32]) -> None:
    for code, grid in zip(codes_of_grids(grids).tolist(), grids.astype(int), strict=True):
        for row, column in np.ndindex(8, 8):
            around = grid[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            others = around.size - 1
            expected = grid[row, column] * others > around.sum() - grid[row, column]
            assert (code >> (63 - 8 * row - column)) & 1 == expected


@given(GRIDS)
def test_mirrored_codes_are_those_of_mirrored_pictures(grids: NDArray[np.float32]) -> None:
    codes = codes_of_grids(grids)
    assert np.array_equal(mirrored(codes), codes_of_grids(grids[:, :, ::-1]))
    assert np.array_equal(mirrored(mirrored(codes)), codes)


def test_frames_of_little_contrast_are_flat() -> None:
    ramp = np.tile(np.linspace(0, 255, 112), (112, 1)).astype(np.uint8)
    _, flat = frame_codes(np.stack([np.full((112, 112), 9, np.uint8), ramp, ramp // 40 + 100]))
    assert flat.tolist() == [True, False, True]


def test_codes_do_not_change_with_brightness() -> None:
    picture = np.kron(np.random.default_rng(1).integers(0, 200, (8, 8)), np.ones((14, 14))).astype(np.uint8)
    codes, _ = frame_codes(np.stack([picture, picture + 50, picture // 2 * 2]))
    assert codes[0] == codes[1]
    assert np.bitwise_count(codes[0] ^ codes[2]) <= 4


def framed(bars: Bars, *, inner: int = 120) -> NDArray[np.uint8]:
    frames = np.full((3, 112, 112), 5, np.uint8)
    bars.crop(frames)[:] = inner
    return frames


@pytest.mark.parametrize("bars", [Bars(), Bars(14, 14, 0, 0), Bars(0, 0, 30, 30), Bars(3, 20, 1, 0)])
def test_bars_are_found(bars: Bars) -> None:
    assert find_bars(framed(bars)) == bars
    assert (bars.crop(framed(bars)) == 120).all()


def test_dark_videos_and_huge_bars_have_none() -> None:
    assert find_bars(framed(Bars(14, 14, 0, 0), inner=40)) == Bars()
    assert find_bars(framed(Bars(top=80))) == Bars()


def test_a_bar_is_dark_in_every_frame() -> None:
    frames = framed(Bars(14, 14, 0, 0))
    frames[1, :14] = 90
    assert find_bars(frames) == Bars(bottom=14)
