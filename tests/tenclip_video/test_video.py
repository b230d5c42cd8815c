"""Probing, and sparse reads held against a sequential decode of the whole video, bit by bit."""

from __future__ import annotations

import io
import itertools
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_api.errors import TenclipError, VideoError, VideoTooLarge
from tenclip_video.resize import FrameScaler
from tenclip_video.source import Limits
from tenclip_video.spec import Resize
from tenclip_video.video import VideoInfo, open_video, probe
from tests.conftest import DATA_DIR
from tests.videos import Recipe, decode_all, frame_numbers, make_video, remux, repeat_packets, with_edit_list

pytestmark = pytest.mark.slow
WHOLE = Resize(mode="none")
SMALL = Resize(height=24, width=32)


def x264(parameters: str = "", container: str = "mp4", **fields: int) -> Recipe:
    options = {"x264-params": parameters} if parameters else {}
    return Recipe(num_frames=60, gop=20, container=container, options=options, **fields)  # type: ignore[arg-type]


def other(codec: str, container: str, pixel_format: str | None = None, **options: str) -> Recipe:
    options = {k.replace("_", "-"): v for k, v in options.items()}
    return Recipe(codec=codec, container=container, pixel_format=pixel_format, options=options, num_frames=60, gop=20)


RECIPES = {
    "h264": x264(),
    "h264 without B-frames": x264(b_frames=0),
    "h264 with 6 B-frames": x264("b-adapt=0:bframes=6", b_frames=6),
    "h264 strict pyramid": x264("b-pyramid=strict:b-adapt=0"),
    "h264 without pyramid": x264("b-pyramid=none:b-adapt=0"),
    "h264 open GOP": x264("open-gop=1:b-adapt=0"),
    "h264 open GOP mpegts": x264("open-gop=1:b-adapt=0", "mpegts"),
    "h264 open GOP mkv": x264("open-gop=1:b-adapt=0", "matroska"),
    "h264 intra refresh": x264("intra-refresh=1"),
    "h264 intra refresh mpegts": x264("intra-refresh=1", "mpegts"),
    "h264 interlaced": x264("interlaced=1"),
    "h264 interlaced mpegts": x264("interlaced=1", "mpegts"),
    "h264 many references": x264("ref=8:b-adapt=0:bframes=5", b_frames=5),
    "h264 slices": x264("slices=4"),
    "h264 lossless": x264("qp=0"),
    "h264 4:4:4": Recipe(num_frames=60, gop=20, pixel_format="yuv444p"),
    "h264 10 bits": Recipe(num_frames=60, gop=20, pixel_format="yuv420p10le"),
    "h264 all keyframes": Recipe(num_frames=60, gop=1),
    "h264 one keyframe": Recipe(num_frames=60, gop=250),
    "h264 fragmented": Recipe(num_frames=60, gop=20, muxer_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264 mkv": x264(container="matroska"),
    "h264 mpegts": x264(container="mpegts"),
    "h264 flv": x264(container="flv"),
    "h264 avi": x264(container="avi"),
    "h264 raw": x264(container="h264"),
    "h264 mov": x264(container="mov"),
    "h264 nut": x264(container="nut"),
    "hevc": other("libx265", "mp4"),
    "hevc open GOP": other("libx265", "mp4", x265_params="open-gop=1:b-adapt=0:bframes=4"),
    "hevc mpegts": other("libx265", "mpegts", x265_params="open-gop=1:b-adapt=0:bframes=4"),
    "hevc temporal layers": other("libx265", "mp4", x265_params="temporal-layers=3:b-adapt=0:bframes=7"),
    "hevc raw": other("libx265", "hevc"),
    "mpeg4": other("mpeg4", "mp4"),
    "mpeg4 avi": other("mpeg4", "avi"),
    "mpeg4 mkv": other("mpeg4", "matroska"),
    "mpeg2": other("mpeg2video", "mpegts"),
    "mpeg2 program stream": other("mpeg2video", "mpeg"),
    "mpeg2 mxf": other("mpeg2video", "mxf"),
    "mpeg1": other("mpeg1video", "mpeg"),
    "vp8": other("libvpx", "webm", deadline="realtime", cpu_used="8"),
    "vp9": other("libvpx-vp9", "webm", lag_in_frames="16", cpu_used="8"),
    "vp9 mp4": other("libvpx-vp9", "mp4", lag_in_frames="16", cpu_used="8"),
    "av1": other("libsvtav1", "mp4", preset="8", crf="10"),
    "av1 webm": other("libsvtav1", "webm", preset="8", crf="10"),
    "gif": other("gif", "gif"),
    "apng": other("apng", "apng"),
    "mjpeg avi": other("mjpeg", "avi"),
    "flv1": other("flv", "flv"),
    "wmv": other("wmv2", "asf"),
    "msmpeg4 avi": other("msmpeg4", "avi"),
    "ffv1": other("ffv1", "matroska"),
    "prores": other("prores", "mov", "yuv422p10le"),
    "qtrle": other("qtrle", "mov", "rgb24"),
}


def reference(data: bytes | Path, resize: Resize, limit: int | None = None) -> NDArray[np.uint8]:
    """uint8 [N,H,W,3]: every frame, decoded in sequence without any of our reader."""
    scaled: list[NDArray[np.uint8]] = []
    scaler: FrameScaler | None = None
    for frame in itertools.islice(decode_all(data), limit):
        scaler = scaler or FrameScaler(resize, frame)
        out = np.empty((scaler.height, scaler.width, 3), np.uint8)
        out[:] = scaler.scaled(frame)
        scaled.append(out)
    return np.stack(scaled)


def reference_by_time(
    data: bytes | Path, resize: Resize, *, limit: int | None = None, sort: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """([N,H,W,3] as `reference`, [N] which of them the decoder marks as damaged), in the order of their times."""
    frames = list(itertools.islice(decode_all(data), limit))
    scaler = FrameScaler(resize, frames[0])
    if sort:
        frames.sort(key=lambda frame: frame.pts or 0)
    scaled = np.stack([scaler.scaled(frame) for frame in frames])
    return scaled, np.array([frame.is_corrupt for frame in frames])


def subsets(num_frames: int, count: int, seed: int = 0) -> list[list[int]]:
    """A single frame, the last one, and random handfuls."""
    rng = np.random.default_rng(seed)
    handfuls = [rng.choice(num_frames, min(num_frames, int(rng.integers(1, 9))), replace=False) for _ in range(count)]
    return [[0], [num_frames - 1], *(sorted(h.tolist()) for h in handfuls)]


@pytest.mark.parametrize("name", RECIPES)
def test_sparse_reads_equal_a_sequential_decode(name: str) -> None:
    data = make_video(RECIPES[name])
    expected = reference(data, WHOLE)
    assert frame_numbers(expected) == list(range(60))
    with open_video(data) as video:
        assert video.info.num_frames == 60
        np.testing.assert_array_equal(video.read_frames(range(60), WHOLE), expected)
    for indices in subsets(60, 8):
        with open_video(data) as video:  # afresh, and below one after another
            np.testing.assert_array_equal(video.read_frames(indices, WHOLE), expected[indices])
            assert video.report.frames_substituted == 0
            assert video.report.warnings == (INTERLACED if "interlaced" in name else ())
    with open_video(data) as video:
        for indices in subsets(60, 5, seed=1):
            np.testing.assert_array_equal(video.read_frames(indices, WHOLE), expected[indices])


INTERLACED = ("interlaced: the two fields of each frame are scaled apart (resize.interlaced is fields)",)
STATEFUL = [
    "h264 open GOP",
    "h264 with 6 B-frames",
    "h264 intra refresh",
    "hevc open GOP",
    "mpeg4",
    "vp9",
    "av1",
    "wmv",
]


@pytest.fixture(scope="module")
def decoded() -> dict[str, tuple[bytes, NDArray[np.uint8]]]:
    videos = {name: make_video(RECIPES[name]) for name in STATEFUL}
    return {name: (data, reference(data, SMALL)) for name, data in videos.items()}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(STATEFUL),
    reads=st.lists(st.sets(st.integers(0, 59), min_size=1, max_size=12), min_size=1, max_size=4),
)
def test_any_frames_in_any_order_of_reads(
    decoded: dict[str, tuple[bytes, NDArray[np.uint8]]], name: str, reads: list[set[int]]
) -> None:
    data, expected = decoded[name]
    with open_video(data) as video:
        for read in reads:
            indices = sorted(read)
            np.testing.assert_array_equal(video.read_frames(indices, SMALL), expected[indices])
        assert video.report.frames_substituted == 0
        assert video.report.frames_requested == sum(map(len, reads))


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="has no scheduling policies")
def test_encoding_leaves_the_scheduling_of_this_process() -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0), os.nice(0)
    make_video(RECIPES["av1"])
    assert (os.sched_getscheduler(0), os.sched_getparam(0), os.nice(0)) == before


