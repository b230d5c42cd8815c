"""Files cut off at many places, and with random bytes changed: frames and a report, or a typed error; nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import NoFrames, NotAVideo, NoVideoStream, TruncatedVideo, UndecodableVideo, VideoError
from tenclip_video.spec import Resize
from tenclip_video.video import DecodeReport, open_video
from tests.videos import Recipe, frame_numbers, make_video

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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", RECIPES)
def test_cut_off_anywhere(videos: dict[str, bytes], name: str) -> None:
    data = videos[name]
    assert outcome(data).numbers == tuple(range(NUM_FRAMES)), "the whole file is good"
    silent, read = [], 0
    sizes = np.linspace(1, len(data) - 1, 80).astype(int).tolist()
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
    assert read >= (0 if moov_at_end else 20), f"only {read} of {len(sizes)} cuts gave any frame"


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


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", RECIPES)
def test_random_bytes_changed(videos: dict[str, bytes], name: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        data = np.frombuffer(videos[name], np.uint8).copy()
        count = int(rng.choice([1, 4, 30]))
        data[rng.integers(0, len(data), count)] = rng.integers(0, 256, count)
        outcome(data.tobytes())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", RECIPES)
def test_a_hole_in_the_middle(videos: dict[str, bytes], name: str) -> None:
    """As downloads leave it: a stretch of zeros, or bytes missing from between."""
    data = videos[name]
    for start in np.linspace(len(data) // 5, len(data) - 400, 6).astype(int).tolist():
        outcome(data[:start] + bytes(300) + data[start + 300 :])
        outcome(data[:start] + data[start + 300 :])


@settings(max_examples=150, deadline=None)
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
