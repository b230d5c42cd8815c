from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tenclip_training.sampler.windows import WindowGrid
from tenclip_video.clips import plan_video
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video
from tests.videos import Recipe, make_video

SPEC = ClipSpec(num_frames=4, frame_stride=2)  # 7 frames


@pytest.fixture(scope="module")
def video() -> bytes:
    return make_video(Recipe(num_frames=100))


@pytest.mark.parametrize("target_fps", [None, 10.0])
def test_candidates_are_those_of_a_server(video: bytes, target_fps: float | None) -> None:
    spec = replace(SPEC, target_fps=target_fps)
    with open_video(video) as opened:
        found = WindowGrid(step=3, max_windows=100).clips(opened, spec)
        _, timeline = plan_video(opened, spec, ClipSelection(mode="salient", window_step=3))
    assert timeline is not None
    assert len(found) == len(timeline.seconds)


@pytest.mark.parametrize("most", [2, 3, 5, 8, 31, 32, 33])
def test_long_videos_are_thinned_evenly(video: bytes, most: int) -> None:
    """100 frames, windows of 7 every 3 frames: 32."""
    with open_video(video) as opened:
        clips = WindowGrid(step=3, max_windows=most).clips(opened, SPEC)
        step = WindowGrid(step=3, max_windows=most).selection(opened, SPEC).window_step
    assert step is not None
    assert step % 3 == 0
    assert most / 3 <= len(clips) <= most
    assert clips[-1].frames[-1] == 99, "the end is seen"


def test_a_video_shorter_than_a_clip_is_one_window(tmp_path: Path) -> None:
    with open_video(make_video(Recipe(num_frames=3))) as opened:
        (clip,) = WindowGrid(step=3, max_windows=9).clips(opened, SPEC)
    assert clip.looped
