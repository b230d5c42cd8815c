from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tenclip_video.sampling import (
    MAX_CLIPS,
    Clip,
    ClipSelection,
    center_start,
    clip_at,
    clip_seconds,
    frames_needed,
    plan_clips,
    random_starts,
    resample,
    uniform_starts,
    window_starts,
)
from tenclip_video.spec import ClipSpec

FRAMES, SPANS, COUNTS = st.integers(1, 3000), st.integers(1, 200), st.integers(1, 30)
SPECS = st.builds(ClipSpec, num_frames=st.integers(1, 24), frame_stride=st.integers(1, 5))


def even(num_frames: int, fps: float = 25.0) -> tuple[np.ndarray, float]:
    """(times, duration) of a video at a constant rate."""
    return np.arange(num_frames) / fps, num_frames / fps


# -- where clips begin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_frames", "span", "num_clips", "expected"),
    [
        (300, 32, 3, [0, 134, 268]),
        (300, 16, 10, [0, 31, 63, 94, 126, 157, 189, 220, 252, 284]),
        (300, 16, 1, [0]),
        (16, 16, 4, [0, 0, 0, 0]),  # exactly one clip long
        (17, 16, 4, [0, 0, 0, 1]),
        (5, 16, 3, [0, 0, 0]),  # shorter than a clip
        (1, 1, 2, [0, 0]),
    ],
)
def test_uniform_starts(num_frames: int, span: int, num_clips: int, expected: list[int]) -> None:
    assert uniform_starts(num_frames, span, num_clips) == expected


def test_uniform_starts_keep_the_authors_single_precision() -> None:
    # 7 * (31 / 7) is 31; in single precision it falls short of it, and the authors' operator takes frame 30.
    assert uniform_starts(47, 16, 8) == [0, 4, 8, 13, 17, 22, 26, 30]
    assert uniform_starts(216, 16, 25)[15] == 124  # 15 * (200 / 24) is 125


@given(FRAMES, SPANS, COUNTS)
def test_uniform_starts_spread_from_end_to_end(num_frames: int, span: int, num_clips: int) -> None:
    starts = uniform_starts(num_frames, span, num_clips)
    assert len(starts) == num_clips
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert starts[-1] <= max(num_frames - span, 0)
    if num_clips > 1 and num_frames > span:
        assert num_frames - span - starts[-1] <= 1
        gaps = np.diff(starts)
        assert gaps.max() - gaps.min() <= 2


@pytest.mark.parametrize(("num_frames", "span", "expected"), [(300, 32, 134), (33, 32, 0), (32, 32, 0), (3, 32, 0)])
def test_center_start(num_frames: int, span: int, expected: int) -> None:
    assert center_start(num_frames, span) == expected


@pytest.mark.parametrize(
    ("num_frames", "span", "step", "expected"),
    [
        (40, 16, None, [0, 16, 24]),
        (48, 16, None, [0, 16, 32]),
        (16, 16, None, [0]),
        (7, 16, None, [0]),
        (40, 16, 8, [0, 8, 16, 24]),
        (41, 16, 8, [0, 8, 16, 24, 25]),
        (40, 16, 100, [0, 24]),
        (3, 1, None, [0, 1, 2]),
    ],
)
def test_window_starts(num_frames: int, span: int, step: int | None, expected: list[int]) -> None:
    assert window_starts(num_frames, span, step) == expected


@given(FRAMES, SPANS, st.none() | st.integers(1, 200))
def test_windows_see_every_frame(num_frames: int, span: int, step: int | None) -> None:
    starts = window_starts(num_frames, span, step)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] == max(num_frames - span, 0)
    if (step or span) <= span:
        seen = {i for s in starts for i in range(s, min(s + span, num_frames))}
        assert seen == set(range(num_frames))


@given(FRAMES, SPANS, COUNTS, st.integers(0, 2**32 - 1))
def test_random_starts_fit_and_repeat(num_frames: int, span: int, num_clips: int, seed: int) -> None:
    starts = random_starts(num_frames, span, num_clips, np.random.default_rng(seed))
    assert len(starts) == num_clips
    assert all(0 <= s <= max(num_frames - span, 0) for s in starts)
    assert starts == random_starts(num_frames, span, num_clips, np.random.default_rng(seed))


def test_random_starts_reach_both_ends() -> None:
    assert set(random_starts(18, 16, 200, np.random.default_rng(0))) == {0, 1, 2}


# -- frames of a clip -------------------------------------------------------------------------------------------------


def test_short_videos_loop_and_say_so() -> None:
    assert clip_at(0, ClipSpec(num_frames=6), 4) == Clip((0, 1, 2, 3, 0, 1), looped=True)
    assert clip_at(0, ClipSpec(num_frames=4), 4) == Clip((0, 1, 2, 3), looped=False)
    assert clip_at(0, ClipSpec(num_frames=3, frame_stride=2), 4) == Clip((0, 2, 0), looped=True)
    assert clip_at(0, ClipSpec(num_frames=3), 1) == Clip((0, 0, 0), looped=True)