def real_files() -> list[str]:
    folders = (DATA_DIR / name for name in ("clips", "odd", "faults"))
    files = (f for folder in folders for f in folder.iterdir() if f.suffix not in (".md", ".parquet"))
    return sorted(f"{f.parent.name}/{f.name}" for f in files)


@pytest.mark.parametrize("file", real_files())
def test_sparse_reads_of_real_files_equal_a_sequential_decode(data_dir: Path, file: str) -> None:
    try:
        video = open_video(data_dir / file)
    except TenclipError:
        pytest.skip("refused, as test_odd_files says")
    with video:
        expected, corrupt = reference_by_time(data_dir / file, SMALL, limit=400, sort=video.info.seekable)
        assert len(expected) == min(video.info.num_frames, 400)
        is_large = video.info.width > 1000  # which cost most of the time
        for indices in subsets(len(expected), 1 if is_large else 3):
            np.testing.assert_array_equal(video.read_frames(indices, SMALL), expected[indices])
        assert video.report.frames_substituted == 0
    for index in subsets(len(expected), 2, seed=3)[2][: 2 if is_large else 4]:
        with open_video(data_dir / file) as video:
            np.testing.assert_array_equal(video.read_frames([index], SMALL)[0], expected[index])
            assert video.report.frames_corrupt == corrupt[index]


