from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tenclip_api.errors import UndecodableVideo
from tenclip_video.clips import read_clips
from tenclip_video.filmstrip import (
    MAX_PICTURE_BYTES,
    MAX_PICTURE_WIDTH,
    MAX_PICTURES,
    PICTURE_HEIGHT,
    Filmstrip,
    _jpeg,
    choose_frames,
    picture_size,
    read_filmstrip,
)
from tenclip_video.index import FrameIndex
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video, open_video
from tests.videos import Recipe, frame_number, make_video


def index(num_frames: int, keyframes: list[int], *, timed: bool = True) -> FrameIndex:
    """At ten frames a second."""
    return FrameIndex(
        pts=np.arange(num_frames, dtype=np.int64),
        keyframe_pts=np.array(keyframes, np.int64),
        keyframe_dts=np.array(keyframes, np.int64),
        time_base=Fraction(1, 10),
        timed=timed,
        end_pts=num_frames,
    )


def test_frames_are_those_nearest_to_the_middles_of_equal_parts() -> None:
    assert choose_frames(index(100, [0]), 4, 0.0, 10.0).tolist() == [0, 37, 62, 87]


def test_a_keyframe_in_a_part_stands_for_it_and_none_outside() -> None:
    assert choose_frames(index(100, [0, 30, 50]), 4, 0.0, 10.0).tolist() == [0, 30, 50, 87]
    assert choose_frames(index(100, [0, 30, 76]), 4, 0.0, 10.0).tolist() == [0, 30, 62, 76]
    assert choose_frames(index(100, [60, 70]), 1, 0.0, 10.0).tolist() == [60]


def test_without_times_keyframes_save_nothing() -> None:
    assert choose_frames(index(100, [0, 30], timed=False), 2, 0.0, 10.0).tolist() == [25, 75]


def test_only_of_a_part() -> None:
    assert choose_frames(index(100, []), 2, 4.0, 6.0).tolist() == [45, 55]


def test_a_frame_that_is_read_anyway_comes_before_a_keyframe() -> None:
    passing = np.array([12, 30, 90])
    assert choose_frames(index(100, [0, 40, 60]), 4, 0.0, 10.0, passing).tolist() == [12, 30, 60, 90]
    assert choose_frames(index(100, [0], timed=False), 4, 0.0, 10.0, passing).tolist() == [12, 30, 62, 90]


def test_short_videos_give_each_frame_once() -> None:
    assert choose_frames(index(3, [0]), 64, 0.0, 0.3).tolist() == [0, 1, 2]
    assert choose_frames(index(1, [0]), 64, 0.0, 0.1).tolist() == [0]


@given(
    num_frames=st.integers(1, 60),
    keyframes=st.sets(st.integers(-5, 70), max_size=6),
    count=st.integers(1, 64),
    start=st.floats(0, 20),
    seconds=st.floats(-1, 20),
    passing=st.sets(st.integers(0, 59), max_size=9),
)
def test_frames_ascend_and_exist_whatever_is_asked(
    num_frames: int, keyframes: set[int], count: int, start: float, seconds: float, passing: set[int]
) -> None:
    read_anyway = np.array(sorted(i for i in passing if i < num_frames), np.int64)
    chosen = choose_frames(index(num_frames, sorted(keyframes)), count, start, start + seconds, read_anyway)
    assert 1 <= len(chosen) <= count
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < num_frames


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_pictures_are_small_and_keep_their_shape(width: int, height: int) -> None:
    h, w = picture_size(width, height)
    assert 1 <= h <= min(PICTURE_HEIGHT, height)
    assert 1 <= w <= min(MAX_PICTURE_WIDTH, width)
    # As near to the shape as whole pixels come; no side vanishes.
    assert abs(w - h * width / height) <= 0.5 + 0.5 * width / height or h == 1 or w == 1


def strip(video: bytes, count: int) -> list[tuple[float, int]]:
    """(seconds, the number that the frame shows) of each picture."""
    with open_video(video) as opened:
        return [(t.seconds, frame_number(decoded(t.jpeg))) for t in read_filmstrip(opened, count)]