def test_a_clip_of_no_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="num_frames = 0"):
        clip_at(0, ClipSpec(), 0)


# -- resampling -------------------------------------------------------------------------------------------------------


def test_resampling_to_half_and_double_the_rate() -> None:
    times, duration = even(8)
    assert resample(times, 12.5, duration).tolist() == [0, 2, 4, 6]
    assert resample(times, 50, duration).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert resample(times, 25, duration).tolist() == list(range(8))


def test_resampling_2997_to_30_shows_every_frame() -> None:
    times = np.arange(300) * 1001 / 30000
    indices = resample(times, 30, 300 * 1001 / 30000)
    assert len(indices) == 301  # 10.01 s
    assert set(indices.tolist()) == set(range(300))


def test_resampling_follows_variable_rates() -> None:
    # One second at 10 frames a second, then a still of a second, then three quick frames.
    times = np.array([*np.arange(10) / 10, 1.0, 2.0, 2.05, 2.1])
    assert resample(times, 5, 2.2).tolist() == [0, 2, 4, 6, 8, 10, 10, 10, 10, 10, 11]
    assert resample(times, 20, 2.15).tolist()[-3:] == [11, 12, 13]


def test_resampling_reaches_the_end() -> None:
    times, duration = even(21, 20)  # 1.05 s: at 10 frames a second, the point at 1.0 s is still on screen
    assert resample(times, 10, duration).tolist() == list(range(0, 21, 2))


def test_resampling_never_returns_nothing() -> None:
    assert resample(np.array([0.0]), 15, 0.04).tolist() == [0]
    assert resample(np.array([0.0]), 15, 0.0).tolist() == [0]


def test_a_video_that_claims_to_last_for_years_is_refused() -> None:
    with pytest.raises(ValueError, match="1000000000 s at 15 frames a second are too many"):
        resample(np.array([0.0, 1e9]), 15, 1e9)


@given(
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=60),
    st.floats(1, 60),
)
def test_resampled_frames_are_those_on_screen(gaps: list[float], fps: float) -> None:
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    duration = float(times[-1]) + 0.04
    indices = resample(times, fps, duration)
    grid = np.arange(len(indices)) / fps
    assert abs(len(indices) - duration * fps) <= 1
    for at, index in zip(grid, indices, strict=True):
        assert times[index] <= at + 2e-6
        assert index == len(times) - 1 or times[index + 1] > at - 2e-6


# -- plans ------------------------------------------------------------------------------------------------------------


def test_ten_clips_of_ten_seconds() -> None:
    times, duration = even(250)
    clips = plan_clips(times, duration, ClipSpec(), ClipSelection())
    assert [c.frames[0] for c in clips] == [0, 26, 52, 78, 104, 130, 156, 182, 208, 234]
    assert clips[-1].frames == tuple(range(234, 250))
    assert not any(c.looped for c in clips)


def test_parts_are_half_open() -> None:
    times, duration = even(250)
    spec = ClipSpec(num_frames=4)
    part = ClipSelection(mode="windows", start_seconds=2.0, end_seconds=2.4)
    clips = plan_clips(times, duration, spec, part)
    assert [c.frames for c in clips] == [(50, 51, 52, 53), (54, 55, 56, 57), (56, 57, 58, 59)]
    assert clip_seconds(clips[-1], times, duration) == pytest.approx((2.24, 2.4))


def test_parts_that_are_short_loop_within_themselves() -> None:
    times, duration = even(250)
    part = ClipSelection(mode="center", start_seconds=1.0, end_seconds=1.1)
    (clip,) = plan_clips(times, duration, ClipSpec(num_frames=5), part)
    assert clip == Clip((25, 26, 27, 25, 26), looped=True)


def test_a_part_without_frames_is_refused() -> None:
    times, duration = even(25)
    with pytest.raises(ValueError, match=r"no frame between 1.5 s and the end; the video has 25 frames in 1\.000 s"):
        plan_clips(times, duration, ClipSpec(), ClipSelection(start_seconds=1.5))
    with pytest.raises(ValueError, match=r"no frame between 0.01 s and 0.02 s"):
        plan_clips(times, duration, ClipSpec(), ClipSelection(start_seconds=0.01, end_seconds=0.02))


def test_strides_count_resampled_frames() -> None:
    times, duration = even(100, 50)
    spec = ClipSpec(num_frames=4, frame_stride=2, target_fps=25.0)
    (clip,) = plan_clips(times, duration, spec, ClipSelection(num_clips=1))
    assert clip.frames == (0, 4, 8, 12)


def test_a_resampled_part_begins_at_its_first_frame() -> None:
    times, duration = even(100, 50)
    spec = ClipSpec(num_frames=4, target_fps=10.0)
    (clip,) = plan_clips(times, duration, spec, ClipSelection(num_clips=1, start_seconds=0.5, end_seconds=0.9))
    assert clip == Clip((25, 30, 35, 40), looped=False)


