"""The clock of a stream, against times written by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tenclip_serving.live.clock import WRAP_TICKS, Lag, MediaClock

TICK = Fraction(1, 90_000)


def seconds(clock: MediaClock, *pts: int | None) -> list[float]:
    placed = [clock.place(p, arrival=100.0 + i) for i, p in enumerate(pts)]
    return [p.seconds for p in placed if p is not None]


def test_times_are_those_of_a_file_that_is_read_as_a_whole() -> None:
    pts = np.array([7, 1001, 2002, 3003, 9009])
    clock = MediaClock(Fraction(1, 30_000), start=0.0, frame_seconds=0.04)
    assert seconds(clock, *pts.tolist()) == ((pts - pts[0]) * float(Fraction(1, 30_000))).tolist()


def test_33_bits_may_wrap_around_any_number_of_times() -> None:
    clock = MediaClock(TICK, start=0.0, frame_seconds=0.04)
    step = 9 * 90_000  # nine seconds
    count = 3 * WRAP_TICKS // step
    placed = [clock.place(i * step % WRAP_TICKS, arrival=0.0) for i in range(count)]
    assert all(p is not None and not p.jumped for p in placed)
    assert placed[-1] is not None
    assert placed[-1].seconds == pytest.approx(9 * (count - 1))


def test_a_jump_goes_on_by_the_receivers_clock_and_is_told() -> None:
    clock = MediaClock(TICK, start=5.0, frame_seconds=0.04)
    first = clock.place(0, arrival=100.0)
    jumped = clock.place(90_000 * 3600, arrival=103.0)
    back = clock.place(90_000 * 60, arrival=103.01)
    after = clock.place(90_000 * 60 + 3600, arrival=103.05)
    assert first is not None
    assert jumped is not None
    assert back is not None
    assert after is not None
    assert (first, jumped.jumped, back.jumped, after.jumped) == ((5.0, False), True, True, False)
    assert (jumped.seconds, back.seconds) == pytest.approx((8.0, 8.04))
    assert after.seconds == pytest.approx(back.seconds + 0.04)


def test_frames_without_times_take_the_length_of_a_frame() -> None:
    """As the first frame of an RTSP session."""
    clock = MediaClock(TICK, start=0.0, frame_seconds=0.05)
    assert seconds(clock, None, 90_000, 94_500) == pytest.approx([0.0, 0.05, 0.1])
    clock = MediaClock(TICK, start=0.0, frame_seconds=0.05)
    assert seconds(clock, None, None, None) == pytest.approx([0.0, 0.05, 0.1])


def test_late_frames_are_left_out() -> None:
    clock = MediaClock(TICK, start=0.0, frame_seconds=0.04)
    assert [clock.place(p, arrival=0.0) is None for p in (9000, 9000, 4500, 13500)] == [False, True, True, False]


def test_a_frame_ends_where_the_next_begins() -> None:
    clock = MediaClock(TICK, start=0.0, frame_seconds=0.04)
    clock.place(1000, arrival=0.0)
    end = clock.end(3003)
    following = clock.place(4003, arrival=0.0)
    assert following is not None
    assert end == following.seconds
    assert clock.end(0) == pytest.approx(2 * end)


def test_lag_counts_only_what_comes_without_waiting() -> None:
    lag = Lag()
    behind = [lag.measure(media, now=now, waited=waited) for media, now, waited in (
        (10.0, 50.0, 0.03),  # in time
        (10.1, 50.5, 0.0),  # decoding took long
        (10.2, 51.0, 0.0),
        (10.3, 51.1, 0.04),  # had to wait: no longer behind
        (10.4, 56.1, 5.0),  # the sender paused
        (3000.0, 56.2, 0.0),  # its clock jumped
        (3000.1, 57.2, 0.0),
    )]  # fmt: skip
    assert behind == pytest.approx([0, 0.4, 0.8, 0, 0, 0, 0.9])
    assert lag.measure(None, now=99, waited=0) == 0
