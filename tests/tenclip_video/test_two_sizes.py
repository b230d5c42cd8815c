"""Frames at two sizes from one decode are those of two reads, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.spec import Resize
from tenclip_video.video import open_video
from tests.videos import Recipe, make_video, remux

WHOLE = Resize(mode="none")
SMALL = Resize(height=24, width=32)

VIDEOS = {
    "h264": make_video(Recipe(num_frames=60, gop=20)),
    "interlaced": make_video(Recipe(num_frames=60, gop=20, options={"x264-params": "interlaced=1"})),
    "turned": make_video(Recipe(num_frames=60, gop=20, rotation=90)),
    "without times": make_video(Recipe(num_frames=60, gop=20, container="h264")),
    "vp9": make_video(Recipe(num_frames=60, gop=20, codec="libvpx-vp9", container="webm")),
}


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("kernel", ["swscale_bilinear", "opencv_bilinear"])
def test_they_are_those_of_two_reads(name: str, kernel: str) -> None:
    small = Resize(height=24, width=32, kernel=kernel)  # type: ignore[arg-type]
    wanted, some = [3, 4, 9, 30, 31, 59], [4, 31]
    with open_video(VIDEOS[name]) as video:
        frames, others = video.read_two_sizes(wanted, small, some, WHOLE)
        decoded = video.report.frames_decoded
    with open_video(VIDEOS[name]) as video:
        assert np.array_equal(frames, video.read_frames(wanted, small))
        assert video.report.frames_decoded == decoded, "nothing is decoded for the second size"
    with open_video(VIDEOS[name]) as video:
        assert others is not None
        assert np.array_equal(others, video.read_frames(some, WHOLE))


@given(st.sets(st.integers(0, 59), min_size=1, max_size=12), st.data())
def test_any_of_the_frames(wanted: set[int], data: st.DataObject) -> None:
    some = sorted(data.draw(st.sets(st.sampled_from(sorted(wanted)))))
    with open_video(VIDEOS["h264"]) as video:
        frames, others = video.read_two_sizes(sorted(wanted), SMALL, some, WHOLE)
        assert others is not None
        assert np.array_equal(frames, video.read_frames(sorted(wanted), SMALL))
        assert np.array_equal(others, video.read_frames(some, WHOLE))


def test_the_second_is_none_where_a_frame_of_it_is_lost() -> None:
    """Some packets are damaged, behind headers that look right: only decoding tells."""
    data = remux(
        make_video(Recipe(num_frames=60, gop=60)),
        "mp4",
        payload=lambda n, packet: packet[:8] + bytes(len(packet) - 8) if 12 < n < 18 else packet,
    )
    with open_video(data) as video:
        expected = video.read_frames([0, 5, 14], SMALL)
        assert video.report.frames_substituted == 1
    with open_video(data) as video:
        frames, others = video.read_two_sizes([0, 5, 14], SMALL, [5, 14], WHOLE)
        assert np.array_equal(frames, expected)
        assert others is None
        assert video.report.frames_substituted == 1
    with open_video(data) as video:
        frames, others = video.read_two_sizes([0, 5, 14], SMALL, [0, 5], WHOLE)
        assert np.array_equal(frames, expected)
        assert others is not None, "what is lost is not among them"
        assert np.array_equal(others, video.read_frames([0, 5], WHOLE))


@pytest.mark.parametrize("some", [[2], [1, 60], [0, 3, 7]])
def test_frames_that_were_not_asked_for(some: list[int]) -> None:
    with open_video(VIDEOS["h264"]) as video, pytest.raises(ValueError, match=r"among those asked for|must lie within"):
        video.read_two_sizes([0, 1, 3], SMALL, some, WHOLE)
