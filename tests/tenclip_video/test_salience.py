from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_video.clips import read_clips
from tenclip_video.protocols import Protocol
from tenclip_video.salience import MotionEnergyScorer, WindowScores, motion_energy
from tenclip_video.sampling import Clip, ClipSelection, plan_clips
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video, open_video
from tests.videos import Recipe, make_video

ACTION = range(96, 128)  # of 240 frames; everything else stands still
SPEC = ClipSpec(num_frames=8, resize=Resize(height=48, width=64), crop=48, fully_convolutional_crop=None)


def still_but_for_the_action(number: int, height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    frame = np.repeat((60 + 60 * np.sin(x / 5) * np.cos(y / 7))[..., None], 3, axis=2)
    left = 4 + (3 * (number - ACTION.start) % 40 if number in ACTION else 0)
    frame[height // 3 : 2 * height // 3, left : left + 14] = 230
    return np.asarray(frame, np.uint8)


def flashes_and_a_slow_hand(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """Lightning in the first half, whole-picture and at once; in the second, something small that moves steadily."""
    frame = np.full((height, width, 3), 220 if number in (13, 29, 45) else 60, np.uint8)
    left = 5 + max(0, number - 60) % 50
    frame[20:30, left : left + 8] = 160
    return frame


@pytest.fixture(scope="module")
def still() -> bytes:
    return make_video(Recipe(num_frames=240, gop=60), paint=still_but_for_the_action)


def test_motion_is_found_in_an_otherwise_still_video(still: bytes) -> None:
    result = read_clips(still, SPEC, Protocol(selection=ClipSelection(mode="salient", num_clips=4)))
    starts = [clip.frames[0] for clip in result.plan]
    assert starts == [96, 104, 112, 120]
    assert result.timeline is not None
    assert result.timeline.scorer == "motion-energy"
    assert len(result.timeline.scores) == len(result.timeline.seconds) == len(result.timeline.selected) == 30
    assert np.flatnonzero(result.timeline.selected).tolist() == [12, 13, 14, 15]
    moving, resting = result.timeline.scores[12:16], np.delete(result.timeline.scores, range(11, 17))
    assert moving.min() > 5 * resting.max()
    assert result.timeline.seconds[12] == pytest.approx((96 / 25, 104 / 25))


def test_a_flash_does_not_drown_steady_motion() -> None:
    data = make_video(Recipe(num_frames=120, gop=30), paint=flashes_and_a_slow_hand)
    result = read_clips(
        data,
        ClipSpec(**{**vars(SPEC), "num_frames": 16}),
        Protocol(selection=ClipSelection(mode="salient", num_clips=2)),
    )
    assert all(clip.frames[0] >= 60 for clip in result.plan)


def test_more_clips_than_windows_gives_every_window(still: bytes) -> None:
    result = read_clips(still, SPEC, Protocol(selection=ClipSelection(mode="salient", num_clips=50)))
    assert len(result.plan) == 30
    assert result.timeline is not None
    assert result.timeline.selected.all()


def test_scores_do_not_depend_on_how_many_clips_are_scored_at_once(
    still: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_video(still) as video:
        windows = plan_clips(video.times, video.info.duration_seconds, SPEC, ClipSelection(mode="windows"))
        whole = MotionEnergyScorer().score(video, windows).video
        monkeypatch.setattr(motion_energy, "_CLIPS_AT_ONCE", 7)
        np.testing.assert_array_equal(MotionEnergyScorer().score(video, windows).video, whole)
    assert whole.dtype == np.float32
    assert whole.shape == (30,)


def test_a_long_video_is_scored_a_part_at_a_time(still: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    read = Video.read_frames

    def counting(self: Video, indices: Sequence[int], resize: Resize) -> NDArray[np.uint8]:
        reads.append(len(indices))
        return read(self, indices, resize)

    monkeypatch.setattr(motion_energy, "_CLIPS_AT_ONCE", 7)
    monkeypatch.setattr(Video, "read_frames", counting)
    with open_video(still) as video:
        windows = plan_clips(video.times, video.info.duration_seconds, SPEC, ClipSelection(mode="windows"))
        MotionEnergyScorer(samples_per_clip=2).score(video, windows)
    assert len(reads) == 5
    assert max(reads) <= 7 * 2 * 2


def test_clips_of_one_frame_have_no_motion() -> None:
    with open_video(make_video(Recipe(num_frames=1))) as video:
        assert MotionEnergyScorer().score(video, [Clip((0,)), Clip((0, 0), looped=True)]).video.tolist() == [0, 0]
    with open_video(make_video(Recipe(num_frames=40))) as video:
        assert MotionEnergyScorer().score(video, [Clip((39,))]).video.tolist() == [0]


def test_two_frames_are_enough() -> None:
    with open_video(make_video(Recipe(num_frames=40))) as video:
        (score,) = MotionEnergyScorer().score(video, [Clip((38, 39))]).video
        assert score > 0


def test_no_clips_no_scores() -> None:
    with open_video(make_video(Recipe(num_frames=2))) as video:
        assert MotionEnergyScorer().score(video, []).video.shape == (0,)


class LastIsBest:
    name = "last-is-best"
    window_step = None

    def check_clips(self, model_spec: ClipSpec) -> None:
        """Any will do."""

    def score(self, video: Video, clips: Sequence[Clip]) -> WindowScores:
        return WindowScores(np.arange(len(clips), dtype=np.float32))


def test_any_scorer_will_do(still: bytes) -> None:
    result = read_clips(
        still, SPEC, Protocol(selection=ClipSelection(mode="salient", num_clips=2)), scorer=LastIsBest()
    )
    assert [clip.frames[0] for clip in result.plan] == [224, 232]
    assert result.timeline is not None
    assert result.timeline.scorer == "last-is-best"


def test_a_timeline_without_a_salient_selection(still: bytes) -> None:
    windows = read_clips(still, SPEC, Protocol(selection=ClipSelection(mode="windows")), timeline=True).timeline
    assert windows is not None
    assert windows.selected.all()
    uniform = read_clips(still, SPEC, Protocol(selection=ClipSelection(num_clips=2)), timeline=True).timeline
    assert uniform is not None
    assert np.flatnonzero(uniform.selected).tolist() == [0, 29]
    np.testing.assert_array_equal(uniform.scores, windows.scores)
    assert read_clips(still, SPEC, Protocol(selection=ClipSelection(num_clips=2))).timeline is None


def test_ties_go_to_the_earlier() -> None:
    assert WindowScores(np.array([2, 5, 5, 5], np.float32)).order(2).tolist() == [1, 2]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_the_highest_scores_the_most_salient_first(values: list[int], num_clips: int) -> None:
    scores = WindowScores(np.array(values, np.float32))
    chosen = scores.order(num_clips).tolist()
    assert len(set(chosen)) == len(chosen) == min(num_clips, len(values))
    if scores.is_flat:
        assert chosen == sorted(chosen)
        return
    taken = [values[i] for i in chosen]
    assert taken == sorted(taken, reverse=True)
    rest = [v for i, v in enumerate(values) if i not in chosen]
    assert not rest or min(taken) >= max(rest)
