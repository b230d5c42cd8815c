"""Clips of images: replicated, translated, warped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.omni.homographies import (
    IDENTITY,
    HomographyGaussian,
    free_entries,
    stays_in_sight,
    to_scaled,
)
from tenclip_training.omni.pseudo_clips import (
    MAX_DRAWS,
    TRANSFORMS,
    canvas_size,
    pseudo_clip,
    walk,
    walk_shares,
    warp,
)
from tenclip_training.omni.stills_config import ImageTransform
from tests.tenclip_training.omni.helpers import shift, textured, zoom

SIZE = (48, 64)


def gaussian(deviation: float = 0.02, mean: np.ndarray = IDENTITY) -> HomographyGaussian:
    return HomographyGaussian(free_entries(mean), np.diag([deviation**2] * 8))


def image_for(transform: ImageTransform, seed: int = 0) -> np.ndarray:
    return textured(seed, *canvas_size(transform, *SIZE))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("num_frames", [1, 2, 16])
def test_a_clip_follows_from_the_image_and_the_rng(transform: ImageTransform, num_frames: int) -> None:
    image = image_for(transform)
    first, again, other = (
        pseudo_clip(image, num_frames, SIZE, transform, np.random.default_rng((1, 2, i)), gaussian=gaussian())
        for i in (3, 3, 4)
    )
    assert first.shape == (num_frames, *SIZE, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    if transform == "replicate" or (num_frames == 1 and transform.startswith("warp")):
        np.testing.assert_array_equal(first, other)
        np.testing.assert_array_equal(first[-1], image)
    else:
        assert (first != other).any()


def test_a_still_camera_replicates_to_the_bit() -> None:
    image = image_for("warp")
    rng = np.random.default_rng(0)
    clip = pseudo_clip(image, 8, SIZE, "warp", rng, gaussian=HomographyGaussian.still())
    np.testing.assert_array_equal(clip, pseudo_clip(image, 8, SIZE, "replicate", rng))


def test_the_first_frame_is_the_image() -> None:
    image = image_for("warp")
    clip = pseudo_clip(image, 4, SIZE, "warp", np.random.default_rng(0), gaussian=gaussian(0.05))
    np.testing.assert_array_equal(clip[0], image)
    assert (clip[1] != image).any()


def test_three_steps_of_a_pixel_are_three_pixels() -> None:
    """Composed, and the image itself shifted: to the bit, where warping frame by frame would blur."""
    image = image_for("warp")
    step = to_scaled(shift(1), *SIZE)
    clip = warp(image, tuple(np.linalg.matrix_power(step, i) for i in range(4)))
    for i in range(4):
        np.testing.assert_array_equal(clip[i][:, i:], image[:, : SIZE[1] - i])
    np.testing.assert_array_equal(clip[3][:, 0], image[:, 3])  # beyond the edge is the mirror image


def test_zoom_enlarges_about_the_centre() -> None:
    image = np.zeros((49, 65, 3), np.uint8)
    image[24 - 8 : 24 + 9, 32 - 8 : 32 + 9] = 255
    (zoomed,) = warp(image, (zoom(1.5),))
    assert (zoomed > 127).sum() / (image > 127).sum() == pytest.approx(1.5**2, rel=0.1)
    assert (zoomed[:, :, 0] > 127).nonzero()[0].mean() == pytest.approx(24, abs=0.1)


def test_constant_speed_is_constant_and_inside() -> None:
    """A ramp tells each window's place: the grey level is the x coordinate."""
    height, width = canvas_size("translate-constant", *SIZE)
    ramp = np.repeat(np.tile(np.arange(width, dtype=np.uint8) * 2, (height, 1))[..., None], 3, axis=2)
    for seed in range(20):
        clip = pseudo_clip(ramp, 9, SIZE, "translate-constant", np.random.default_rng(seed))
        left = clip[:, 10, 0, 0].astype(float) / 2
        steps = np.diff(left)
        assert np.ptp(steps) <= 1  # half a grey level at both ends
        assert (left >= 0).all()
        assert (left <= width - SIZE[1] + 0.5).all()
        unlike = pseudo_clip(ramp, 9, SIZE, "translate-random", np.random.default_rng(seed))
        assert (clip[0] == unlike[0]).mean() > 0.9  # the same start


def test_random_speed_changes_and_stays_inside() -> None:
    height, width = canvas_size("translate-random", *SIZE)
    ramp = np.repeat(np.tile(np.arange(width, dtype=np.uint8) * 2, (height, 1))[..., None], 3, axis=2)
    turns = 0
    for seed in range(20):
        left = pseudo_clip(ramp, 16, SIZE, "translate-random", np.random.default_rng(seed))[:, 10, 0, 0] / 2.0
        assert (left >= 0).all()
        assert (left <= width - SIZE[1] + 0.5).all()
        turns += int(np.count_nonzero(np.diff(np.sign(np.diff(left)))))
    assert turns > 40


def test_folds_are_drawn_again_and_counted() -> None:
    wild = gaussian(0.5)
    drawn = walk(wild, 8, np.random.default_rng(0))
    assert drawn.rejected > 8
    assert all(stays_in_sight(m) for m in drawn.matrices)
    away = HomographyGaussian(free_entries(shift(5.0)), 1e-8 * np.eye(8))  # every draw leaves the image
    held = walk(away, 4, np.random.default_rng(0))
    assert (held.held, held.rejected) == (3, 3 * MAX_DRAWS)
    assert all(np.array_equal(m, IDENTITY) for m in held.matrices)
    assert walk_shares(away, 4, walks=5).held == 1.0
    assert walk_shares(HomographyGaussian.still(), 16, walks=5).rejected == 0.0
    assert walk_shares(wild, 1, walks=5).held == 0.0


def test_sizes_that_cannot_be() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="an image of"):
        pseudo_clip(textured(0, *SIZE), 4, SIZE, "translate-random", rng)
    with pytest.raises(ValueError, match="needs a fitted motion"):
        pseudo_clip(textured(0, *SIZE), 4, SIZE, "warp", rng)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (9, 1)])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_pictures_of_a_pixel(size: tuple[int, int], transform: ImageTransform) -> None:
    image = np.full((*canvas_size(transform, *size), 3), 9, np.uint8)
    clip = pseudo_clip(image, 3, size, transform, np.random.default_rng(0), gaussian=gaussian())
    assert clip.shape == (3, *size, 3)
    assert (clip == 9).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 0.3), st.integers(0, 2**32 - 1), st.integers(1, 32))
def test_every_frame_of_every_walk_shows_the_picture(deviation: float, seed: int, num_frames: int) -> None:
    drawn = walk(gaussian(deviation), num_frames, np.random.default_rng(seed))
    assert len(drawn.matrices) == num_frames
    assert np.array_equal(drawn.matrices[0], IDENTITY)
    assert all(stays_in_sight(m) for m in drawn.matrices)
    assert drawn.held <= num_frames - 1
