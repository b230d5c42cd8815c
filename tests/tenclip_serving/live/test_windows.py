"""Windows that slide over frames that keep coming, against those that `plan_clips` lays over all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_serving.live.windows import MAX_WAITING_BYTES, Frame, Window, WindowRing
from tenclip_video.sampling import ClipSelection, clip_seconds, plan_clips
from tenclip_video.spec import ClipSpec

SPEC = ClipSpec(num_frames=4)


def frame(index: int, *, fps: float = 20, arrival: float = 0.0) -> Frame:
    """Its pixels are its index."""
    return Frame(np.full((1, 1, 1, 3), index, np.int64), index / fps, (index + 1) / fps, arrival)


def indices(window: Window) -> tuple[int, ...]:
    return tuple(int(f.pixels[0, 0, 0, 0]) for f in window.frames)


def taken(ring: WindowRing, now: float = 0.0) -> list[Window]:
    found = []
    while (window := ring.take(now=now)) is not None:
        found.append(window)
    return found


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 90),
    step=st.integers(1, 30),
    num_frames=st.integers(1, 6),
    stride=st.integers(1, 4),
    target_fps=st.sampled_from([None, 5.0, 12.5, 20.0, 30.0, 60.0]),
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=90, max_size=90),
)
def test_windows_are_those_of_the_whole_video(
    count: int, step: int, num_frames: int, stride: int, target_fps: float | None, steps: list[int]
) -> None:
    spec = ClipSpec(num_frames=num_frames, frame_stride=stride, target_fps=target_fps)
    ticks = np.cumsum([0, *steps])[: count + 1]
    times, ends = ticks[:-1] / 20, ticks[1:] / 20
    plan = plan_clips(times, float(ends[-1]), spec, ClipSelection(mode="windows", window_step=step))
    ring = WindowRing(spec, step=step, max_latency=None)
    windows: list[Window] = []
    for i in range(count):
        ring.push(Frame(frame(i).pixels, float(times[i]), float(ends[i]), 0.0), now=0.0)
        windows += taken(ring)
    ring.end()
    windows += taken(ring)
    assert [indices(w) for w in windows] == [clip.frames for clip in plan]
    assert [w.seconds for w in windows] == [clip_seconds(c, times, float(ends[-1])) for c in plan]
    assert ring.num_skipped == ring.num_dropped == 0


def test_windows_are_written_as_clips() -> None:
    ring = WindowRing(SPEC, step=4, max_latency=None)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (4, 3, 5, 5, 3), np.uint8)  # [T,V,S,S,3]
    for i in range(4):
        ring.push(Frame(pixels[i], i, i + 1, 0.0), now=0.0)
    out = np.zeros((3, 4, 5, 5, 3), np.uint8)
    (window,) = taken(ring)
    window.write(out)
    assert np.array_equal(out, pixels.swapaxes(0, 1))


def test_what_waits_too_long_is_skipped_and_its_frames_counted() -> None:
    ring = WindowRing(SPEC, step=4, max_latency=1.0)
    for i in range(41):
        ring.push(frame(i, arrival=i / 20), now=i / 20)
    # Windows end with frames 3, 7, ..., 39; at frame 24 the first was too old, and only the newest was kept.
    assert ring.num_skipped == 5
    assert ring.num_dropped == 20
    kept = taken(ring, now=2.0)
    assert [indices(w)[0] for w in kept] == [20, 24, 28, 32, 36]


def test_frames_that_another_window_shows_are_not_dropped() -> None:
    ring = WindowRing(SPEC, step=1, max_latency=1.0)
    for i in range(6):
        ring.push(frame(i, arrival=0.0), now=0.0)
    ring.push(frame(6, arrival=5.0), now=5.0)  # those of before are too old
    assert (ring.num_skipped, ring.num_due) == (3, 1)
    assert [indices(w) for w in taken(ring, now=5.0)] == [(3, 4, 5, 6)]
    ring.push(frame(7, arrival=5.0), now=5.0)
    taken(ring, now=5.0)
    assert ring.num_dropped == 3


def test_even_the_newest_window_may_be_too_old() -> None:
    ring = WindowRing(SPEC, step=4, max_latency=1.0)
    for i in range(8):
        ring.push(frame(i, arrival=0.0), now=0.0)
    assert ring.take(now=1.5) is None
    assert ring.num_skipped == 2
    assert ring.num_dropped == 8


def missed(ring: WindowRing, frames: list[Frame], *, restart_at: int = -1) -> list[float]:
    """What was missed before each window, in seconds; every window is taken at once."""
    windows = []
    for i, one in enumerate(frames):
        if i == restart_at:
            ring.restart()
        ring.push(one, now=0.0)
        windows += taken(ring)
    return [w.missed_seconds for w in windows]


@pytest.mark.parametrize("target_fps", [None, 5.0, 20.0, 50.0])
@pytest.mark.parametrize("fps", [0.1, 20.0])
@pytest.mark.parametrize("step", [1, 4, 50])
def test_nothing_is_missed_between_windows_by_their_step(step: int, fps: float, target_fps: float | None) -> None:
    """Nor between frames that are far apart, as those of a camera that sends one in ten seconds."""
    ring = WindowRing(replace(SPEC, target_fps=target_fps), step=step, max_latency=None)
    found = missed(ring, [frame(i, fps=fps) for i in range(250)])
    assert len(found) >= 2
    assert found == [0.0] * len(found)


def test_nothing_is_missed_where_times_are_rounded_and_one_frame_is_where_it_is() -> None:
    """As times in milliseconds of 30 frames a second are, and those of a camera that is a little late."""
    rounded = [replace(frame(i, fps=30), seconds=round(i / 30, 3), end_seconds=round(i / 30, 3)) for i in range(60)]
    rounded[20].seconds += 0.012
    ring = WindowRing(SPEC, step=4, max_latency=None)
    assert missed(ring, rounded) == [0.0] * 15
    ring = WindowRing(SPEC, step=4, max_latency=None)
    assert sum(m > 0 for m in missed(ring, rounded[:30] + rounded[31:])) == 1


@pytest.mark.parametrize("target_fps", [None, 20.0])
@pytest.mark.parametrize("step", [1, 4, 50])
def test_a_pause_of_the_stream_is_missed_once(step: int, target_fps: float | None) -> None:
    """It lies before frame 60, which is then in a window or between two."""
    ring = WindowRing(replace(SPEC, target_fps=target_fps), step=step, max_latency=None)
    late = [frame(i) if i < 60 else frame(i + 160) for i in range(120)]
    found = missed(ring, late)
    assert [m for m in found if m > 0.1] == pytest.approx([8.0])


def test_a_stream_that_breaks_off_again_before_it_has_a_window_is_missed_throughout() -> None:
    ring = WindowRing(SPEC, step=2, max_latency=None)
    assert missed(ring, [frame(i) for i in range(8)]) == pytest.approx([0.0] * 3)
    ring.restart()
    assert missed(ring, [frame(100), frame(101), frame(102)]) == []
    ring.restart()
    assert missed(ring, [frame(i) for i in range(200, 206)]) == pytest.approx([(200 - 8) / 20, 0.0])


@pytest.mark.parametrize(("step", "expected"), [(4, 4 * 2 / 20), (2, 2 / 20), (40, 2 * 40 / 20)])
def test_what_skipped_windows_would_have_shown_is_missed(step: int, expected: float) -> None:
    """Two between two that are taken: beyond what the step leaves out."""
    ring = WindowRing(SPEC, step=step, max_latency=1.0)
    frames = iter(range(1000))

    def push_until_due(now: float) -> None:
        while not ring.num_due:
            ring.push(frame(next(frames), arrival=now), now=now)

    push_until_due(0.0)
    assert [w.missed_seconds for w in taken(ring, now=0.0)] == [0.0]
    for now in (10.0, 20.0):
        push_until_due(now)
        assert ring.take(now=now + 5) is None
    push_until_due(30.0)
    assert [w.missed_seconds for w in taken(ring, now=30.0)] == pytest.approx([expected])
    push_until_due(40.0)
    assert [w.missed_seconds for w in taken(ring, now=40.0)] == [0.0]


def test_what_waits_is_bounded_in_bytes_whatever_its_age() -> None:
    ring = WindowRing(SPEC, step=4, max_latency=3600.0, frame_bytes=MAX_WAITING_BYTES // 40)
    for i in range(1000):
        ring.push(frame(i, arrival=0.0), now=0.0)
        assert ring.num_due <= 10
    assert ring.num_skipped > 200


def test_no_window_spans_a_restart() -> None:
    ring = WindowRing(replace(SPEC, target_fps=20.0), step=2, max_latency=None)
    windows = []
    for i in range(20):
        if i == 7:
            ring.restart()
        ring.push(frame(i), now=0.0)
        windows += taken(ring)
    ring.end()
    windows += taken(ring)
    assert all(max(indices(w)) < 7 or min(indices(w)) >= 7 for w in windows)
    assert indices(windows[-1]) == (16, 17, 18, 19)
    assert (7, 8, 9, 10) in map(indices, windows)


def test_a_full_ring_says_so_where_nothing_may_be_skipped() -> None:
    ring = WindowRing(SPEC, step=4, max_latency=None)
    for i in range(8):
        assert not ring.is_full
        ring.push(frame(i), now=1e9)
    assert ring.is_full
    taken(ring, now=2e9)
    assert not ring.is_full
    assert ring.num_skipped == 0


@pytest.mark.parametrize("step", [1, 4, 9])
def test_a_stream_without_frames_has_no_windows(step: int) -> None:
    ring = WindowRing(SPEC, step=step, max_latency=None)
    ring.end()
    assert taken(ring) == []
