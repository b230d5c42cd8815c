"""The whole way from a video to clips, on videos whose frames say which they are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest, NotAVideo, UndecodableVideo, VideoTooLarge
from tenclip_video import clips as clips_module
from tenclip_video.clips import VideoClips, read_clips
from tenclip_video.protocols import PROTOCOLS, CropMode, Protocol
from tenclip_video.resize import FrameScaler
from tenclip_video.rules import SamplingRule
from tenclip_video.sampling import Clip, ClipSelection, frames_needed
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec, Resize
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import open_video
from tests.videos import Recipe, frame_number, make_video, remux

SPEC = ClipSpec(num_frames=8, resize=Resize(height=48, width=64), crop=40, fully_convolutional_crop=48)
# Frames are squashed to the crop, so that they stay whole and their numbers can be read.
WHOLE_SPEC = replace(SPEC, resize=Resize(height=48, width=48), crop=48)

WHOLE = make_video(Recipe(num_frames=40, gop=10))
# Some packets in the middle are damaged, behind headers that look right: only decoding tells.
DAMAGED = remux(WHOLE, "mp4", payload=lambda n, packet: packet[:8] + bytes(len(packet) - 8) if 12 < n < 18 else packet)


def numbers(clips: NDArray[np.uint8]) -> list[list[int]]:
    """The number that each frame of [K,T,H,W,3] shows."""
    return [[frame_number(f) for f in clip] for clip in clips]


def read(data: bytes, spec: ClipSpec, selection: ClipSelection | None = None, **changes: Any) -> VideoClips:
    """`read_clips` by a protocol of this selection; `changes` are its other fields."""
    return read_clips(data, spec, Protocol(selection=selection or ClipSelection(), **changes))


def test_clips_hold_the_frames_of_their_plan(long_mp4: bytes) -> None:
    result = read(long_mp4, WHOLE_SPEC)
    assert result.clips.shape == (10, 8, 48, 48, 3)
    assert result.clips.dtype == np.uint8
    assert numbers(result.clips) == [list(clip.frames) for clip in result.plan]
    assert [clip.frames[0] for clip in result.plan] == [0, 26, 53, 80, 107, 134, 161, 188, 215, 242]
    assert result.seconds[1] == pytest.approx((26 / 25, 34 / 25))
    assert result.views == 1
    assert result.info.num_frames == 250
    assert result.report.frames_requested == 80
    assert result.timeline is None


def test_mmaction2s_crops_are_those_of_a_rounded_width() -> None:
    """480x272 to a short edge of 256: 452 wide, so that its right crop begins at 196, which 451 would put at 194."""
    data = make_video(Recipe(width=480, height=272, num_frames=4))
    resize = Resize(mode="short_edge", short_edge=256, kernel="opencv_bilinear")
    spec = ClipSpec(num_frames=1, resize=resize, crop=256, fully_convolutional_crop=None)
    three = read(data, spec, ClipSelection(num_clips=1), crop="three").clips
    with open_video(data) as video:
        assert video.frame_size(resize) == (256, 452)
        whole = video.read_frames([0], replace(resize, mode="squash", height=256, width=452))[0]
    for view, left in enumerate((0, 196, 98)):
        np.testing.assert_array_equal(three[view, 0], whole[:, left : left + 256])


def test_what_preprocessing_takes_is_told_apart(long_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves only while frames are scaled: a second for each."""
    now = [0.0]
    scale = FrameScaler.scaled

    def slow(scaler: FrameScaler, frame: VideoFrame) -> NDArray[np.uint8]:
        now[0] += 1
        return scale(scaler, frame)

    monkeypatch.setattr(FrameScaler, "scaled", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    three = Protocol(selection=ClipSelection(num_clips=3))
    assert read_clips(long_mp4, SPEC, three).preprocess_seconds == 3 * 8
    # Every frame is scaled once more to be scored.
    scored = read_clips(long_mp4, SPEC, three, timeline=True)
    assert (scored.preprocess_seconds, scored.score_seconds) == (250 + 3 * 8, 0)
    monkeypatch.undo()
    assert read_clips(long_mp4, SPEC).preprocess_seconds > 0
    assert read_clips(long_mp4, SPEC).score_seconds == 0
    assert read_clips(long_mp4, SPEC, timeline=True).score_seconds > 0
    with open_video(long_mp4) as video:
        assert video.preprocess_seconds == 0
        video.read_frames([1], SPEC.resize)
        assert video.preprocess_seconds > 0


def test_strides_and_rates(long_mp4: bytes) -> None:
    spec = replace(WHOLE_SPEC, frame_stride=3, target_fps=12.5)
    result = read(long_mp4, spec, ClipSelection(mode="center"))
    (clip,) = result.plan
    assert clip.frames == tuple(range(clip.frames[0], clip.frames[0] + 48, 6))
    assert numbers(result.clips) == [list(clip.frames)]


def test_short_videos_loop_and_say_so() -> None:
    result = read(make_video(Recipe(num_frames=5)), WHOLE_SPEC, ClipSelection(num_clips=2))
    assert numbers(result.clips) == [[0, 1, 2, 3, 4, 0, 1, 2]] * 2
    assert all(clip.looped for clip in result.plan)
    assert result.report.frames_requested == 5
    assert np.asarray(result.seconds) == pytest.approx(np.array([[0, 0.2], [0, 0.2]]))


def test_every_frame_is_decoded_once_however_many_clips_it_is_in(long_mp4: bytes) -> None:
    result = read(long_mp4, WHOLE_SPEC, ClipSelection(mode="windows", window_step=1))
    assert len(result.plan) == 243
    assert result.report.frames_requested == 250
    assert numbers(result.clips[100:101]) == [list(range(100, 108))]


def test_a_part_of_the_video(long_mp4: bytes) -> None:
    part = ClipSelection(mode="windows", start_seconds=4.0, end_seconds=4.64)
    result = read(long_mp4, WHOLE_SPEC, part)
    assert numbers(result.clips) == [list(range(100, 108)), list(range(108, 116))]


# -- crops and colours ------------------------------------------------------------------------------------------------


def whole_frames(data: bytes, spec: ClipSpec, plan: Sequence[Clip]) -> NDArray[np.uint8]:
    """[K,T,H,W,3]: the clips of a plan, not cropped."""
    needed = frames_needed(plan)
    with open_video(data) as video:
        frames = video.read_frames(needed, spec.resize)
    if spec.color_order == "bgr":
        frames = frames[..., ::-1]
    return np.stack([frames[np.searchsorted(needed, clip.frames)] for clip in plan])


def test_centre_crops(long_mp4: bytes) -> None:
    result = read(long_mp4, SPEC, ClipSelection(num_clips=2))
    assert result.clips.shape == (2, 8, 40, 40, 3)
    np.testing.assert_array_equal(result.clips, whole_frames(long_mp4, SPEC, result.plan)[:, :, 4:44, 12:52])


def test_fully_convolutional_crops_are_larger(long_mp4: bytes) -> None:
    result = read(long_mp4, SPEC, ClipSelection(num_clips=2), fully_convolutional=True)
    np.testing.assert_array_equal(result.clips, whole_frames(long_mp4, SPEC, result.plan)[:, :, :48, 8:56])


@pytest.mark.parametrize("mode", ["three", "three-pyslowfast"])
def test_the_views_of_a_clip_follow_each_other(long_mp4: bytes, mode: CropMode) -> None:
    result = read(long_mp4, SPEC, ClipSelection(num_clips=2), crop=mode)
    assert result.clips.shape == (6, 8, 40, 40, 3)
    assert (result.views, len(result.plan)) == (3, 2)
    frames = whole_frames(long_mp4, SPEC, result.plan)
    for clip in range(2):
        for view, (top, left) in enumerate(crop_offsets(48, 64, 40, mode)):
            np.testing.assert_array_equal(
                result.clips[3 * clip + view], frames[clip, :, top : top + 40, left : left + 40]
            )


def test_a_protocol_brings_its_own_resize(long_mp4: bytes) -> None:
    """The short edge is scaled, not the frame squashed, whoever calls."""
    spec = replace(SPEC, resize=Resize(height=32, width=60), crop=24, fully_convolutional_crop=30)
    result = read_clips(long_mp4, spec, PROTOCOLS["fully-convolutional-se"])
    kept = replace(spec, resize=Resize(mode="short_edge", height=32, width=60, short_edge=32))
    frames = whole_frames(long_mp4, kept, result.plan)
    assert frames.shape[2:4] == (32, 42)
    np.testing.assert_array_equal(result.clips, frames[:, :, 1:31, 6:36])
    squashed = read_clips(long_mp4, spec, PROTOCOLS["fully-convolutional"])
    assert np.abs(result.clips.astype(int) - squashed.clips).mean() > 5


def test_bgr(long_mp4: bytes) -> None:
    rgb = read(long_mp4, SPEC, ClipSelection(num_clips=2))
    bgr = read(long_mp4, replace(SPEC, color_order="bgr"), ClipSelection(num_clips=2))
    np.testing.assert_array_equal(bgr.clips, rgb.clips[..., ::-1])
    assert bgr.clips.flags.c_contiguous


def test_no_resize_takes_the_frames_as_they_are_shown(long_mp4: bytes) -> None:
    spec = replace(SPEC, resize=Resize(mode="none"), crop=48)
    result = read(long_mp4, spec)
    np.testing.assert_array_equal(result.clips, whole_frames(long_mp4, spec, result.plan)[:, :, :, 8:56])
    # 48 wide and 64 high, so that a crop of 50 does not fit.
    with pytest.raises(InvalidRequest, match="a crop of 50 does not fit into frames of 64x48"):
        read(make_video(Recipe(rotation=90)), replace(spec, crop=50, fully_convolutional_crop=None))


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_a_crop_that_does_not_fit(long_mp4: bytes) -> None:
    with pytest.raises(InvalidRequest, match="upload: a crop of 50 does not fit into frames of 48x64"):
        read_clips(long_mp4, replace(SPEC, crop=50, fully_convolutional_crop=None), name="upload")


def test_a_family_without_a_fully_convolutional_protocol() -> None:
    spec = replace(SPEC, fully_convolutional_crop=None)
    with pytest.raises(InvalidRequest, match="no fully-convolutional crop"):
        read(b"not looked at", spec, fully_convolutional=True)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (ClipSelection(start_seconds=11.0), "no frame between 11 s and the end; the video has 250 frames in 10.000 s"),
        (ClipSelection(mode="windows", max_clips=5), "32 windows of 8 frames, more than the 5 allowed"),
        (ClipSelection(mode="random"), "random clips need an explicit rng"),
    ],
)
def test_selections_that_do_not_fit_the_video(long_mp4: bytes, selection: ClipSelection, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"<bytes>: {message}"):
        read(long_mp4, SPEC, selection)