@pytest.mark.parametrize("name", ["h264", "h264 avi", "h264 intra refresh", "vp9", "gif", "mpeg2 program stream"])
def test_iterating_over_every_frame(name: str) -> None:
    data = make_video(RECIPES[name])
    expected = reference(data, SMALL)
    with open_video(data) as video:
        np.testing.assert_array_equal(np.stack(list(video.iter_frames(SMALL))), expected)
        frames = video.iter_frames(SMALL)  # left half way, then something else, then from the beginning again
        kept = [next(frames) for _ in range(25)]
        np.testing.assert_array_equal(video.read_frames([7, 44], SMALL), expected[[7, 44]])
        np.testing.assert_array_equal(np.stack(list(video.iter_frames(SMALL))), expected)
        np.testing.assert_array_equal(np.stack(kept), expected[:25])


def test_two_threads_give_the_same_frames(long_mp4: bytes) -> None:
    indices = [0, 3, 77, 120, 121, 249]
    with open_video(long_mp4) as one, open_video(long_mp4, threads=2) as two:
        np.testing.assert_array_equal(one.read_frames(indices, SMALL), two.read_frames(indices, SMALL))


# -- streams that are put together oddly ------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [1, 5, 12, 13, 30])
@pytest.mark.parametrize("gop", [12, 250])
def test_edit_lists_hide_frames_that_others_are_decoded_from(skip: int, gop: int) -> None:
    data = with_edit_list(make_video(Recipe(gop=gop)), skip_ticks=skip * 512)  # 12800 ticks a second, 25 frames
    expected = reference(data, WHOLE)
    assert frame_numbers(expected) == list(range(skip, 40))
    with open_video(data) as video:
        assert video.info.num_frames == 40 - skip
        assert video.times[0] == 0
        np.testing.assert_array_equal(video.read_frames(range(40 - skip), WHOLE), expected)
    for indices in subsets(40 - skip, 6):
        with open_video(data) as video:
            np.testing.assert_array_equal(video.read_frames(indices, WHOLE), expected[indices])
            assert video.report.frames_substituted == 0


