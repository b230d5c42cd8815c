"""Files cut off at many places, and with random bytes changed: frames and a report, or a typed error; nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import NoFrames, NotAVideo, NoVideoStream, TruncatedVideo, UndecodableVideo, VideoError
from tenclip_video.resize import FrameScaler
from tenclip_video.spec import Resize
from tenclip_video.video import DecodeReport, open_video
from tests.bitstreams import mux_packets, read_packets
from tests.videos import Recipe, decode_all, frame_numbers, make_video

NUM_FRAMES = 40
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
RECIPES = {
    "mp4": Recipe(gop=10),
    "mp4 with sound": Recipe(gop=10, audio=True),
    "mp4 faststart": Recipe(gop=10, muxer_options={"movflags": "faststart"}),
    "mp4 fragmented": Recipe(gop=10, muxer_options=FRAGMENTED),
    "mp4 hevc": Recipe(codec="libx265", gop=10, muxer_options={"movflags": "faststart"}),
    "mp4 av1": Recipe(codec="libsvtav1", gop=10, muxer_options={"movflags": "faststart"}),
    "mkv": Recipe(container="matroska", gop=10, audio=True),
    "webm": Recipe(codec="libvpx-vp9", container="webm", gop=10),
    "mpegts": Recipe(container="mpegts", gop=10, audio=True),
    "mpegps": Recipe(codec="mpeg2video", container="mpeg", gop=10),
    "avi": Recipe(codec="mpeg4", container="avi", gop=10),
    "mjpeg avi": Recipe(codec="mjpeg", container="avi"),
    "flv": Recipe(container="flv", gop=10),
    "wmv": Recipe(codec="wmv2", container="asf", gop=10),
    "gif": Recipe(codec="gif", container="gif", width=32, height=24),
}
# A program stream ends anywhere, and so does a fragmented MP4 or a transport stream between two parts.
TELLS_ITS_END = set(RECIPES) - {"mpegps"}


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    return {name: make_video(recipe) for name, recipe in RECIPES.items()}


@dataclass(frozen=True)
class Outcome:
    error: VideoError | None = None
    numbers: tuple[int, ...] = ()
    report: DecodeReport | None = None


def outcome(data: bytes) -> Outcome:
    """Everything that a caller does with a video; any exception but a VideoError fails the test."""
    try:
        with open_video(data) as video:
            count = video.info.num_frames
            assert len(video.times) == count > 0
            assert np.all(np.diff(video.times) > 0)
            video.read_frames(sorted({0, count // 2, count - 1}), Resize(height=24, width=32))
            frames = video.read_frames(range(count), Resize(height=24, width=32))
            assert len(frames) == count
            return Outcome(numbers=tuple(frame_numbers(frames)), report=video.report)
    except VideoError as err:
        return Outcome(error=err)


@pytest.mark.parametrize("name", RECIPES)
def test_cut_off_anywhere(videos: dict[str, bytes], name: str) -> None:
    data = videos[name]
    assert outcome(data).numbers == tuple(range(NUM_FRAMES)), "the whole file is good"
    silent, read = [], 0
    sizes = np.linspace(1, len(data) - 1, 40).astype(int).tolist()
    for size in sizes:
        result = outcome(data[:size])
        if result.error:
            assert str(result.error).startswith("<bytes>: ")
            assert isinstance(result.error, TruncatedVideo | NotAVideo | UndecodableVideo | NoFrames), size
            if size > 1000 and name in TELLS_ITS_END:
                assert isinstance(result.error, TruncatedVideo | UndecodableVideo), (size, result.error)
            continue
        assert result.report is not None
        read += 1
        lost = NUM_FRAMES - len(result.numbers) + result.report.frames_substituted
        # What is there is right; the last frame may have been cut through, and stood in for or concealed.
        whole = len(result.numbers) - result.report.frames_substituted - 3
        if whole > 0:
            assert result.numbers[:whole] == tuple(range(whole)), size
        if lost and not result.report.warnings and not result.report.frames_substituted:
            silent.append(size)
    if name in TELLS_ITS_END:
        assert len(silent) <= 1, f"frames were lost and not a word said, cut at {silent}"
    moov_at_end = name in ("mp4", "mp4 with sound")
    assert read >= (0 if moov_at_end else 10), f"only {read} of {len(sizes)} cuts gave any frame"


def test_a_cut_off_video_says_what_was_lost(videos: dict[str, bytes]) -> None:
    data = videos["mp4 faststart"]
    with open_video(data[: len(data) * 2 // 3]) as video:
        first, second = video.report.warnings[:2]
        there = video.info.num_frames + 1  # the last one is cut through
        assert f"1 of {there} frames cannot be decoded; they are not counted" in video.report.warnings
        assert first == f"the header promises 40 frames, {there} are there ({40 - there} lost)"
        assert second.startswith("cut off: at least ")
    data = videos["mkv"]
    with open_video(data[: len(data) // 3]) as video:
        (warning,) = video.report.warnings
        assert f"{video.info.duration_seconds:.2f} of 1." in warning


@pytest.mark.parametrize("name", RECIPES)
def test_random_bytes_changed(videos: dict[str, bytes], name: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        data = np.frombuffer(videos[name], np.uint8).copy()
        count = int(rng.choice([1, 4, 30]))
        data[rng.integers(0, len(data), count)] = rng.integers(0, 256, count)
        outcome(data.tobytes())


@pytest.mark.parametrize("name", RECIPES)
def test_a_hole_in_the_middle(videos: dict[str, bytes], name: str) -> None:
    """As downloads leave it: a stretch of zeros, or bytes missing from between."""
    data = videos[name]
    for start in np.linspace(len(data) // 5, len(data) - 400, 6).astype(int).tolist():
        outcome(data[:start] + bytes(300) + data[start + 300 :])
        outcome(data[:start] + data[start + 300 :])


@settings(max_examples=75, deadline=None)
@given(
    name=st.sampled_from(sorted(RECIPES)),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    in_header=st.booleans(),
)
def test_any_bytes_changed(
    videos: dict[str, bytes], name: str, changes: list[tuple[float, int]], in_header: bool
) -> None:
    data = bytearray(videos[name])
    # The index of an MP4 may be at its end.
    places = (
        [*range(min(700, len(data))), *range(max(0, len(data) - 1500), len(data))] if in_header else range(len(data))
    )
    for where, value in changes:
        data[places[int(where * len(places))]] = value
    outcome(bytes(data))


@pytest.mark.parametrize("name", RECIPES)
def test_garbage_behind_and_before(videos: dict[str, bytes], name: str) -> None:
    garbage = np.random.default_rng(3).bytes(500)
    assert outcome(videos[name] + garbage).numbers[:35] == tuple(range(35))
    result = outcome(garbage + videos[name])
    assert result.error is None or isinstance(result.error, NotAVideo | UndecodableVideo | NoVideoStream | NoFrames)


# -- a sparse read of a damaged video gives what a full decode gives --------------------------------------------------

EXACT = {
    "h264": Recipe(num_frames=60, gop=20),
    "h264 6 B-frames": Recipe(num_frames=60, gop=20, b_frames=6, options={"x264-params": "b-adapt=0:bframes=6"}),
    "h264 open GOP": Recipe(num_frames=60, gop=20, options={"x264-params": "open-gop=1:b-adapt=0"}),
    "h264 open GOP mpegts": Recipe(
        container="mpegts", num_frames=60, gop=20, options={"x264-params": "open-gop=1:b-adapt=0"}
    ),
    "h264 interlaced": Recipe(num_frames=60, gop=20, options={"x264-params": "interlaced=1"}),
    "hevc": Recipe(codec="libx265", num_frames=60, gop=20),
    "mpeg4": Recipe(codec="mpeg4", num_frames=60, gop=20),
    "mpeg2": Recipe(codec="mpeg2video", container="mpegts", num_frames=60, gop=20),
    "vp9": Recipe(codec="libvpx-vp9", container="webm", num_frames=60, gop=20),
    "wmv": Recipe(codec="wmv2", container="asf", num_frames=60, gop=20),
}
SMALL = Resize(height=24, width=32)


def damaged(recipe: Recipe, seed: int) -> bytes:
    """A video of which up to three packets are lost, changed or cut short."""
    rng = np.random.default_rng(seed)
    video = make_video(recipe)
    packets = read_packets(video)
    how = seed % 3
    for place in sorted(rng.choice(len(packets), int(rng.integers(1, 4)), replace=False).tolist(), reverse=True):
        data = packets[place].data
        start = int(rng.integers(1, len(data)))
        if how == 0:
            del packets[place]
        elif how == 1:
            stretch = rng.bytes(min(40, len(data) - start))
            packets[place] = replace(packets[place], data=data[:start] + stretch + data[start + len(stretch) :])
        else:
            packets[place] = replace(packets[place], data=data[:start])
    return mux_packets(video, packets, recipe.container)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", EXACT)
def test_sparse_reads_of_damaged_videos(name: str, seed: int) -> None:
    data = damaged(EXACT[name], seed)
    frames = list(decode_all(data))
    scaler = FrameScaler(SMALL, frames[0])
    expected = {frame.pts: (scaler.scaled(frame).copy(), frame.is_corrupt) for frame in frames}
    with open_video(data) as video:
        times, exact = video.index.pts.tolist(), video.index.damage_pts is not None
    assert set(expected) <= set(times)
    assert not exact or len(times) == len(expected), "what is known to be damaged is counted by decoding"
    for index in range(0, len(times), 5):
        with open_video(data) as video:
            picture, is_corrupt = expected.get(times[index], (None, False))
            if picture is None:
                with pytest.raises(UndecodableVideo):
                    video.read_frames([index], SMALL)
                continue
            np.testing.assert_array_equal(video.read_frames([index], SMALL)[0], picture)
            assert (video.report.frames_substituted, video.report.frames_corrupt) == (0, is_corrupt)
            assert any("damaged; the decoder concealed" in w for w in video.report.warnings) == is_corrupt


@pytest.mark.parametrize("name", EXACT)
def test_keyframes_that_are_none(name: str) -> None:
    """A file without a list of its keyframes says that every packet is one."""
    recipe = EXACT[name]
    if recipe.container == "mpegts":
        recipe = replace(recipe, container="mp4")
    video = make_video(recipe)
    data = mux_packets(video, [replace(p, is_keyframe=True) for p in read_packets(video)], recipe.container)
    for index in (1, 13, 30, 47, 59):
        with open_video(data) as opened:
            assert frame_numbers(opened.read_frames([index], Resize(mode="none"))) == [index]


def test_substituted_frames_are_a_warning() -> None:
    video = make_video(Recipe(num_frames=20, gop=5))
    packets = [
        replace(p, data=p.data[:8] + bytes(len(p.data) - 8)) if n in (7, 8) else p
        for n, p in enumerate(read_packets(video))
    ]
    with open_video(mux_packets(video, packets, "mp4")) as opened:
        opened.read_frames(range(opened.info.num_frames), SMALL)
        report = opened.report
    assert report.frames_substituted == 2
    assert "2 frames cannot be decoded; the nearest ones stand in for them" in report.warnings


def test_one_damaged_time_hides_no_frame() -> None:
    """A frame whose time says that it comes far later is no sign that those asked for will not come."""
    video = make_video(Recipe(codec="mpeg4", container="matroska", num_frames=30, gop=30, b_frames=0))
    last = max(p.pts or 0 for p in read_packets(video))
    packets = [replace(p, pts=20 * last) if n == 5 else p for n, p in enumerate(read_packets(video))]
    data = mux_packets(video, packets, "matroska")
    with open_video(data) as opened:
        count = opened.info.num_frames
        expected = [n for n in range(30) if n != 5]
    for index in range(count - 1):
        with open_video(data) as opened:
            assert frame_numbers(opened.read_frames([index], Resize(mode="none"))) == [expected[index]]
            assert opened.report.frames_substituted == 0


@pytest.mark.parametrize(("codec", "container"), [("mpeg4", "avi"), ("mpeg4", "mp4"), ("flv", "flv"), ("wmv2", "asf")])
def test_frames_that_are_made_up_for_lack_of_a_keyframe(codec: str, container: str) -> None:
    """These decoders begin with a grey picture and mark nothing as damaged."""
    video = make_video(Recipe(codec=codec, container=container, num_frames=20, gop=10, b_frames=0))
    data = mux_packets(video, read_packets(video)[4:], container)
    with open_video(data) as opened:
        numbers = frame_numbers(opened.read_frames(range(opened.info.num_frames), Resize(mode="none")))
        assert numbers[-10:] == list(range(10, 20))
        assert len(numbers) == 16
        warning = "it begins between keyframes; the first 6 frames are damaged: what they refer to is missing"
        assert warning in opened.report.warnings
    with open_video(video) as opened:
        assert opened.report.warnings == ()
