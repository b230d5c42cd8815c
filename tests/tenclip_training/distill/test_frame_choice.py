from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.distill.choices import FrameChoice
from tenclip_training.distill.frame_choice import choose_frames

CHOICES: tuple[FrameChoice, ...] = ("random", "center", "uniform", "all")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_choices_that_are_not_random() -> None:
    assert choose_frames("center", 1, 8, rng()) == [4]
    assert choose_frames("center", 1, 7, rng()) == [3]
    assert choose_frames("uniform", 1, 8, rng()) == [4]
    assert choose_frames("uniform", 4, 8, rng()) == [1, 3, 5, 7]
    assert choose_frames("uniform", 3, 16, rng()) == [2, 8, 13]
    assert choose_frames("all", 1, 4, rng()) == [0, 1, 2, 3]


def test_random_frames_are_every_frame_as_often() -> None:
    stream = rng()
    counts = np.bincount([choose_frames("random", 1, 8, stream)[0] for _ in range(8000)], minlength=8)
    assert counts.min() > 850
    assert counts.max() < 1150


def test_two_random_frames_are_different_ones() -> None:
    stream = rng()
    pairs = {tuple(choose_frames("random", 2, 4, stream)) for _ in range(200)}
    assert pairs == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


@given(st.sampled_from(CHOICES), st.integers(1, 40), st.integers(1, 40), st.integers(0, 5))
def test_places_lie_in_the_clip_ascend_and_are_as_many_as_said(
    choice: FrameChoice, count: int, num_frames: int, seed: int
) -> None:
    places = choose_frames(choice, count, num_frames, rng(seed))
    assert places == sorted(set(places))
    assert 0 <= places[0] <= places[-1] < num_frames
    assert len(places) == {"center": 1, "all": num_frames}.get(choice, min(count, num_frames))