def decoded(jpeg: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.format == "JPEG"
        return np.asarray(picture)


def test_pictures_show_the_frames_of_their_times(long_mp4: bytes) -> None:
    """Keyframes are at 0, 2, 4, 6 and 8 s."""
    assert strip(long_mp4, 5) == [(0.0, 0), (2.0, 50), (4.0, 100), (6.0, 150), (8.0, 200)]
    assert [seconds for seconds, _ in strip(long_mp4, 2)] == [2.0, 8.0]
    assert all(round(seconds * 25) == number for seconds, number in strip(long_mp4, 40))


def test_keyframes_cost_one_frame_each(long_mp4: bytes) -> None:
    with open_video(long_mp4) as video:
        before = video.report.frames_decoded
        read_filmstrip(video, 5)
        assert video.report.frames_decoded - before <= 5 * 4  # a few more leave the decoder with each


class Sink:
    """Takes frames and forgets them."""

    def put(self, slot: int, frame: NDArray[np.uint8]) -> None:
        pass

    def repeat(self, slot: int, of: int) -> None:
        pass


@pytest.mark.parametrize(("height", "decoded_again"), [(64, False), (47, True)])
def test_frames_that_are_read_anyway_cost_nothing_unless_they_are_too_small(
    long_mp4: bytes, height: int, decoded_again: bool
) -> None:
    frames, resize = np.array([5, 60, 131, 190, 249]), Resize(height=height, width=90)
    with open_video(long_mp4) as video:
        strip = Filmstrip(video, 5, passing=frames, passing_resize=resize)
        video.read_into(strip.beside(Sink(), frames), frames, resize)
        before = video.report.frames_decoded
        pictures = strip.read()
        assert (video.report.frames_decoded > before) == decoded_again
    numbers = [frame_number(decoded(p.jpeg)) for p in pictures]
    assert numbers == [round(p.seconds * 25) for p in pictures]
    assert numbers == ([0, 50, 100, 150, 200] if decoded_again else frames.tolist())


def test_of_a_frame_that_is_put_twice_the_last_counts(long_mp4: bytes) -> None:
    """The first may have been damaged."""
    frames, resize = np.array([120]), Resize(height=48, width=64)
    with open_video(long_mp4) as video:
        strip = Filmstrip(video, 1, passing=frames, passing_resize=resize)
        sink = strip.beside(Sink(), frames)
        sink.put(0, np.zeros((48, 64, 3), np.uint8))
        sink.put(0, np.full((48, 64, 3), 255, np.uint8))
        sink.repeat(0, 0)
        (picture,) = strip.read()
    assert decoded(picture.jpeg).mean() > 250


def test_turned_videos_stand_upright() -> None:
    with open_video(make_video(Recipe(rotation=90, width=64, height=48))) as video:
        (picture,) = read_filmstrip(video, 1)
    assert (picture.width, picture.height) == (48, 64)
    assert decoded(picture.jpeg).shape == (64, 48, 3)


def test_no_more_than_the_cap_and_none_for_nothing(long_mp4: bytes) -> None:
    with open_video(long_mp4) as video:
        assert len(read_filmstrip(video, 1000)) == MAX_PICTURES
        assert read_filmstrip(video, 0) == ()


def test_noise_stays_below_the_limit() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (PICTURE_HEIGHT, MAX_PICTURE_WIDTH, 3), np.uint8)
    assert len(_jpeg(noise)) < MAX_PICTURE_BYTES


def test_pictures_that_cannot_be_decoded_are_no_reason_to_fail(mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise UndecodableVideo("none of these frames", source="x")

    with open_video(mp4) as video:
        monkeypatch.setattr(Video, "read_frames", fail)
        assert read_filmstrip(video, 3) == ()


def test_clips_and_report_are_the_same_with_pictures(mp4_path: Path) -> None:
    spec = ClipSpec(num_frames=4, crop=32)
    protocol = Protocol(selection=ClipSelection(num_clips=2, start_seconds=0.8, end_seconds=1.2))
    plain = read_clips(mp4_path, spec, protocol)
    with_pictures = read_clips(mp4_path, spec, protocol, thumbnails=3)
    assert plain.thumbnails == ()
    assert [0.8 <= t.seconds < 1.2 for t in with_pictures.thumbnails] == [True] * 3
    assert (with_pictures.clips == plain.clips).all()
    assert with_pictures.report == plain.report


@pytest.mark.parametrize("name", ["archery.avi", "untrimmed.mp4"])
def test_real_videos(data_dir: Path, name: str) -> None:
    with open_video(data_dir / "clips" / name) as video:
        pictures = read_filmstrip(video, 12)
        assert len(pictures) == 12
        expected = picture_size(video.info.width, video.info.height)
    assert {decoded(p.jpeg).shape[:2] for p in pictures} == {expected}