def test_random_clips_need_an_rng() -> None:
    times, duration = even(100)
    with pytest.raises(ValueError, match="need an explicit rng"):
        plan_clips(times, duration, ClipSpec(), ClipSelection(mode="random"))


def test_too_many_windows_are_refused_rather_than_cut() -> None:
    times, duration = even(100)
    selection = ClipSelection(mode="windows", max_clips=6)
    with pytest.raises(ValueError, match="7 windows of 16 frames, more than the 6 allowed"):
        plan_clips(times, duration, ClipSpec(), selection)
    assert len(plan_clips(times, duration, ClipSpec(), ClipSelection(mode="windows", max_clips=7))) == 7


def test_more_windows_than_anyone_scores_are_refused_before_they_are_made() -> None:
    times = np.arange(200_000) / 25
    with pytest.raises(ValueError, match=r"windows of .* to score, more than 100000; ask for a part"):
        plan_clips(times, 8000.0, ClipSpec(), ClipSelection(mode="salient", num_clips=10, window_step=1))


SELECTIONS = st.builds(
    ClipSelection,
    mode=st.sampled_from(["uniform", "center", "windows", "random", "salient"]),
    num_clips=st.integers(1, 12),
    window_step=st.none() | st.integers(1, 40),
    rule=st.sampled_from(["vmz", "mmaction2", "tsn", "pyslowfast", "pytorchvideo", "3d-resnets"]),
)


@given(
    st.lists(st.floats(0.001, 0.3), min_size=0, max_size=120),
    SPECS,
    SELECTIONS,
    st.none() | st.floats(2, 60),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_plan_is_whole(
    gaps: list[float], spec: ClipSpec, selection: ClipSelection, fps: float | None, start: float, end: float
) -> None:
    """Whatever the video and the selection: clips of T frames, all in the part, padded only if it is too short."""
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    duration = float(times[-1]) + 0.04
    start, end = sorted((start * duration, end * duration))
    spec = dataclasses.replace(spec, target_fps=fps)
    selection = dataclasses.replace(selection, start_seconds=start, end_seconds=end + 0.01)
    inside = np.flatnonzero((times >= start - 2e-6) & (times < end + 0.01 + 2e-6))
    if not np.any((times >= start + 1e-6) & (times < end + 0.01 - 1e-6)):
        assume(not len(inside))  # not on the edge
        with pytest.raises(ValueError, match="no frame between"):
            plan_clips(times, duration, spec, selection, rng=np.random.default_rng(0))
        return
    clips = plan_clips(times, duration, spec, selection, rng=np.random.default_rng(0))
    for clip in clips:
        assert len(clip.frames) == spec.num_frames
        assert inside[0] <= min(clip.frames)
        assert max(clip.frames) <= inside[-1]
        if selection.rule == "vmz" and fps is None and not clip.looped:
            assert np.all(np.diff(clip.frames) == spec.frame_stride)
        first, last = clip_seconds(clip, times, duration)
        assert 0 <= first < last <= duration + 1e-9
    assert set(frames_needed(clips).tolist()) == {i for c in clips for i in c.frames}
    if selection.mode in ("uniform", "random") and selection.rule not in ("3d-resnets",):
        assert len(clips) == selection.num_clips


def test_seconds_of_a_clip() -> None:
    times, duration = even(10, 10)
    assert clip_seconds(Clip((2, 3, 4)), times, duration) == pytest.approx((0.2, 0.5))
    assert clip_seconds(Clip((8, 9)), times, duration) == pytest.approx((0.8, 1.0))
    assert clip_seconds(Clip((8, 9, 0), looped=True), times, duration) == pytest.approx((0.0, 1.0))


def test_frames_needed_are_distinct_and_ascending() -> None:
    assert frames_needed([Clip((5, 6, 7)), Clip((6, 7, 8)), Clip((0, 1, 0), looped=True)]).tolist() == [
        0,
        1,
        5,
        6,
        7,
        8,
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "best"}, "'best' is not one of uniform, center, windows, random, salient"),
        ({"num_clips": 0}, "within 1..10000, got 0"),
        ({"num_clips": MAX_CLIPS + 1}, "within 1..10000, got 10001"),
        ({"window_step": 0}, "window_step must be at least 1"),
        ({"start_seconds": -1.0}, "not negative"),
        ({"end_seconds": float("inf")}, "finite"),
        ({"start_seconds": float("nan")}, "finite"),
        ({"start_seconds": 2.0, "end_seconds": 2.0}, "end_seconds 2.0 is not after start_seconds 2.0"),
        ({"rule": "ours"}, "sampling rule 'ours' is not one of vmz"),
    ],
)
def test_contradictory_selections_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipSelection(**fields)
