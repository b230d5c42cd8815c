from __future__ import annotations

import numpy as np
import pytest

from tenclip_training.data.augment import Augmentation, Placement, augment_placed
from tenclip_training.distill.views import same_square


def gradient(height: int, width: int) -> np.ndarray:
    """Frames whose red is the row and whose green is the column, both from 0 to 255."""
    rows = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    columns = np.linspace(0, 255, width)[None].repeat(height, 0)
    return np.stack([rows, columns, np.zeros_like(rows)], -1).round().astype(np.uint8)[None]


def test_the_same_part_of_a_larger_frame() -> None:
    place = Placement(top=32, left=0, side=64, height=128, width=171)
    seen = same_square(gradient(256, 342), place, 32)
    assert seen.shape == (1, 32, 32, 3)
    assert seen[0, 0, 0, 0] == pytest.approx(255 * 64 / 256, abs=4)
    assert seen[0, -1, 0, 0] == pytest.approx(255 * 192 / 256, abs=4)
    assert seen[0, 0, -1, 1] == pytest.approx(255 * 128 / 342, abs=4)


def test_mirrored_where_the_clip_is() -> None:
    place = Placement(top=0, left=0, side=16, height=24, width=32)
    mirrored = Placement(top=0, left=0, side=16, height=24, width=32, mirrored=True)
    frames = gradient(48, 64)
    assert np.array_equal(same_square(frames, mirrored, 8), same_square(frames, place, 8)[:, :, ::-1])


def test_teachers_and_students_see_the_same_square() -> None:
    """At the student's own size, without other colours, the two are the same pixels."""
    frames = gradient(24, 32)
    for seed in range(20):
        clip, place = augment_placed(frames, 16, Augmentation(flip=True), np.random.default_rng(seed))
        assert np.array_equal(same_square(frames, place, 16), clip)


def test_a_square_of_a_single_pixel_is_not_empty() -> None:
    place = Placement(top=0, left=0, side=1, height=128, width=171)
    assert same_square(gradient(16, 16), place, 4).shape == (1, 4, 4, 3)
