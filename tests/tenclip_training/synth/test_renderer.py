"""Frames before any encoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_training.synth import CLASSES, SynthConfig, VideoSpec, plan_videos, render
from tenclip_training.synth.motions import LARGEST_RADIUS, State
from tenclip_training.synth.renderer import _draw, _track, _wrapped
from tenclip_training.synth.scene import BACKGROUNDS, SHAPES, TEXTURES, draw_background, draw_sprite, draw_texture


def spec_of(**options: Any) -> VideoSpec:
    config = SynthConfig(videos_per_class=1, seconds=(0.8, 1.0), **options)
    return plan_videos(config)[0]


def frames_of(spec: VideoSpec) -> NDArray[np.uint8]:
    return np.stack(list(render(spec)))


def mean_changes(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[N - 1] mean absolute difference of successive frames."""
    changes: NDArray[np.float64] = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    return changes


@pytest.mark.parametrize(("width", "height"), [(112, 84), (16, 16), (61, 97), (200, 40)])
def test_frames_are_rgb_of_the_size_asked_for(width: int, height: int) -> None:
    spec = spec_of(width=width, height=height, distractors=2)
    frames = frames_of(spec)
    assert frames.shape == (len(spec.times), height, width, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 10


def test_the_same_spec_gives_the_same_frames() -> None:
    assert np.array_equal(frames_of(spec_of(seed=5)), frames_of(spec_of(seed=5)))
    assert not np.array_equal(frames_of(spec_of(seed=5))[0], frames_of(spec_of(seed=6))[0])


def test_videos_that_differ_in_class_alone_begin_with_the_same_frame() -> None:
    spec = spec_of(distractors=1)
    assert spec.verb == CLASSES[0]
    first, *others = (list(render(replace(spec, verb=name))) for name in CLASSES)
    for other in others:
        assert np.array_equal(first[0], other[0])
        assert not np.array_equal(first[5], other[5])


def test_frame_rate_changes_which_moments_are_seen_and_nothing_else() -> None:
    spec = spec_of(frame_rates=(30.0,), variable_frame_rate=0.0)
    every = frames_of(spec)
    half = frames_of(replace(spec, ticks=spec.ticks[::2]))
    assert np.array_equal(every[::2], half)


def test_only_camera_shake_moves_the_background() -> None:
    spec = replace(spec_of(camera_shake=0.0), clutter=3, objects=1)
    frames = frames_of(spec).astype(np.int16)
    unmoved = (np.abs(frames - frames[0]).max(axis=(0, 3)) == 0).mean()
    assert unmoved > 0.4
    shaken = frames_of(replace(spec, camera_shake=0.05)).astype(np.int16)
    assert (np.abs(shaken - shaken[0]).max(axis=(0, 3)) == 0).mean() < unmoved / 2


@pytest.mark.parametrize("idle", ["still", "wander", "flicker"])
def test_untrimmed_videos_act_only_within_their_interval(idle: str) -> None:
    spec = spec_of(untrimmed=(0.3, 0.3), camera_shake=0.0, frame_rates=(30.0,), variable_frame_rate=0.0)
    spec = replace(spec, idle=idle, start=0.4, end=0.7, objects=2, speed="fast")
    changes = mean_changes(frames_of(spec))
    middles = (spec.times[1:] + spec.times[:-1]) / 2
    acting = (middles > spec.start) & (middles < spec.end)
    outside = changes[(middles < spec.start - 0.04) | (middles > spec.end + 0.04)]
    assert changes[acting].min() > 0.3
    if idle == "still":
        assert outside.max() == 0
    else:
        assert outside.max() > 0
    if idle == "wander":
        assert outside.mean() < changes[acting].mean()


def test_idle_time_does_not_interrupt_the_path() -> None:
    """No jump where the action begins or ends: an object goes on from where it is."""
    spec = spec_of(untrimmed=(0.3, 0.3), camera_shake=0.0, variable_frame_rate=0.0, frame_rates=(30.0,))
    spec = replace(spec, idle="wander", start=0.3, end=0.6)
    changes = mean_changes(frames_of(spec))
    assert changes.max() < 3 * np.median(changes[(spec.times[1:] > 0.35) & (spec.times[1:] < 0.6)])


@pytest.mark.parametrize(("x", "y"), [(1.3, 40.0), (110.9, 40.2), (50.5, 1.0), (50.0, 83.7), (0.2, 0.4)])
def test_what_leaves_on_one_side_comes_back_on_the_other(x: float, y: float) -> None:
    """An object at an edge shows as much of itself as one in the middle, and a whole turn changes nothing."""

    def drawn(x: float, y: float) -> NDArray[np.uint8]:
        frame = np.zeros((84, 112, 3), np.uint8)
        place = State(x=np.array([x]), y=np.array([y]), angle=np.array([0.7]), u=np.array([0.8]))
        _draw(frame, _track(sprite, place, 84), 0, np.zeros(2))
        return frame

    sprite = draw_sprite("star", "checker", 84 * LARGEST_RADIUS, np.random.default_rng(0))
    assert np.array_equal(drawn(x, y), drawn(x + 2 * 112, y - 3 * 84))
    # Whole pixels apart from the edge's place, so that both are interpolated alike.
    assert np.array_equal(np.roll(drawn(x, y), (42, 56), axis=(0, 1)), drawn(x + 56, y + 42))


@given(st.integers(-300, 300), st.integers(1, 200), st.integers(1, 120))
def test_wrapped_covers_every_cell_once(start: int, length: int, size: int) -> None:
    ring = np.arange(size)
    covered = np.concatenate([ring[a] for a, _ in _wrapped(start, length, size)])
    assert np.array_equal(covered, (start + np.arange(length)) % size)
    cells = np.concatenate([np.arange(length)[b] for _, b in _wrapped(start, length, size)])
    assert np.array_equal(cells, np.arange(length))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("texture", TEXTURES)
def test_sprites_are_premultiplied_and_fit_their_circle(shape: str, texture: str) -> None:
    sprite = draw_sprite(shape, texture, 30.0, np.random.default_rng(0))
    for level, radius in zip(sprite.levels, sprite.radii, strict=True):
        assert level.dtype == np.uint8
        assert (level[..., :3] <= level[..., 3:].astype(np.int16) + 1).all()
        middle = (level.shape[0] - 1) / 2
        y, x = np.mgrid[0 : level.shape[0], 0 : level.shape[1]] - middle
        assert level[np.hypot(x, y) > radius + 1.5].max(initial=0) == 0
        assert level[int(middle), int(middle), 3] == 255
    assert list(sprite.radii) == sorted(sprite.radii, reverse=True)
    assert sprite.radii[sprite.level_for(20.0)] >= 20.0
    assert sprite.level_for(1000.0) == 0


@settings(max_examples=30)
@given(st.sampled_from([*BACKGROUNDS, *TEXTURES]), st.integers(1, 60), st.integers(2, 60), st.floats(1, 200))
def test_textures_stay_within_bounds(kind: str, height: int, width: int, period: float) -> None:
    texture = draw_texture(kind, height, width, np.random.default_rng(0), period=period)
    assert texture.shape == (height, width)
    assert texture.min() >= 0
    assert texture.max() <= 1


@pytest.mark.parametrize("kind", BACKGROUNDS)
def test_backgrounds_are_of_middle_brightness(kind: str) -> None:
    pictures = [draw_background(kind, 84, 112, np.random.default_rng(seed)) for seed in range(20)]
    assert all(30 < p.mean() < 175 for p in pictures)
    assert all(p.std() > 1 for p in pictures)
