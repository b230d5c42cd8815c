from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.salience import SamplerSpec, default_spec, read_windows, windows
from tenclip_video.salience.inputs import iter_windows
from tenclip_video.salience.pictures import NO_KEYFRAME, choose_nearest
from tenclip_video.salience.windows import frames_at, middle_frames
from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import Video, open_video
from tests.tenclip_video.salience.panning import SPEC, windows_of
from tests.videos import Recipe, decode_all, frame_number, make_video, remux

RGB = default_spec("rgb", SPEC, height=48, width=64)
KEYS = default_spec("keyframes", SPEC, height=48, width=64)
VIDEO = Recipe(num_frames=100, gop=12)


def numbers(video: Video, clips: list[Clip], spec: SamplerSpec) -> list[list[int]]:
    """The numbers that the frames of each window show."""
    inputs = read_windows(video, clips, spec).inputs
    assert inputs is not None
    assert inputs.dtype == np.uint8
    assert inputs.shape == (len(clips), *spec.input_shape)
    return [[frame_number(frame) for frame in window] for window in inputs]


def keyframes_of(data: bytes) -> list[int]:
    """Encoders put key frames where a picture changes, too."""
    return [number for number, frame in enumerate(decode_all(data)) if frame.key_frame]


def test_frames_of_a_window_are_spread_over_it() -> None:
    with open_video(make_video(VIDEO)) as video:
        clips = windows_of(video)
        assert numbers(video, clips, RGB) == frames_at(clips, 8).tolist()
        assert numbers(video, clips, RGB)[1] == [8, 10, 12, 14, 17, 19, 21, 23]


def test_overlapping_windows_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_GROUP_BYTES", 100 << 20)
    with open_video(make_video(VIDEO)) as video:
        clips = windows_of(video, replace(RGB, window_step=1))
        read_windows(video, clips, RGB)
        assert video.report.frames_requested == 100
        assert video.report.frames_decoded <= 100


def test_groups_share_what_they_overlap_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_MAX_GROUP", 10)
    with open_video(make_video(VIDEO)) as video:
        clips = windows_of(video, replace(RGB, window_step=1))
        groups = [g.inputs for g in iter_windows(video, clips, RGB)]
        assert [len(g) for g in groups if g is not None] == [10] * 8 + [5]
        found = [[frame_number(f) for f in w] for g in groups if g is not None for w in g]
        assert found == frames_at(clips, 8).tolist()
        assert video.report.frames_requested == 100
        assert video.report.frames_decoded <= 100 + 8 * 12


@pytest.mark.parametrize("kind", ["rgb", "keyframes"])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_videos_shorter_than_a_window(kind: str, num_frames: int) -> None:
    spec = RGB if kind == "rgb" else KEYS
    with open_video(make_video(Recipe(num_frames=num_frames))) as video:
        (found,) = numbers(video, windows_of(video), spec)
    assert set(found) <= set(range(num_frames))
    if kind == "keyframes":
        assert found == [0, 0]


@pytest.mark.parametrize("kind", ["rgb", "keyframes"])
def test_windows_are_upright(kind: str) -> None:
    spec = replace(RGB if kind == "rgb" else KEYS, height=64, width=48)
    with open_video(make_video(replace(VIDEO, rotation=90))) as video:
        inputs = read_windows(video, windows_of(video), spec).inputs
        expected = video.read_frames([0], Resize(height=64, width=48))[0]
    assert inputs is not None
    np.testing.assert_array_equal(inputs[0, 0], expected)


def test_only_key_frames_are_decoded() -> None:
    data = make_video(VIDEO)
    keyframes = keyframes_of(data)
    with open_video(data) as video:
        clips = windows_of(video)
        found = numbers(video, clips, KEYS)
        assert video.report.frames_decoded == len(keyframes) == 9
    for window, middle in zip(found, middle_frames(clips).tolist(), strict=True):
        nearest = sorted(keyframes, key=lambda k: (abs(k - middle), k))[:2]
        assert window == sorted(nearest)


def test_only_key_frames_that_a_window_needs_are_decoded() -> None:
    with open_video(make_video(replace(VIDEO, gop=1, b_frames=0))) as video:
        assert numbers(video, [Clip(tuple(range(40, 56)))], KEYS) == [[46, 47]]
        assert video.report.frames_decoded == 2


