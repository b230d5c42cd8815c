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
    assert all(len(clips) == num_clips for clips in all_clips[:4])
