"""Events of made-up scores."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.live import live_request
from tenclip_serving.live.backoff import Backoff
from tenclip_serving.live.events import Event, EventDetector, EventRules
from tenclip_serving.live.source import parse_source

LABELS = ("run", "jump", "rest")


def detect(rules: EventRules, *scores: float, label: int = 0) -> list[Event]:
    detector = EventDetector(LABELS, rules)
    events = []
    for i, score in enumerate(scores):
        probabilities = np.zeros(3, np.float32)
        probabilities[label] = score
        events += detector.add(probabilities, float(i), float(i + 1), 1000.0 + i + 1)
    return events + detector.gap()


def spans(events: list[Event]) -> list[tuple[float, float]]:
    return [(e.start_seconds, e.end_seconds) for e in events if e.ended]


def test_an_event_begins_and_ends_once_with_its_peak_and_its_time_of_day() -> None:
    begun, ended = detect(EventRules(smooth_windows=1), 0.1, 0.7, 0.95, 0.5, 0.1)
    assert not begun.ended
    assert ended.ended
    assert begun.id == ended.id == 0
    assert (ended.label, ended.index, ended.start_seconds, ended.end_seconds) == ("run", 0, 1.0, 4.0)
    assert ended.peak_score == pytest.approx(0.95)
    assert (ended.start_unix, ended.end_unix) == (1001.0, 1004.0)


def test_scores_that_tremble_around_a_threshold_are_one_event() -> None:
    trembling = [0.65, 0.55] * 20
    assert spans(detect(EventRules(smooth_windows=1), *trembling)) == [(0.0, 40.0)]
    assert len(spans(detect(EventRules(smooth_windows=1, on=0.6, off=0.6), *trembling))) == 20


def test_a_single_high_window_is_smoothed_away() -> None:
    assert detect(EventRules(smooth_windows=3), 0.1, 0.1, 0.95, 0.1, 0.1) == []
    assert len(detect(EventRules(smooth_windows=1), 0.1, 0.1, 0.95, 0.1, 0.1)) == 2


def test_the_running_mean_is_over_the_windows_that_there_are() -> None:
    detector = EventDetector(LABELS, EventRules(smooth_windows=2))
    means = []
    for score in (0.2, 0.4, 0.8):
        detector.add(np.array([score, 0, 0], np.float32), 0, 1, 0)
        means.append(float(detector.smoothed[0]))
    assert means == pytest.approx([0.2, 0.3, 0.6])


@pytest.mark.parametrize("smooth", [1, 3, 7, 100])
def test_the_running_mean_is_that_of_the_newest_windows_to_the_bit(smooth: int) -> None:
    """However long it runs, and after an interruption, as if it were computed anew each time."""
    scores = (np.random.default_rng(0).random((350, 3)) ** 8).astype(np.float32)
    detector, recent = EventDetector(LABELS, EventRules(smooth_windows=smooth)), list[NDArray[np.float32]]()
    for i, row in enumerate(scores):
        if i in (50, 51, 210):
            detector.interrupted()
            recent.clear()
        detector.add(row, i, i + 1, 0)
        recent = [*recent, row][-smooth:]
        expected = np.asarray(np.mean(np.stack(recent), axis=0, dtype=np.float64), np.float32)
        assert (detector.smoothed == expected).all()


def test_the_mean_over_very_many_windows_is_for_a_thread_and_copies_nothing() -> None:
    labels = tuple(map(str, range(400)))
    assert not EventDetector(labels, EventRules(smooth_windows=100)).is_slow
    detector = EventDetector(labels, EventRules(smooth_windows=10_000))
    assert detector.is_slow
    row = np.full(400, 0.1, np.float32)
    for _ in range(10_000):
        detector._recent.add(row)
    tracemalloc.start()
    detector.add(row, 0, 1, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20, "all of its scores are 16 MB"


def test_short_events_are_none() -> None:
    rules = EventRules(smooth_windows=1, min_seconds=3.0)
    assert detect(rules, 0.9, 0.9, 0.1, 0.9, 0.1) == []
    begun, ended = detect(rules, 0.9, 0.9, 0.9, 0.9, 0.1)
    assert (begun.start_seconds, begun.end_seconds, ended.end_seconds) == (0.0, 3.0, 4.0)


def test_only_classes_that_are_wanted_have_events() -> None:
    rules = EventRules(smooth_windows=1, labels=("jump",))
    assert detect(rules, 0.9, 0.9) == []
    assert [e.label for e in detect(rules, 0.9, 0.9, label=1)] == ["jump", "jump"]
    with pytest.raises(InvalidRequest, match=r"no class 'fly'; this model has run, jump, rest"):
        EventDetector(LABELS, EventRules(labels=("fly",)))


def test_an_event_goes_on_over_a_short_interruption_and_ends_at_a_long_one() -> None:
    detector = EventDetector(LABELS, EventRules(smooth_windows=2, max_gap_seconds=5))
    high = np.array([0.9, 0, 0], np.float32)
    events = detector.add(high, 0, 1, 1)
    detector.interrupted()
    events += detector.add(high, 4, 5, 5, 3)
    assert [e.ended for e in events] == [False]
    events = detector.add(high, 20, 21, 21, 15)
    assert [(e.id, e.ended, e.end_seconds) for e in events] == [(0, True, 5), (1, False, 21)]


def test_windows_far_apart_are_smoothed_and_one_event() -> None:
    """0.64 seconds of every ten, by a step of 250 frames; the stream is never gone."""
    detector = EventDetector(LABELS, EventRules(smooth_windows=3, max_gap_seconds=5))
    events, means = list[Event](), list[float]()
    for i, score in enumerate((0.9, 0.9, 0.9, 0.3, 0.9, 0.9)):
        events += detector.add(np.array([score, 0, 0], np.float32), 10 * i, 10 * i + 0.64, 10 * i + 0.64)
        means.append(float(detector.smoothed[0]))
    assert [(e.id, e.ended) for e in events] == [(0, False)]
    assert means == pytest.approx([0.9, 0.9, 0.9, 0.7, 0.7, 0.7])


def test_windows_before_a_long_gap_are_not_averaged_with_those_after_it() -> None:
    detector = EventDetector(LABELS, EventRules(smooth_windows=2, max_gap_seconds=5))
    detector.add(np.array([0.1, 0, 0], np.float32), 0, 1, 1)
    detector.add(np.array([0.5, 0, 0], np.float32), 9, 10, 10, 8)
    assert float(detector.smoothed[0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"on": 0.3, "off": 0.5}, "off 0.5 and on 0.3"),
        ({"on": 1.5}, "on 1.5"),
        ({"smooth_windows": 0}, "got 0"),
        ({"min_seconds": -1.0}, "min_seconds must be finite and not negative, got -1"),
        ({"max_gap_seconds": float("nan")}, "max_gap_seconds"),
    ],
)
def test_rules_that_cannot_be(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        EventRules(**values)  # type: ignore[arg-type]


def test_rules_that_are_not_set_are_the_usual_ones_and_zero_is_zero() -> None:
    def asked(**rules: float) -> EventRules:
        request = pb.LiveRequest(events=pb.LiveEventRules(**rules))  # type: ignore[arg-type]
        return live_request(request, source=parse_source("-")).events

    assert asked() == EventRules()
    assert asked(on=0, off=0, max_gap_seconds=0) == EventRules(on=0, off=0, max_gap_seconds=0)
    assert asked(on=0.3) == EventRules(on=0.3, off=0.3)
    assert asked(off=0) == EventRules(off=0)


def test_pauses_grow_within_a_cap_and_differ() -> None:
    assert [Backoff(max_seconds=30, draw=lambda: 1.0).next()] == [0.5]
    backoff = Backoff(max_seconds=4)
    pauses = [backoff.next() for _ in range(200)]
    assert all(2 <= p <= 4 for p in pauses[3:])
    assert len(set(pauses)) == 200
    assert backoff.attempts == 200
    backoff.reset()
    assert backoff.next() <= 0.5