def test_hidden_frames_of_vp8_are_not_counted() -> None:
    webm = make_video(RECIPES["vp8"])
    hidden = {5, 6, 31}
    # Bit 4 of a frame's first byte: show_frame.
    data = remux(webm, "webm", payload=lambda n, p: bytes([p[0] & ~0x10]) + p[1:] if n in hidden else p)
    with open_video(data) as video:
        assert video.info.num_frames == 57
        shown = frame_numbers(video.read_frames(range(57), WHOLE))
        assert shown == [n for n in range(60) if n not in hidden]
        assert video.report.frames_substituted == 0


@pytest.mark.parametrize("name", ["flv1", "wmv"])
def test_keyframes_that_no_one_marked(name: str) -> None:
    data = remux(make_video(RECIPES[name]), RECIPES[name].container, is_keyframe=lambda number, flag: False)
    with open_video(data) as video:
        assert video.info.num_keyframes == 0
        assert frame_numbers(video.read_frames([3, 33, 59], WHOLE)) == [3, 33, 59]
        assert video.report.frames_substituted == 0


def test_a_stream_that_begins_between_keyframes() -> None:
    mpegts = make_video(x264(container="mpegts"))
    cut = mpegts[len(mpegts) // 188 // 6 * 188 :]
    with open_video(cut) as video:
        numbers = frame_numbers(video.read_frames(range(video.info.num_frames), WHOLE))
        assert numbers[-40:] == list(range(20, 60))
        assert video.report.frames_substituted == 0
        assert "frames cannot be decoded" in " ".join(video.report.warnings)


@pytest.mark.parametrize("offset", [0, 1_700, -20_000])
def test_recordings_joined_end_to_end_are_read_in_the_order_of_the_file(offset: int) -> None:
    """Both parts begin at about the same time, as when a recorder restarts."""
    ticks = [tuple(100_000 + o + 3600 * i for i in range(40)) for o in (0, offset)]
    parts = [make_video(Recipe(container="mpegts", ticks=t, time_base=Fraction(1, 90_000))) for t in ticks]
    with open_video(b"".join(parts)) as video:
        assert video.info.num_frames == 80
        assert not video.info.seekable
        assert np.all(np.diff(video.times) > 0)
        assert frame_numbers(video.read_frames(range(80), WHOLE)) == [*range(40), *range(40)]
        assert frame_numbers(video.read_frames([38, 41], WHOLE)) == [38, 1]
        assert "run backwards" in " ".join(video.report.warnings)


def test_frames_that_grow_on_the_way_are_scaled_to_the_first() -> None:
    small, large = (make_video(Recipe(container="mpegts", width=w, height=h)) for w, h in ((64, 48), (96, 80)))
    with open_video(small + large) as video:
        assert (video.info.width, video.info.height) == (64, 48)
        assert frame_numbers(video.read_frames(range(80), WHOLE)) == [*range(40), *range(40)]


# -- times ------------------------------------------------------------------------------------------------------------

VARIABLE = (0, 40, 80, 90, 100, 700, 740, 1500, 1533, 1567, 1600, 3000)


@pytest.mark.parametrize(("codec", "container"), [("libx264", "matroska"), ("libx264", "mp4"), ("libvpx-vp9", "webm")])
def test_variable_frame_rates_keep_their_times(codec: str, container: str) -> None:
    recipe = Recipe(codec=codec, container=container, num_frames=12, ticks=VARIABLE, time_base=Fraction(1, 1000), gop=5)
    with open_video(make_video(recipe)) as video:
        np.testing.assert_allclose(video.times, np.array(VARIABLE) / 1000, atol=1e-3)
        assert video.info.variable_frame_rate
        assert video.info.frames_per_second == pytest.approx(11 / 3.0, rel=1e-3)
        assert frame_numbers(video.read_frames([2, 5, 6, 11], WHOLE)) == [2, 5, 6, 11]


def test_rounding_to_milliseconds_is_no_variable_rate() -> None:
    with open_video(make_video(Recipe(container="matroska", fps=Fraction(30)))) as video:
        assert set(np.diff(video.times).round(3)) == {0.033, 0.034}
        assert not video.info.variable_frame_rate
        assert video.info.frames_per_second == pytest.approx(30, rel=2e-3)


def test_times_begin_at_the_first_frame() -> None:
    recipe = Recipe(
        container="mpegts", ticks=tuple(90_000 * 7 + 3600 * i for i in range(40)), time_base=Fraction(1, 90_000)
    )
    with open_video(make_video(recipe)) as video:
        np.testing.assert_allclose(video.times, np.arange(40) / 25, atol=1e-6)
        assert video.info.duration_seconds == pytest.approx(1.6)


# -- probing ----------------------------------------------------------------------------------------------------------


def test_what_a_probe_finds() -> None:
    data = make_video(Recipe(rotation=90, audio=True, fps=Fraction(30000, 1001)))
    assert probe(data) == VideoInfo(
        container="mov",
        codec="h264",
        width=48,
        height=64,
        coded_width=64,
        coded_height=48,
        rotation=90,
        pixel_format="yuv420p",
        sample_aspect_ratio=1.0,
        frames_per_second=pytest.approx(30000 / 1001),  # type: ignore[arg-type]
        num_frames=40,
        declared_frames=40,
        num_keyframes=4,
        duration_seconds=pytest.approx(40 * 1001 / 30000),  # type: ignore[arg-type]
        has_audio=True,
        variable_frame_rate=False,
        seekable=True,
    )


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_videos_come_out_upright(rotation: int) -> None:
    with open_video(make_video(Recipe(width=80, height=48, rotation=rotation))) as video:
        turned = rotation % 180 == 90
        assert (video.info.width, video.info.height) == ((48, 80) if turned else (80, 48))
        frames = video.read_frames([7, 30], WHOLE)
        assert frames.shape[1:3] == video.frame_size(WHOLE) == ((80, 48) if turned else (48, 80))
        assert frame_numbers(np.rot90(frames, rotation // 90, axes=(1, 2))) == [7, 30]


@pytest.mark.parametrize("claimed", [7, 1000])
def test_frames_are_counted_when_the_header_lies(claimed: int) -> None:
    data = bytearray(make_video(Recipe(codec="mpeg4", container="avi", b_frames=0)))
    for header, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):
        at = data.index(header) + offset
        assert int.from_bytes(data[at : at + 4], "little") == 40
        data[at : at + 4] = claimed.to_bytes(4, "little")
    with open_video(bytes(data)) as video:
        assert video.info.declared_frames == claimed
        assert video.info.num_frames == 40
        assert frame_numbers(video.read_frames([0, 39], WHOLE)) == [0, 39]
        lost = [w for w in video.report.warnings if "promises 1000 frames, 40 are there (960 lost)" in w]
        assert bool(lost) == (claimed == 1000)


def test_one_frame_and_one_pixel() -> None:
    with open_video(make_video(Recipe(num_frames=1))) as video:
        assert (video.info.num_frames, video.info.frames_per_second) == (1, 25.0)
        assert video.info.duration_seconds == pytest.approx(0.04)
        assert not video.info.variable_frame_rate
        assert frame_numbers(video.read_frames([0], WHOLE)) == [0]
    pixel = Recipe(num_frames=3, width=1, height=1, pixel_format="yuv444p")
    with open_video(make_video(pixel, paint=lambda n, h, w: np.full((h, w, 3), 200, np.uint8))) as video:
        assert (video.info.width, video.info.height) == (1, 1)
        assert video.read_frames([0, 2], Resize()).shape == (2, 128, 171, 3)


def test_odd_sizes() -> None:
    with open_video(make_video(Recipe(codec="mpeg4", width=67, height=53))) as video:
        assert video.read_frames([1, 20], WHOLE).shape == (2, 53, 67, 3)
        assert frame_numbers(video.read_frames([1, 20], Resize(height=39, width=51))) == [1, 20]


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("indices", [[-1], [40], [3, 2], [5, 5], [[1, 2]], [0.5], ["1"], 3, [True, False]])
def test_indices_must_be_ascending_and_there(mp4: bytes, indices: object) -> None:
    with open_video(mp4) as video, pytest.raises(ValueError, match="frame indices must"):
        video.read_frames(indices, WHOLE)  # type: ignore[arg-type]


def test_no_frames_asked_for(mp4: bytes) -> None:
    with open_video(mp4) as video:
        assert video.read_frames([], SMALL).shape == (0, 24, 32, 3)
        assert video.report.frames_decoded == 0


def test_sparse_reads_decode_little() -> None:
    data = repeat_packets(make_video(Recipe(num_frames=100, gop=10)), 10)
    with open_video(data) as video:
        video.read_frames([5, 505, 995], SMALL)
        assert video.report.frames_requested == 3
        assert video.report.seeks == 2
        # Each from its own keyframe, and of the frames between only those that others refer to.
        assert video.report.frames_decoded <= 3 * 8
        video.read_frames([5, 6], SMALL)
        assert video.report.frames_requested == 5


def test_frames_between_are_dropped_only_where_nothing_refers_to_them(long_mp4: bytes) -> None:
    with open_video(long_mp4) as video:
        video.read_frames([49], SMALL)
        assert video.report.frames_decoded < 45
    interlaced = make_video(Recipe(num_frames=50, gop=50, options={"x264-params": "interlaced=1"}))
    with open_video(interlaced) as video:
        video.read_frames([49], SMALL)
        assert video.report.frames_decoded == 50


def test_closed_videos_say_so(mp4: bytes) -> None:
    with open_video(mp4, name="run.mp4") as video:
        pass
    with pytest.raises(ValueError, match=r"run\.mp4: this video is closed"):
        video.read_frames([1], WHOLE)
    video.close()


# -- sources ----------------------------------------------------------------------------------------------------------


class Stream(io.RawIOBase):
    """Bytes that can be read once, forwards, a few at a time: a network response."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        chunk = self._inner.read(min(1000, len(buffer)))  # type: ignore[arg-type]
        buffer[: len(chunk)] = chunk  # type: ignore[index]
        return len(chunk)


def test_every_kind_of_source_gives_the_same(mp4: bytes, mp4_path: Path) -> None:
    with mp4_path.open("rb") as file, io.BytesIO(mp4) as memory:
        memory.seek(100)  # read from its beginning all the same
        sources = [mp4, bytearray(mp4), memoryview(mp4), mp4_path, str(mp4_path), file, memory, Stream(mp4)]
        for source in sources:
            with open_video(source) as video:  # type: ignore[arg-type]
                assert frame_numbers(video.read_frames([3, 39], WHOLE)) == [3, 39]
        assert not file.closed
        assert not memory.closed


def test_pipes() -> None:
    data = make_video(Recipe(container="mpegts", num_frames=100))
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as pipe, open_video(pipe) as video:
        assert frame_numbers(video.read_frames([0, 64, 99], WHOLE)) == [0, 64, 99]
    writer.join()


def test_messages_name_the_source_as_the_caller_did(mp4_path: Path) -> None:
    with open_video(mp4_path) as video:
        assert video.name == str(mp4_path)
    with open_video(mp4_path, name="upload 7") as video:
        assert video.name == "upload 7"
    with open_video(mp4_path.read_bytes()) as video:
        assert video.name == "<bytes>"


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_bytes=1000), r"bytes; at most 1000 are allowed \(max_video_mb\)"),
        (Limits(max_pixels=3071), r"pictures of 64x48 = 3072 pixels; at most 3071 are allowed \(max_pixels\)"),
        (Limits(max_frames=39), r"more than 39 frames, as many as are allowed \(max_frames\)"),
        (Limits(max_seconds=1.59), r"1\.60 seconds of video; at most 1\.59 are allowed \(max_video_seconds\)"),
    ],
)
def test_limits(mp4: bytes, mp4_path: Path, limits: Limits, message: str) -> None:
    for source in (mp4, mp4_path, io.BytesIO(mp4), Stream(mp4)):
        with pytest.raises(VideoTooLarge, match=message):
            open_video(source, limits=limits)  # type: ignore[arg-type]


def test_limits_that_are_met_exactly_or_lifted(mp4: bytes) -> None:
    for limits in (
        Limits(max_bytes=len(mp4), max_pixels=64 * 48, max_frames=40, max_seconds=1.6, max_streams=1),
        Limits(max_pixels=None, max_frames=None, max_seconds=None, max_streams=None),
    ):
        with open_video(mp4, limits=limits) as video:
            assert video.info.num_frames == 40


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_streams_are_counted_or_not_even_set_up(container: str) -> None:
    """Far more than allowed are refused by FFmpeg itself, which has no better word for that than lack of memory."""
    data = remux_with_sounds(make_video(), 20, container)
    with open_video(data, limits=Limits(max_streams=21)) as video:
        assert video.info.has_audio
    with pytest.raises(VideoTooLarge, match=r": 21 streams; at most 20 are allowed \(max_streams\)"):
        open_video(data, limits=Limits(max_streams=20))
    with pytest.raises(VideoTooLarge, match=r": 12 streams; at most 3|far more than the 3 streams that are allowed"):
        open_video(data, limits=Limits(max_streams=3))


def remux_with_sounds(data: bytes, count: int, container: str) -> bytes:
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format=container) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        sounds = [target.add_stream("mp2", rate=48_000) for _ in range(count)]
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
        for sound in sounds:
            silence = av.AudioFrame(format="s16", layout="stereo", samples=1152)
            silence.rate = 48_000
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            target.mux(sound.encode(silence))
            target.mux(sound.encode())
    return out.getvalue()


def test_times_beyond_a_lifetime_do_not_count_as_duration(mp4: bytes) -> None:
    """Damage: frames are counted then, at the rate that the header gives."""
    at = mp4.index(b"mdhd") + 16
    slow = mp4[:at] + (1).to_bytes(4, "big") + mp4[at + 4 :]  # one tick a second instead of some thousands
    with pytest.raises(VideoTooLarge, match="seconds of video; at most 60 are allowed"):
        open_video(slow, limits=Limits(max_seconds=60))


def test_a_stream_without_an_end_is_not_read_to_it() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.taken += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(VideoTooLarge):
        open_video(endless, limits=Limits(max_bytes=5 << 20))  # type: ignore[arg-type]
    assert endless.taken <= 8 << 20


@pytest.mark.parametrize(
    "recipe", [Recipe(container="mpegts"), Recipe(codec="gif", container="gif"), other("libvpx-vp9", "webm")]
)
def test_pictures_are_limited_where_headers_do_not_tell_their_size(recipe: Recipe) -> None:
    with pytest.raises(VideoTooLarge, match="64x48"):
        open_video(make_video(recipe), limits=Limits(max_pixels=3000))


@pytest.mark.parametrize("max_pixels", [1, 700])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(container="avi", codec="mpeg4"),
        Recipe(codec="gif", container="gif"),
        Recipe(container="mpegts"),
        other("libvpx", "webm"),
        other("libvpx-vp9", "webm"),
    ],
)
def test_pictures_far_beyond_the_limit_are_refused_for_their_size(recipe: Recipe, max_pixels: int) -> None:
    """FFmpeg, told of the limit, refuses to say how large they are."""
    video = make_video(recipe)
    for source in (video, io.BytesIO(video)):
        with pytest.raises(VideoTooLarge, match=rf"64x48 = 3072 pixels; at most {max_pixels} are allowed"):
            open_video(source, limits=Limits(max_pixels=max_pixels))


@pytest.mark.parametrize("max_pixels", [1, 70_000])
def test_no_real_file_is_called_broken_for_its_size(data_dir: Path, max_pixels: int) -> None:
    for file in sorted(p for folder in ("odd", "clips") for p in (data_dir / folder).iterdir()):
        try:
            with open_video(file) as video:
                pixels = video.info.width * video.info.height
        except VideoError:
            continue
        if pixels > max_pixels:
            with pytest.raises(VideoTooLarge, match=rf" = {pixels} pixels; at most {max_pixels} are allowed"):
                open_video(file, limits=Limits(max_pixels=max_pixels))


def test_pictures_that_outgrow_the_limit_on_the_way_are_not_decoded() -> None:
    small, large = (make_video(Recipe(container="mpegts", width=w, height=h)) for w, h in ((64, 48), (160, 128)))
    with open_video(small + large, limits=Limits(max_pixels=64 * 48)) as video:
        assert video.info.num_frames == 40
        assert frame_numbers(video.read_frames(range(40), WHOLE)) == list(range(40))
        assert "40 of 80 frames cannot be decoded; they are not counted" in video.report.warnings
        assert video.report.frames_substituted == 0


def test_ffmpeg_is_quiet() -> None:
    """Its messages would land among a server's own."""
    assert av.logging.get_level() is None