def test_clips_that_would_fill_the_memory(long_mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SPEC, resize=Resize(height=40, width=40))
    monkeypatch.setattr(clips_module, "MAX_CLIP_BYTES", 10 * 8 * 40 * 40 * 3)
    assert len(read_clips(long_mp4, spec).clips) == 10
    overlapping = ClipSelection(mode="windows", window_step=1, end_seconds=0.72)
    with pytest.raises(VideoTooLarge, match=r"11 clips of 8x40x40 are .* ask for fewer clips or a part"):
        read(long_mp4, spec, overlapping)
    # Frames that are larger than the clips are never in memory together.
    assert len(read_clips(long_mp4, replace(spec, resize=Resize(height=200, width=300))).clips) == 10


def cropped(data: bytes, spec: ClipSpec, plan: Sequence[Clip], crop: CropMode) -> NDArray[np.uint8]:
    """[K*V,T,H,W,3], the long way: all frames, then the clips, then all of their crops."""
    frames = whole_frames(data, spec, plan)
    _, _, height, width, _ = frames.shape
    offsets = crop_offsets(height, width, spec.crop, crop)
    views = [frames[:, :, top : top + spec.crop, left : left + spec.crop] for top, left in offsets]
    return np.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


@settings(max_examples=60, deadline=None)
@given(
    selection=st.one_of(
        st.builds(ClipSelection, mode=st.sampled_from(["uniform", "salient"]), num_clips=st.integers(1, 12)),
        st.builds(ClipSelection, mode=st.just("windows"), window_step=st.integers(1, 20)),
        st.builds(ClipSelection, rule=st.sampled_from(get_args(SamplingRule)), num_clips=st.integers(1, 12)),
    ),
    crop=st.sampled_from(get_args(CropMode)),
    size=st.tuples(st.integers(16, 60), st.integers(16, 60)),
    num_frames=st.integers(1, 12),
    stride=st.integers(1, 9),
    bgr=st.booleans(),
    damaged=st.booleans(),
)
def test_clips_are_those_of_whole_frames_cropped(
    selection: ClipSelection,
    crop: CropMode,
    size: tuple[int, int],
    num_frames: int,
    stride: int,
    bgr: bool,
    damaged: bool,
) -> None:
    """Also where a frame is in many clips, or twice in one that loops, or cannot be decoded."""
    data = DAMAGED if damaged else WHOLE
    spec = ClipSpec(
        num_frames=num_frames,
        frame_stride=stride,
        resize=Resize(height=size[0], width=size[1]),
        crop=16,
        fully_convolutional_crop=None,
        color_order="bgr" if bgr else "rgb",
    )
    try:
        result = read(data, spec, selection, crop=crop)
    except UndecodableVideo:
        assert damaged
        assume(False)  # a plan of damaged frames and no others, as one of a single frame can be
    np.testing.assert_array_equal(result.clips, cropped(data, spec, result.plan, crop))


