from __future__ import annotations

import numpy as np
import pytest

from tenclip_export.golden import MAX_REAL_CLIPS, SYNTHETIC, golden_clips, noise_clip, squares_clip, waves_clip


def test_the_same_at_every_call() -> None:
    assert np.array_equal(golden_clips(4, 20), golden_clips(4, 20))


@pytest.mark.parametrize(("num_frames", "size"), [(1, 1), (2, 7), (8, 32)])
def test_shape_and_type(num_frames: int, size: int) -> None:
    clips = golden_clips(num_frames, size)
    assert clips.shape == (len(SYNTHETIC), num_frames, size, size, 3)
    assert clips.dtype == np.uint8


def test_noise_reaches_both_ends_of_the_range() -> None:
    clip = noise_clip(8, 32, np.random.default_rng(0))
    assert (clip.min(), clip.max()) == (0, 255)


@pytest.mark.parametrize("make", [waves_clip, squares_clip])
def test_structured_clips_move_and_differ_in_each_channel(make: object) -> None:
    assert callable(make)
    clip = make(8, 32, np.random.default_rng(0))
    assert (np.diff(clip.astype(int), axis=0) != 0).any(axis=(1, 2, 3)).all(), "every frame differs from the one before"
    assert not np.array_equal(clip[..., 0], clip[..., 1])
    assert not np.array_equal(clip[..., 0], clip[..., 2])


def test_real_clips_are_spread_evenly_and_bounded() -> None:
    real = np.stack([np.full((4, 8, 8, 3), i, np.uint8) for i in range(9)])
    clips = golden_clips(4, 8, real)
    assert len(clips) == len(SYNTHETIC) + MAX_REAL_CLIPS
    assert [int(c[0, 0, 0, 0]) for c in clips[len(SYNTHETIC) :]] == [0, 4, 8]


def test_fewer_real_clips_than_wanted() -> None:
    assert len(golden_clips(4, 8, np.zeros((1, 4, 8, 8, 3), np.uint8))) == len(SYNTHETIC) + 1
    assert len(golden_clips(4, 8, np.zeros((0, 4, 8, 8, 3), np.uint8))) == len(SYNTHETIC)


def test_wrong_real_clips_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N,4,8,8,3\], got uint8 \(1, 5, 8, 8, 3\)"):
        golden_clips(4, 8, np.zeros((1, 5, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="got float64"):
        golden_clips(4, 8, np.zeros((1, 4, 8, 8, 3)))  # type: ignore[arg-type]
