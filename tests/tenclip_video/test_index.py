"""The frame index: packets put in by hand, and what is made of them."""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_video.frame_reader import _runs
from tenclip_video.index import FrameIndex, _are_usable, _Packets, demux
from tenclip_video.video import _varies, open_video
from tests.videos import Recipe, make_video, repeat_packets


@dataclass
class FakePacket:
    pts: int | None
    dts: int | None = None
    is_keyframe: bool = False
    is_corrupt: bool = False
    is_discard: bool = False
    duration: int | None = 1
    size: int = field(default=10)


def scanned(*packets: FakePacket) -> _Packets:
    result = _Packets()
    for packet in packets:
        result.add(packet)  # type: ignore[arg-type]
    return result


def test_reordered_frames_are_no_restart() -> None:
    # I0 P3 B1 B2 I6 B4 B5 P9 B7 B8: an open GOP, whose B4 and B5 follow the keyframe they precede in time.
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    packets = scanned(*(FakePacket(pts, dts, pts in (0, 6)) for dts, pts in enumerate(order)))
    assert packets.reordered
    assert not packets.restarted
    assert list(packets.keyframe_pts) == [0, 6]


@pytest.mark.parametrize("again", [[0, 1, 2], [2, 3, 4], [1, 2, 3]])
def test_times_that_begin_again_are_a_restart(again: list[int]) -> None:
    first = [FakePacket(t, t, t in (0, 3)) for t in range(6)]
    assert scanned(*first, *(FakePacket(t, t, t == again[0]) for t in again)).restarted


def test_a_frame_before_the_last_keyframe_but_one_is_a_restart() -> None:
    packets = [FakePacket(t, t, t in (0, 3, 6)) for t in range(8)]
    assert scanned(*packets, FakePacket(2, 8)).restarted
    assert not scanned(*packets, FakePacket(5, 8)).restarted


def test_packets_without_times_follow_each_other() -> None:
    packets = scanned(FakePacket(None, None, True), FakePacket(None), FakePacket(None), FakePacket(None, 7))
    assert packets.missing_pts
    assert list(packets.pts) == [0, 1, 2, 7]


def test_the_last_frame_shown_says_how_long() -> None:
    packets = scanned(FakePacket(0, duration=3), FakePacket(9, duration=5), FakePacket(3, duration=4))
    assert packets.last_duration == 5
    assert scanned(FakePacket(0, duration=3), FakePacket(9, duration=None)).last_duration == 3


def test_hidden_keyframes_are_places_to_begin() -> None:
    packets = _Packets()
    packets.add_hidden(FakePacket(0, 0, True))  # type: ignore[arg-type]
    packets.add_hidden(FakePacket(1, 1))  # type: ignore[arg-type]
    packets.add(FakePacket(2, 2))  # type: ignore[arg-type]
    assert (packets.count, packets.hidden, list(packets.keyframe_pts)) == (1, 2, [0])


@pytest.mark.parametrize(
    ("times", "usable"),
    [
        ([0], True),
        ([0, 1, 5], True),
        ([-(2**62), -(2**62) + 1], True),
        ([0, 0, 1], False),
        ([0, 10**13], False),  # three centuries of milliseconds
        ([-(2**62), 2**62], False),
    ],
)
def test_usable_times(times: list[int], usable: bool) -> None:
    assert _are_usable(np.array(times, np.int64), Fraction(1, 1000)) is usable


# -- runs: which frames are decoded from which keyframe ---------------------------------------------------------------


def index_of(num_frames: int, keyframes: list[int]) -> FrameIndex:
    """Frame n is shown at 10 n."""
    at = np.array(keyframes, np.int64) * 10
    pts = np.arange(num_frames, dtype=np.int64) * 10
    return FrameIndex(pts=pts, keyframe_pts=at, keyframe_dts=at, time_base=Fraction(1, 100), timed=True, end_pts=0)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([5], [(0, 1)]),
        ([5, 30, 45], [(0, 3)]),  # all in the first GOP
        ([5, 60], [(0, 1), (1, 2)]),  # 44 frames lie between the first and the second's keyframe
        ([45, 52], [(0, 2)]),  # a seek would cost more than decoding through
        ([5, 60, 65, 170, 240], [(0, 1), (1, 3), (3, 4), (4, 5)]),
    ],
)
def test_runs(wanted: list[int], expected: list[tuple[int, int]]) -> None:
    assert _runs(np.array(wanted, np.int64), index_of(250, [0, 50, 100, 150, 200])) == expected


@given(
    st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))),
    st.sets(st.integers(0, 199)),
)
def test_runs_are_a_partition(frames: tuple[int, set[int]], keyframes: set[int]) -> None:
    num_frames, wanted = frames
    runs = _runs(
        np.array(sorted(wanted), np.int64), index_of(num_frames, sorted(k for k in keyframes if k < num_frames))
    )
    assert runs[0][0] == 0
    assert runs[-1][1] == len(wanted)
    assert all(a[1] == b[0] for a, b in itertools.pairwise(runs))
    assert all(first < last for first, last in runs)


@pytest.mark.parametrize(
    ("deltas", "varies"),
    [
        ([], False),
        ([5], False),
        ([33, 33, 34], False),
        ([3600, 3600, 3603], False),
        ([40, 40, 80], True),
        ([1, 3], False),
    ],
)
def test_variable_rates_are_more_than_rounding(deltas: list[int], varies: bool) -> None:
    assert _varies(np.array(deltas, np.int64)) is varies


# -- on real containers -----------------------------------------------------------------------------------------------


def test_times_and_duration(mp4: bytes) -> None:
    with open_video(mp4) as video:
        np.testing.assert_allclose(video.index.times, np.arange(40) / 25)
        assert video.index.times.dtype == np.float64
        assert video.index.duration == pytest.approx(1.6)
        assert (video.index.keyframe_pts - video.index.pts[0]).tolist() == [0, 12 * 512, 24 * 512, 36 * 512]


def test_the_index_is_small() -> None:
    with open_video(repeat_packets(make_video(Recipe(num_frames=100, gop=50)), 50)) as video:
        assert video.info.num_frames == 5000
        arrays = (video.index.pts, video.index.keyframe_pts, video.index.keyframe_dts)
        assert sum(a.nbytes for a in arrays) <= 5000 * 8 + 100 * 16


def test_demuxing_ends_with_an_empty_packet(mp4: bytes) -> None:
    fast = make_video(Recipe(muxer_options={"movflags": "faststart"}))
    for data in (mp4, fast[: len(fast) // 2]):
        with av.open(io.BytesIO(data), "r") as container:
            packets = list(demux(container, container.streams.video[0]))
            assert packets[-1][0].size == 0
            assert all(p.size for p, _ in packets[:-1])