def test_a_frame_that_cannot_be_decoded_is_stood_in_for_in_every_clip() -> None:
    spec = replace(SPEC, num_frames=4)
    result = read(DAMAGED, spec, ClipSelection(mode="windows", window_step=1), crop="three")
    assert result.report.frames_substituted > 0
    np.testing.assert_array_equal(result.clips, cropped(DAMAGED, spec, result.plan, "three"))


def test_bad_videos_and_limits(long_mp4: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotAVideo, match="upload"):
        read_clips(b"no video", SPEC, name="upload")
    with pytest.raises(VideoTooLarge):
        read_clips(io.BytesIO(long_mp4), SPEC, limits=Limits(max_frames=100))


def test_the_next_video_is_good_again(long_mp4: bytes) -> None:
    for _ in range(3):
        with pytest.raises(NotAVideo):
            read_clips(b"no video", SPEC)
        assert read_clips(long_mp4, SPEC).report.frames_substituted == 0


def test_files_are_closed(mp4_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("counts open files in /proc")
    before = len(list(descriptors.iterdir()))
    for _ in range(5):
        read_clips(mp4_path, SPEC)
        with pytest.raises(InvalidRequest):
            read_clips(mp4_path, SPEC, Protocol(selection=ClipSelection(start_seconds=100)))
        with open_video(mp4_path):
            pass
    assert len(list(descriptors.iterdir())) == before
