"""Worked examples of the authors' index rules, and what happens when a plan follows one of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video import rules
from tenclip_video.rules import SamplingRule
from tenclip_video.sampling import Clip, ClipSelection, SelectionMode, plan_clips
from tenclip_video.spec import ClipSpec


def test_mmaction2_rounds_its_offsets() -> None:
    # 10 clips of 32 x 2 (R = 63) from 300 frames: round(k * 237 / 9).
    starts = [clip[0] for clip in rules.mmaction2(300, 10, 32, 2)]
    assert starts == [0, 26, 53, 79, 105, 132, 158, 184, 211, 237]
    assert rules.mmaction2(300, 10, 32, 2)[-1][-1] == 299


def test_mmaction2_takes_the_middle_for_a_single_clip_and_wraps_short_videos() -> None:
    assert rules.mmaction2(100, 1, 8, 1)[0][0] == 46
    assert rules.mmaction2(5, 2, 8, 1) == [[0, 1, 2, 3, 4, 0, 1, 2]] * 2


def test_mmaction2_with_a_target_rate_stretches_clips_over_the_videos_own_frames() -> None:
    # X3D-M, 16 x 5, target_fps 30: S = 80 frames, 10 offsets floor(220 / 9) = 24 apart, linspace(0, 79, 16) truncated.
    clips = rules.mmaction2(300, 10, 16, 5, rate_ratio=1.0)
    assert [clip[0] for clip in clips] == [0, 24, 48, 72, 96, 120, 144, 168, 192, 216]
    assert clips[0] == [0, 5, 10, 15, 21, 26, 31, 36, 42, 47, 52, 57, 63, 68, 73, 79]
    assert (clips[-1][0], clips[-1][-1]) == (216, 295)
    # At 25 frames a second S = 66.67: floor(183.33 / 9) = 20, linspace(0, 65.67, 16).
    clips = rules.mmaction2(250, 10, 16, 5, rate_ratio=25 / 30)
    assert [clip[0] for clip in clips] == [0, 20, 40, 60, 80, 100, 120, 140, 160, 180]
    assert clips[0] == [0, 4, 8, 13, 17, 21, 26, 30, 35, 39, 43, 48, 52, 56, 61, 65]


def test_mmaction2_with_a_target_rate_takes_the_middle_and_wraps() -> None:
    assert rules.mmaction2(301, 1, 16, 5, rate_ratio=1.0)[0][0] == 110
    # S = 80 of 40 frames: all clips begin at 0, and linspace(0, 79, 16) goes around.
    short = [0, 5, 10, 15, 21, 26, 31, 36, 2, 7, 12, 17, 23, 28, 33, 39]
    assert rules.mmaction2(40, 2, 16, 5, rate_ratio=1.0) == [short, short]


@pytest.mark.parametrize("rate_ratio", [None, 2.0])
def test_mmaction2_takes_single_frames_from_the_middle_of_parts(rate_ratio: float | None) -> None:
    assert rules.mmaction2(300, 3, 1, 8, rate_ratio=rate_ratio) == [[50], [150], [250]]


def test_tsn_takes_the_middle_of_each_segment() -> None:
    assert [c[0] for c in rules.tsn(300, 3, 1, 1)] == [50, 150, 250]
    assert [c[0] for c in rules.tsn(10, 25, 1, 1)][:4] == [0, 0, 1, 1]
    assert rules.tsn(4, 3, 8, 1)[0] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_pyslowfast_at_30_and_25_frames_a_second() -> None:
    assert rules.pyslowfast(300, 10, 8, 8, 30.0)[0] == [0, 9, 18, 27, 36, 45, 54, 63]
    assert rules.pyslowfast(300, 10, 8, 8, 30.0)[-1][0] == int(236 * 9 / 10)
    # At 25: a clip covers 53.33 frames; linspace(0, 52.33, 8) truncated.
    assert rules.pyslowfast(250, 10, 8, 8, 25.0)[0] == [0, 7, 14, 22, 29, 37, 44, 52]


def test_pyslowfast_repeats_the_last_frame_of_a_short_video() -> None:
    assert rules.pyslowfast(20, 2, 8, 8, 30.0)[0] == [0, 9, 18, 19, 19, 19, 19, 19]


def test_pyslowfast_counts_in_float32_as_torch_does() -> None:
    # start = 0.4 * (240 - 64) = 70.4; in float64 the fourteenth of linspace(70.4, 133.4, 16) is 125.0.
    assert rules.pyslowfast(240, 10, 16, 5, 24.0)[4][13] == 124


@pytest.mark.parametrize("count", [1, 2, 8, 13, 16, 64])
def test_linspace_is_torchs(count: int) -> None:
    torch = pytest.importorskip("torch")
    for start in (0.0, 7.05, 70.4, 172.4):
        for length in range(0, 300, 7):
            expected = torch.linspace(start, start + length, count).numpy()
            np.testing.assert_array_max_ulp(rules.torch_linspace(start, start + length, count), expected, maxulp=1)


def test_pytorchvideo_works_in_seconds() -> None:
    times = np.arange(300) / 30
    clips = rules.pytorchvideo(times, 10.0, 10, 8, 8)
    # d = 64 / 30 s; 64 frames lie within; floored linspace(0, 63, 8).
    assert clips[0] == [0, 9, 18, 27, 36, 45, 54, 63]
    # start = 1 * (10 - 64/30) / 9 = 0.874 s: the first frame not before it is 27.
    assert clips[1][0] == 27
    assert clips[-1][-1] == 299


def test_3d_resnets_stops_at_the_first_short_window() -> None:
    clips = rules.resnets_3d(40, 16, 1)
    assert clips[0] == list(range(16))
    assert clips[2] == [*range(32, 40), *range(32, 40)]
    assert len(rules.resnets_3d(32, 16, 1)) == 2
    assert rules.resnets_3d(3, 8, 1) == [[0, 1, 2, 0, 1, 2, 0, 1]]


def plan(
    rule: SamplingRule, num_frames: int, spec: ClipSpec, num_clips: int = 2, mode: SelectionMode = "uniform"
) -> list[Clip]:
    times = np.arange(num_frames) / 30
    return plan_clips(times, num_frames / 30, spec, ClipSelection(mode=mode, num_clips=num_clips, rule=rule))


@pytest.mark.parametrize("rule", ["vmz", "mmaction2", "tsn", "pyslowfast", "3d-resnets"])
@pytest.mark.parametrize(("num_frames", "padded"), [(1, True), (2, True), (7, True), (8, False), (80, False)])
def test_plans_say_when_they_are_padded(rule: SamplingRule, num_frames: int, padded: bool) -> None:
    clips = plan(rule, num_frames, ClipSpec(num_frames=8))
    assert clips[0].looped is padded


def test_pytorchvideo_stretches_instead_of_padding() -> None:
    (clip, _) = plan("pytorchvideo", 4, ClipSpec(num_frames=8))
    assert clip == Clip((0, 0, 0, 1, 1, 2, 2, 3), looped=False)


@pytest.mark.parametrize(
    ("rule", "rate", "first", "last_start"),
    [
        # 8 x 8 at 30 a second, 10 seconds. d = 64 / 30 s: 54 frames at 25, 128 at 60; the last clip begins at 7.867 s.
        ("pytorchvideo", 25, [0, 7, 15, 22, 30, 37, 45, 53], 197),
        ("pytorchvideo", 30, [0, 9, 18, 27, 36, 45, 54, 63], 236),
        ("pytorchvideo", 60, [0, 18, 36, 54, 72, 90, 108, 127], 472),
        # 53.33 and 128 frames; the last clip begins at nine tenths of what is left.
        ("pyslowfast", 25, [0, 7, 14, 22, 29, 37, 44, 52], 177),
        ("pyslowfast", 60, [0, 18, 36, 54, 72, 90, 108, 127], 424),
        # 53.33 and 128 frames; offsets floor(196.67 / 9) = 21 and floor(472 / 9) = 52 apart.
        ("mmaction2", 25, [0, 7, 14, 22, 29, 37, 44, 52], 189),
        ("mmaction2", 60, [0, 18, 36, 54, 72, 90, 108, 127], 468),
    ],
)
def test_a_target_rate_is_the_rules_own(rule: SamplingRule, rate: int, first: list[int], last_start: int) -> None:
    spec = ClipSpec(num_frames=8, frame_stride=8, target_fps=30.0)
    times = np.arange(10 * rate) / rate
    clips = plan_clips(times, 10.0, spec, ClipSelection(num_clips=10, rule=rule))
    assert clips[0] == Clip(tuple(first))
    assert clips[-1].frames[0] == last_start


@pytest.mark.parametrize("rule", ["pytorchvideo", "pyslowfast"])
def test_a_spec_without_a_rate_has_the_rules_thirty(rule: SamplingRule) -> None:
    times = np.arange(250) / 25
    selection = ClipSelection(rule=rule)
    with_rate, without = (
        plan_clips(times, 10.0, ClipSpec(num_frames=8, frame_stride=8, target_fps=fps), selection)
        for fps in (30.0, None)
    )
    assert with_rate == without


def test_clips_that_no_rule_places_are_resampled() -> None:
    spec = ClipSpec(num_frames=4, frame_stride=2, target_fps=30.0)
    (clip,) = plan_clips(np.arange(600) / 60, 10.0, spec, ClipSelection(mode="center", rule="pytorchvideo"))
    assert clip == Clip((292, 296, 300, 304))


@pytest.mark.parametrize(("num_frames", "padded"), [(79, True), (80, False)])
def test_a_clip_of_mmaction2_at_a_rate_says_when_it_is_padded(num_frames: int, padded: bool) -> None:
    spec = ClipSpec(num_frames=16, frame_stride=5, target_fps=30.0)
    clips = plan_clips(np.arange(num_frames) / 30, num_frames / 30, spec, ClipSelection(rule="mmaction2"))
    assert {clip.looped for clip in clips} == {padded}


@pytest.mark.parametrize(
    ("num_frames", "duration", "expected"),
    [
        (300, 10.0, 30.0),
        (300, 300 * 0.0333667, 30000 / 1001),
        (250, 10.0004, 25.0),  # a duration in milliseconds
        (100, 8.0, 12.5),
        (1, 0.0, 30.0),
    ],
)
def test_mean_rates_are_those_of_headers(num_frames: int, duration: float, expected: float) -> None:
    assert rules.mean_rate(num_frames, duration) == expected


def test_an_authors_rule_stays_within_its_part_of_the_video() -> None:
    times = np.arange(300) / 30
    part = ClipSelection(num_clips=3, rule="pytorchvideo", start_seconds=2.0, end_seconds=6.0)
    clips = plan_clips(times, 10.0, ClipSpec(num_frames=16), part)
    # d = 16 / 30 s; starts at 2, 3.733 and 5.467 s.
    assert [c.frames[0] for c in clips] == [60, 112, 164]
    assert clips[-1].frames[-1] == 179


@given(st.integers(1, 400), st.integers(1, 12), st.integers(1, 20), st.integers(1, 6), st.floats(5, 120))
def test_rules_never_leave_the_video(num_frames: int, num_clips: int, length: int, stride: int, fps: float) -> None:
    times = np.arange(num_frames) / fps
    all_clips = (
        rules.mmaction2(num_frames, num_clips, length, stride),
        rules.mmaction2(num_frames, num_clips, length, stride, rate_ratio=fps / 30),
        rules.tsn(num_frames, num_clips, length, stride),
        rules.pyslowfast(num_frames, num_clips, length, stride, fps),
        rules.pytorchvideo(times, num_frames / fps, num_clips, length, stride),
        rules.resnets_3d(num_frames, length, stride),
    )
    for clips in all_clips:
        assert clips
        for clip in clips:
            assert len(clip) == length
            assert min(clip) >= 0
            assert max(clip) < num_frames
    assert all(len(clips) == num_clips for clips in all_clips[:5])
