from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.data.augment import Augmentation, augment, flip_is_safe, jitter_colors


def frames(num: int = 3, height: int = 20, width: int = 30) -> np.ndarray:
    """Every pixel tells its frame, row and column."""
    t, y, x = np.meshgrid(np.arange(num), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


def test_random_crop_is_a_part_of_the_frame_and_the_same_in_all(rng: np.random.Generator) -> None:
    corners = set()
    for _ in range(300):
        clip = augment(frames(), 18, Augmentation(), rng)
        assert clip.shape == (3, 18, 18, 3)
        _, top, left = clip[0, 0, 0]
        np.testing.assert_array_equal(clip, frames()[:, top : top + 18, left : left + 18])
        corners.add((int(top), int(left)))
    # Every place, the last ones included.
    assert corners == {(y, x) for y in range(3) for x in range(13)}


def test_frames_smaller_than_the_crop_are_enlarged(rng: np.random.Generator) -> None:
    clip = augment(frames(height=10, width=12), 16, Augmentation(), rng)
    assert clip.shape == (3, 16, 16, 3)
    assert clip.dtype == np.uint8


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    crop=st.integers(1, 32),
    low=st.floats(0.05, 1.0),
    seed=st.integers(0, 99),
)
def test_any_size_gives_the_crop(height: int, width: int, crop: int, low: float, seed: int) -> None:
    config = Augmentation(scale=(low, 1.0), flip=True, brightness=0.3, contrast=0.3, saturation=0.3)
    clip = augment(frames(2, height, width), crop, config, np.random.default_rng(seed))
    assert clip.shape == (2, crop, crop, 3)
    assert clip.dtype == np.uint8
    assert clip.flags["C_CONTIGUOUS"]


def test_scaled_crop_keeps_what_it_shows(rng: np.random.Generator) -> None:
    wide = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, None, :, None], 64, axis=1).repeat(3, axis=3)
    clip = augment(wide, 16, Augmentation(scale=(1.0, 1.0)), rng)
    # A ramp over 64 columns, averaged in fours.
    np.testing.assert_allclose(clip[0, :, :, 0].astype(float), np.tile(np.linspace(6, 249, 16), (16, 1)), atol=1.5)


def test_flip_mirrors_half_of_the_clips(rng: np.random.Generator) -> None:
    square = frames(2, 16, 16)
    config = Augmentation(flip=True)
    flipped = 0
    for _ in range(400):
        clip = augment(square, 16, config, rng)
        is_flipped = clip[0, 0, 0, 2] == 15
        np.testing.assert_array_equal(clip, square[:, :, ::-1] if is_flipped else square)
        flipped += bool(is_flipped)
    assert 150 < flipped < 250


@pytest.mark.parametrize("flip", [False, None])
def test_no_flip_unless_decided(flip: bool | None, rng: np.random.Generator) -> None:
    square = frames(2, 16, 16)
    for _ in range(20):
        np.testing.assert_array_equal(augment(square, 16, Augmentation(flip=flip), rng), square)


@pytest.mark.parametrize(
    ("labels", "safe"),
    [
        (["run", "jump"], True),
        (["juggling balls", "playing drums"], True),
        (["move_left", "jump"], False),
        (["Pushing something from right to left"], False),
        (["rotate_counterclockwise"], False),
        (["turn_ccw"], False),
        (["turn cw"], False),
        (["accwire"], True),
        (["upright piano", "Bright light", "cleft chin", "leftovers", "copyright"], True),
        (["TurnLeft"], False),
        (["LEFT_turn"], False),
        (["left2right"], False),
        (["turning leftwards"], False),
        (["right-handed throw"], False),
        (["anticlockwise"], False),
        ([], True),
    ],
)
def test_flip_is_safe(labels: list[str], safe: bool) -> None:
    assert flip_is_safe(labels) is safe


def test_colors_change_alike_in_all_frames_and_grey_stays_grey(rng: np.random.Generator) -> None:
    gray = np.repeat(rng.integers(40, 200, (1, 8, 8, 1), dtype=np.uint8), 3, axis=3).repeat(4, axis=0)
    config = Augmentation(brightness=0.2, contrast=0.2, saturation=0.5)
    jittered = jitter_colors(gray, config, rng)
    assert not np.array_equal(jittered, gray)
    for frame in jittered:
        np.testing.assert_array_equal(frame, jittered[0])
        np.testing.assert_array_equal(frame[..., 0], frame[..., 1])
        np.testing.assert_array_equal(frame[..., 0], frame[..., 2])


def test_colors_saturate_instead_of_wrapping() -> None:
    white = np.full((1, 2, 2, 3), 250, np.uint8)
    for seed in range(20):
        jittered = jitter_colors(white, Augmentation(brightness=0.5), np.random.default_rng(seed))
        assert jittered.min() >= 124


def test_the_same_rng_gives_the_same_clip() -> None:
    config = Augmentation(scale=(0.5, 1.0), flip=True, brightness=0.3)
    first, second, other = (augment(frames(), 16, config, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    "bad", [{"scale": (0.0, 1.0)}, {"scale": (0.9, 0.5)}, {"scale": (0.5, 1.5)}, {"contrast": 1.0}]
)
def test_bad_values(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Augmentation(**bad)  # type: ignore[arg-type]


def test_corner_crops_of_the_mega_scale_paper() -> None:
    """Sides are parts of the short side, positions the four corners and the centre; all about equally often."""
    scales = tuple(2.0 ** (-i / 4) for i in range(5))
    config = Augmentation(scales=scales, crop_at="corners")
    rows = np.arange(128, dtype=np.uint8)[:, None, None] + np.zeros((1, 171, 1), np.uint8)
    columns = np.arange(171, dtype=np.uint8)[None, :, None] + np.zeros((128, 1, 1), np.uint8)
    frame = np.concatenate([rows, columns, rows], axis=2)
    seen: Counter[int] = Counter()
    rng = np.random.default_rng(0)
    for _ in range(1000):
        clip = augment(np.stack([frame, frame]), 64, config, rng)
        assert (clip[0] == clip[1]).all(), "all frames get the same crop"
        # Edges of the source square, to about a pixel: resizing averages over neighbours.
        side = int(clip[0, -1, 0, 0]) - int(clip[0, 0, 0, 0])
        nearest = min((int(128 * s) for s in scales), key=lambda s: abs(s - side))
        seen[nearest] += 1
    assert sorted(seen) == [64, 76, 90, 107, 128]
    assert min(seen.values()) > 150


def test_scale_and_scales_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="two ways"):
        Augmentation(scale=(0.5, 1.0), scales=(1.0,))
    with pytest.raises(ValueError, match="scales must be above 0"):
        Augmentation(scales=(1.2,))
