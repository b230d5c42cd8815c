"""Windows in the compressed domain: real encoders, known motion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tenclip_video.salience import SamplerSpec, default_spec, read_windows, windows
from tenclip_video.salience.compressed import CHANNELS, part_bounds, read_motion
from tenclip_video.salience.inputs import iter_windows
from tenclip_video.sampling import Clip
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.video import open_video
from tests.tenclip_video.salience.panning import HEIGHT, SPEC, WIDTH, pan, still, windows_of
from tests.videos import Recipe, make_video

SAMPLER = default_spec("compressed", SPEC)
PAN = Recipe(width=WIDTH, height=HEIGHT, num_frames=60, gop=30)


def motion_of(data: bytes, spec: SamplerSpec = SAMPLER, model: ClipSpec = SPEC) -> tuple[float, float]:
    """(x, y) of the median of all cells, parts and windows, as fractions of the picture."""
    with open_video(data) as video:
        inputs = read_windows(video, windows_of(video, spec, model), spec).inputs
    assert inputs is not None
    assert inputs.dtype == np.float32
    x, y = np.median(inputs[..., :2].reshape(-1, 2), axis=0).tolist()
    return x, y


@pytest.mark.parametrize(
    "changes",
    [
        {"b_frames": 0},
        {"b_frames": 2},
        {"b_frames": 3, "options": {"b-pyramid": "normal", "refs": "1"}},
        {"codec": "mpeg4", "b_frames": 0},
        {"codec": "mpeg4", "b_frames": 2},
        {"codec": "mpeg2video", "container": "mpegts", "b_frames": 2},
        {"codec": "flv", "container": "flv"},
        {"codec": "wmv2", "container": "asf"},
        # No times: frames are told apart by counting them.
        {"container": "avi", "b_frames": 2},
        {"codec": "mpeg4", "container": "avi", "b_frames": 2},
    ],
    ids=lambda c: " ".join(map(str, c.values())),
)
def test_a_pan_moves_every_frame_by_as_much(changes: dict[str, object]) -> None:
    data = make_video(replace(PAN, **changes), paint=pan(4, -2))  # type: ignore[arg-type]
    x, y = motion_of(data)
    assert x == pytest.approx(4 / WIDTH, rel=0.05)
    assert y == pytest.approx(-2 / HEIGHT, rel=0.05)


@pytest.mark.parametrize(
    ("rotation", "mirrored", "expected"),
    [
        (90, False, (2 / HEIGHT, 4 / WIDTH)),
        (180, False, (-4 / WIDTH, 2 / HEIGHT)),
        (270, False, (-2 / HEIGHT, -4 / WIDTH)),
        (0, True, (-4 / WIDTH, -2 / HEIGHT)),
        (90, True, (-2 / HEIGHT, 4 / WIDTH)),
    ],
)
def test_motion_is_as_the_video_is_shown(rotation: int, mirrored: bool, expected: tuple[float, float]) -> None:
    data = make_video(replace(PAN, rotation=rotation, mirrored=mirrored), paint=pan(4, -2))
    assert motion_of(data) == pytest.approx(expected, rel=0.05)


def test_the_grid_turns_with_the_video() -> None:
    """Only the left quarter of the coded picture moves; turned clockwise, that is the upper quarter."""

    def paint(number: int, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        frame = still(number, height, width).copy()
        frame[:, : width // 4] = pan(0, 4)(number, height, width)[:, : width // 4]
        return frame

    data = make_video(replace(PAN, rotation=90), paint=paint)
    with open_video(data) as video:
        inputs = read_windows(video, windows_of(video), SAMPLER).inputs
    assert inputs is not None
    sideways = np.abs(inputs[..., 0]).mean(axis=(0, 1))  # down becomes left
    differences = inputs[..., 2].mean(axis=(0, 1))
    for seen in (sideways, differences):
        assert seen[: SAMPLER.height // 4].mean() > 20 * seen[SAMPLER.height // 2 :].mean()
    assert np.median(inputs[:, :, :7, :, 0]) == pytest.approx(-4 / HEIGHT, rel=0.1)


def test_nothing_moves_in_a_still_video() -> None:
    with open_video(make_video(PAN, paint=still)) as video:
        inputs = read_windows(video, windows_of(video), SAMPLER).inputs
    assert inputs is not None
    assert np.abs(inputs[..., :2]).max() < 1e-4
    assert inputs[..., 2].max() < 0.02


def test_the_difference_is_that_of_neighbouring_frames() -> None:
    """Against the frames themselves, scaled the same way."""
    data = make_video(replace(PAN, options={"crf": "10"}), paint=pan(3, 1))
    with open_video(data) as video:
        clip = Clip(tuple(range(8, 24)))
        inputs = read_windows(video, [clip], replace(SAMPLER, samples=1)).inputs
        grey = video.read_frames(range(7, 24), Resize(height=32, width=32)).mean(axis=-1)
    assert inputs is not None
    expected = np.abs(np.diff(grey, axis=0)).mean(axis=0) / 255
    assert np.abs(inputs[0, 0, ..., 2] - expected).mean() < 0.01
    assert np.corrcoef(inputs[0, 0, ..., 2].ravel(), expected.ravel())[0, 1] > 0.98


def test_colours_are_those_of_the_last_key_frame_before_the_middle() -> None:
    data = make_video(replace(PAN, num_frames=60, gop=20), paint=pan(4, 0))
    with open_video(data) as video:
        clips = [Clip(tuple(range(start, start + 16))) for start in (0, 10, 14, 30, 44)]
        inputs = read_windows(video, clips, SAMPLER).inputs
        keyframes = np.searchsorted(video.index.pts, video.index.keyframe_pts)
        middles = np.array([start + 7 for start in (0, 10, 14, 30, 44)])
        expected = keyframes[np.searchsorted(keyframes, middles, side="right") - 1]
        frames = video.read_frames(np.unique(expected), Resize(height=32, width=32))
        frames = frames[np.searchsorted(np.unique(expected), expected)]
    assert inputs is not None
    for part in range(SAMPLER.samples):
        np.testing.assert_allclose(inputs[:, part, ..., 3:], frames / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("codec", "container"), [("libx265", "mp4"), ("libvpx-vp9", "webm"), ("mjpeg", "avi"), ("libsvtav1", "mp4")]
)
def test_codecs_without_vectors_are_seen_by_differences(codec: str, container: str) -> None:
    with open_video(make_video(replace(PAN, codec=codec, container=container), paint=pan(4, -2))) as video:
        found = read_windows(video, windows_of(video), SAMPLER)
        name = video.info.codec
    assert found.notes == (f"no motion vectors come with this {name} video: the sampler sees frame differences alone",)
    assert found.inputs is not None
    assert not found.inputs[..., :2].any()
    assert found.inputs[..., 2].mean() > 0.01


def test_vectors_are_noted_by_nobody_where_they_come() -> None:
    with open_video(make_video(PAN, paint=pan(4, -2))) as video:
        assert read_windows(video, windows_of(video), SAMPLER).notes == ()


def test_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_video(make_video(PAN, paint=pan(4, -2))) as video:
        clips = windows_of(video, replace(SAMPLER, window_step=3))
        whole = read_windows(video, clips, SAMPLER).inputs
        monkeypatch.setattr(windows, "_MIN_GROUP", 2)
        monkeypatch.setattr(windows, "_MAX_GROUP", 2)
        groups = [g.inputs for g in iter_windows(video, clips, SAMPLER)]
    assert len(groups) == 8
    assert whole is not None
    np.testing.assert_array_equal(np.concatenate([g for g in groups if g is not None]), whole)


def test_windows_in_any_order_are_read_in_one_pass() -> None:
    with open_video(make_video(PAN, paint=pan(4, -2))) as video:
        clips = windows_of(video)
        straight = read_windows(video, clips, SAMPLER).inputs
        before = video.report.frames_decoded
        shuffled = read_windows(video, clips[::-1], SAMPLER).inputs
        assert video.report.frames_decoded - before == 60
        with pytest.raises(ValueError, match="order of their first frames"):
            iter_windows(video, clips[::-1], SAMPLER)
    assert straight is not None
    assert shuffled is not None
    np.testing.assert_array_equal(shuffled[::-1], straight)


def test_a_part_of_a_video_is_the_same_as_of_all_of_it() -> None:
    with open_video(make_video(replace(PAN, gop=10), paint=pan(4, -2))) as video:
        clips = windows_of(video)
        whole = read_windows(video, clips, SAMPLER).inputs
        before = video.report.frames_decoded
        part = read_windows(video, clips[4:], SAMPLER).inputs
        assert video.report.frames_decoded - before <= 60 - 30
    assert whole is not None
    assert part is not None
    # Differences of the first frame need one before, which is not decoded where it is a key frame.
    np.testing.assert_array_equal(part[1:], whole[5:])


def test_reading_on_is_not_disturbed() -> None:
    """Neither by a pass that ended nor by one that was given up."""
    data = make_video(PAN, paint=pan(4, -2))
    with open_video(data) as video:
        expected = video.read_frames(range(60), Resize(height=32, width=32))
        read_windows(video, windows_of(video), SAMPLER)
        np.testing.assert_array_equal(video.read_frames(range(60), Resize(height=32, width=32)), expected)
        motion = read_motion(video, 0, 60, SAMPLER)
        next(motion)
        motion.close()
        np.testing.assert_array_equal(video.read_frames([31, 40], Resize(height=32, width=32)), expected[[31, 40]])


def test_a_pass_that_nobody_ends_opens_nothing_again() -> None:
    video = open_video(make_video(PAN, paint=pan(4, -2)))
    motion = read_motion(video, 0, 60, SAMPLER)
    next(motion)
    video.close()
    motion.close()
    assert video.decoder.closed


@pytest.mark.parametrize(
    ("num_frames", "model"),
    [(1, SPEC), (5, SPEC), (60, replace(SPEC, target_fps=5.0)), (60, replace(SPEC, target_fps=60.0))],
)
def test_short_and_resampled_videos(num_frames: int, model: ClipSpec) -> None:
    spec = default_spec("compressed", model)
    with open_video(make_video(replace(PAN, num_frames=num_frames), paint=pan(4, -2))) as video:
        clips = windows_of(video, spec, model)
        found = read_windows(video, clips, spec)
    assert found.inputs is not None
    assert found.inputs.shape == (len(clips), *spec.input_shape)
    assert np.isfinite(found.inputs).all()
    assert found.inputs[..., 3:].mean() > 0.1
    if num_frames == 60:
        assert np.median(found.inputs[..., 0]) == pytest.approx(4 / WIDTH, rel=0.05)


def test_variable_frame_rate() -> None:
    """Motion is per frame, whatever the time between two."""
    ticks = tuple(np.cumsum([1 + 3 * (i % 5 == 0) for i in range(60)]).tolist())
    data = make_video(replace(PAN, ticks=ticks, time_base=Fraction(1, 50)), paint=pan(4, -2))
    assert motion_of(data)[0] == pytest.approx(4 / WIDTH, rel=0.05)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) * 2 // 3], lambda d: _scramble(d)], ids=["cut", "scrambled"])
def test_damaged_videos_give_what_there_is(damage: Callable[[bytes], bytes]) -> None:
    options = {"movflags": "faststart"}
    data = damage(make_video(replace(PAN, muxer_options=options), paint=pan(4, -2)))
    with open_video(data) as video:
        clips = windows_of(video)
        inputs = read_windows(video, clips, SAMPLER).inputs
    assert inputs is not None
    assert len(inputs) == len(clips)
    assert np.isfinite(inputs).all()
    assert np.median(inputs[0, ..., 0]) == pytest.approx(4 / WIDTH, rel=0.1)


def _scramble(data: bytes) -> bytes:
    changed = bytearray(data)
    rng = np.random.default_rng(3)
    for at in rng.integers(len(data) // 2, len(data), 60).tolist():
        changed[at] = int(rng.integers(256))
    return bytes(changed)


@pytest.mark.parametrize(
    ("frames", "parts", "low", "high"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), 4, [0, 2, 4, 6], [2, 4, 6, 8]),
        ((3, 3, 4, 4, 5, 5), 3, [3, 4, 5], [4, 5, 6]),
        ((7,), 3, [7, 7, 7], [8, 8, 8]),
        ((0, 1, 2, 0, 1, 2), 2, [0, 0], [1, 3]),  # looped: the first half ends where it begins
    ],
)
def test_parts_of_a_window(frames: tuple[int, ...], parts: int, low: list[int], high: list[int]) -> None:
    first, after = part_bounds([Clip(frames)], parts)
    assert (first[0].tolist(), after[0].tolist()) == (low, high)


def test_channels_are_those_of_the_description() -> None:
    assert default_spec("compressed", SPEC).channels == len(CHANNELS)