@pytest.mark.parametrize(
    ("codec", "container"),
    [("mpeg4", "avi"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("mpeg2video", "mpegts"), ("libx264", "avi")],
)
def test_key_frames_of_other_codecs(codec: str, container: str) -> None:
    data = make_video(replace(VIDEO, codec=codec, container=container))
    keyframes = keyframes_of(data)
    with open_video(data) as video:
        clips = windows_of(video)
        found = numbers(video, clips, KEYS)
        # Without times (B-frames in AVI) where a key frame is shown is known to some frames only.
        slack = 0 if video.index.timed else 3
    assert {number for window in found for number in window} <= set(keyframes)
    for window, middle in zip(found, middle_frames(clips).tolist(), strict=True):
        assert window == sorted(window)
        furthest = sorted(abs(k - middle) for k in keyframes)[1]
        assert max(abs(k - middle) for k in window) <= furthest + 2 * slack


def test_groups_of_key_frames_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(make_video(VIDEO)) as video:
        clips = windows_of(video, replace(KEYS, window_step=2))
        whole = read_windows(video, clips, KEYS).inputs
        monkeypatch.setattr(windows, "_MIN_GROUP", 4)
        monkeypatch.setattr(windows, "_MAX_GROUP", 4)
        decoded = video.report.frames_decoded
        groups = [g.inputs for g in iter_windows(video, clips, KEYS)]
        assert video.report.frames_decoded - decoded == 9
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([g for g in groups if g is not None]), whole)


def test_a_key_frame_that_is_damaged_is_replaced_by_the_nearest() -> None:
    data = make_video(replace(VIDEO, container="matroska"))
    broken = remux(data, "matroska", payload=lambda n, packet: packet[:4] + b"\xff" * 8 if n == 48 else packet)
    keyframes = keyframes_of(data)
    assert 48 in keyframes
    with open_video(broken) as video:
        found = read_windows(video, windows_of(video), KEYS)
    assert found.inputs is not None
    assert {frame_number(f) for w in found.inputs for f in w} <= set(keyframes) - {48}


def test_key_frames_that_are_none_are_not_believed() -> None:
    """A stream that is refreshed column by column: each of its key frames is where such a refresh begins."""
    data = make_video(replace(VIDEO, options={"x264-params": "intra-refresh=1:keyint=20"}))
    with open_video(data) as video:
        assert len(video.index.keyframe_pts) == 5
        clips = windows_of(video)
        found = read_windows(video, clips, KEYS)
    assert found.notes == (NO_KEYFRAME,)
    assert found.inputs is not None
    assert [frame_number(w[0]) for w in found.inputs] == middle_frames(clips).tolist()


def test_a_stream_without_key_frames_is_seen_by_the_middles_of_windows() -> None:
    with open_video(make_video(VIDEO)) as video:
        video.index = replace(video.index, keyframe_pts=video.index.keyframe_pts[:0])
        clips = windows_of(video)
        found = read_windows(video, clips, KEYS)
    assert found.notes == (NO_KEYFRAME,)
    assert found.inputs is not None
    assert [frame_number(w[0]) for w in found.inputs] == middle_frames(clips).tolist()


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(-5, 65), min_size=1, max_size=5),
    st.integers(1, 5),
)
def test_the_nearest_are_the_nearest(keyframes: list[int], times: list[int], count: int) -> None:
    keyframes.sort()
    chosen = choose_nearest(np.array(keyframes, np.int64), np.array(times, np.int64), count)
    assert chosen.shape == (len(times), count)
    for time, places in zip(times, chosen.tolist(), strict=True):
        distinct = sorted(set(places))
        assert places == sorted(places)
        assert len(distinct) == min(count, len(keyframes))
        assert distinct == list(range(distinct[0], distinct[-1] + 1))
        furthest = max(abs(keyframes[p] - time) for p in distinct)
        others = [abs(k - time) for i, k in enumerate(keyframes) if i not in distinct]
        assert not others or min(others) >= furthest


def test_target_fps_takes_frames_of_its_timeline() -> None:
    model = ClipSpec(num_frames=4, target_fps=5.0)
    spec = default_spec("rgb", model, samples=4, height=48, width=64)
    with open_video(make_video(VIDEO)) as video:
        assert numbers(video, windows_of(video, spec, model), spec)[0] == [0, 5, 10, 15]
