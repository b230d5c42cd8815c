"""The arithmetic of the teacher filter (OmniSource, section 3.4)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_training.omni.teacher_filter import (
    DISAGREES,
    LOW,
    Calibration,
    ThresholdRule,
    filter_source,
    measure_truth,
    pseudo_labels,
    share_threshold,
    total_truth,
)
from tenclip_training.omni.web_files import read_web

CLASSES = ("run", "jump", "swim")
SCORES = np.array([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.2, 0.3, 0.5], [0.4, 0.3, 0.3]], np.float32)


def test_what_a_pseudo_label_is() -> None:
    asked = [(0,), (0,), (2,), (1, 2)]
    by_teacher = pseudo_labels(SCORES, asked, "teacher")
    assert by_teacher.labels.tolist() == [0, 1, 2, 0]
    assert by_teacher.eligible.all()
    agree = pseudo_labels(SCORES, asked, "agree")
    assert agree.labels.tolist() == [0, 1, 2, 0]
    assert agree.eligible.tolist() == [True, False, True, False]
    query = pseudo_labels(SCORES, asked, "query")
    assert query.labels.tolist() == [0, 0, 2, 1]
    assert query.teacher.tolist() == [0, 1, 2, 0]
    assert query.confidences == pytest.approx([0.9, 0.3, 0.5, 0.3])


def test_half_of_four_are_kept_from_their_second_highest_confidence_on() -> None:
    confidences = np.array([0.3, 0.9, 0.2, 0.6], np.float32)
    assert share_threshold(confidences, 4, 0.5) == pytest.approx(0.6)
    assert share_threshold(confidences, 4, 0.0) == pytest.approx(0.9), "one of each source at least"
    assert share_threshold(confidences, 4, 1.0) == pytest.approx(0.2)
    assert share_threshold(confidences[:2], 4, 0.75) == pytest.approx(0.3), "all that can be"
    assert share_threshold(confidences[:0], 4, 0.5) == math.inf


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.floats(0, 1))
def test_so_many_are_kept_and_ties_with_them(values: list[float], share: float) -> None:
    confidences = np.array(values, np.float32)
    threshold = share_threshold(confidences, len(values), share)
    kept = int((confidences >= np.float32(threshold)).sum())
    wanted = max(1, math.floor(share * len(values) + 1e-9))
    assert kept >= wanted
    assert kept - wanted <= int((confidences == np.float32(threshold)).sum()) - 1


def test_the_threshold_of_a_precision_on_held_out_data() -> None:
    held_out = Calibration(
        confidences=np.array([0.5, 0.9, 0.7, 0.8, 0.6], np.float32), right=np.array([False, True, False, True, True])
    )
    assert held_out.threshold(1.0) == pytest.approx(0.8)
    assert held_out.threshold(0.75) == pytest.approx(0.6)  # 3 of 4
    assert held_out.threshold(0.6) == pytest.approx(0.5)  # 3 of 5
    assert held_out.precision(0.65) == pytest.approx(2 / 3)
    assert held_out.precision(0.95) is None
    tied = Calibration(confidences=np.array([0.9, 0.9], np.float32), right=np.array([True, False]))
    assert tied.threshold(0.5) == pytest.approx(0.9)
    with pytest.raises(InvalidRequest, match=r"at no confidence 60% right .*, at most 50.0% of 2"):
        tied.threshold(0.6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30), st.floats(0, 1))
def test_no_lower_threshold_is_as_precise(rows: list[tuple[float, bool]], precision: float) -> None:
    held_out = Calibration(confidences=np.array([c for c, _ in rows], np.float32), right=np.array([r for _, r in rows]))
    try:
        threshold = held_out.threshold(precision)
    except InvalidRequest:
        assert all((held_out.precision(c) or 0) < precision for c, _ in rows)
        return
    assert (held_out.precision(threshold) or 0) >= precision
    assert all((held_out.precision(c) or 0) < precision for c, _ in rows if c < threshold)


def test_a_source_is_filtered_and_counted() -> None:
    found = filter_source(
        "search",
        SCORES,
        [("run",), ("run",), ("swim",), ("jump",)],
        ["run", "jump", "off_topic", None],
        CLASSES,
        pseudo_label="agree",
        rule=ThresholdRule(fixed={"": 0.6}),
        failed=2,
    )
    assert found.kept.tolist() == [True, False, False, False]
    assert found.reasons == ("", DISAGREES, LOW, DISAGREES)
    result = found.result
    assert (result.scored, result.failed, result.kept, result.threshold, result.chosen) == (4, 2, 1, 0.6, "given")
    assert result.before == {"run": 2, "swim": 1, "jump": 1}
    assert result.after == {"run": 1}
    assert result.reasons == {DISAGREES: 2, LOW: 1}
    assert result.truth is not None
    assert (result.truth.precision_before, result.truth.precision, result.truth.recall) == (1 / 3, 1.0, 0.5)


def test_a_confidence_that_equals_the_threshold_is_kept() -> None:
    """0.6 as float64 is above 0.6 as float32 or below: thresholds are compared as what scores are."""
    rule = ThresholdRule(fixed={"": 0.6})
    found = filter_source("s", SCORES[1:2], [()], [None], CLASSES, pseudo_label="teacher", rule=rule)
    assert found.kept.all()
    assert found.result.before == {"jump": 1}, "without a label by the teacher's"


def test_each_source_has_a_threshold_of_its_own() -> None:
    held_out = Calibration(confidences=np.array([0.9, 0.4], np.float32), right=np.array([True, False]))
    candidates = pseudo_labels(SCORES, [()] * 4, "teacher")
    rule = ThresholdRule(keep_share=0.5, fixed={"search": 0.7})
    assert rule.find("search", candidates, None) == (0.7, "given")
    value, how = rule.find("social", candidates, None)
    assert value == pytest.approx(0.6)
    assert how == "keeps 50%"
    value, how = ThresholdRule(precision=0.9).find("social", candidates, held_out)
    assert value == pytest.approx(0.9)
    assert how == "precision 0.9 on held-out target data"


def test_a_query_that_the_teacher_does_not_know_has_no_score() -> None:
    with pytest.raises(DatasetError, match=r"source s: \['fly'\] is no class of the teacher"):
        filter_source("s", SCORES[:1], [("fly",)], [None], CLASSES, pseudo_label="query", rule=ThresholdRule())


def test_truth_of_nothing_and_over_sources() -> None:
    kept = np.array([True, False])
    assert measure_truth([None, None], ["run", "run"], [(), ()], kept, CLASSES) is None
    truth = measure_truth(["run", "jump"], ["run", "run"], [(), ("jump",)], kept, CLASSES)
    assert truth is not None
    assert (truth.claimed, truth.claimed_right, truth.kept, truth.kept_right, truth.recall) == (1, 1, 1, 1, 0.5)
    none_kept = measure_truth(["run"], ["run"], [()], np.array([False]), CLASSES)
    assert none_kept is not None
    assert (none_kept.precision, none_kept.precision_before, none_kept.recall) == (None, None, 0.0)
    assert total_truth([]) is None


def test_a_column_of_sources_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    (tmp_path / "b.jpg").write_bytes(b"")
    table = tmp_path / "web.csv"
    table.write_text("path,label,engine\na.jpg,run,flickr\nb.jpg,jump,google\n")
    assert read_web(table, source_column="engine").source_names == ("flickr", "google")
    assert read_web(table).source_names == ("web",)
    with pytest.raises(DatasetError, match=r"web\.csv: no row names its source in a column portal"):
        read_web(table, source_column="portal")
