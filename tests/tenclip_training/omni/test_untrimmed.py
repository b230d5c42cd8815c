"""The arithmetic of untrimmed videos (OmniSource, section 3.5)."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.data.dataset import _shown_at
from tenclip_training.data.segments import snippets_of
from tenclip_training.omni.untrimmed import cut, inside, judge_frames, judge_piece, spans_of
from tenclip_training.omni.untrimmed_files import _times


def test_frames_are_positive_by_the_score_of_the_videos_own_class() -> None:
    of_class = np.array([0.9, 0.1, 0.2, 0.8, 0.05], np.float32)
    scores = np.stack([of_class, 1 - of_class], axis=1)
    found = judge_frames(scores, [0], of="own", threshold=0.5)
    assert found.label == 0
    assert found.confidence == pytest.approx(0.9)
    assert found.positive.tolist() == [0, 3]
    assert found.negative.tolist() == [1, 2, 4]
    # Whatever other class a frame may show, it is negative.
    assert judge_frames(scores, [0], of="max", threshold=0.5).label == 1
    assert judge_frames(scores, [0], of="own", threshold=0.95).positive.tolist() == []
    assert judge_frames(scores, [0], of="own", threshold=0.9).positive.tolist() == [0], "at the threshold"


def test_without_a_label_the_class_whose_confident_frames_score_most() -> None:
    scores = np.array([[0.6, 0.4, 0.0], [0.1, 0.9, 0.0], [0.55, 0.45, 0.0], [0.3, 0.3, 0.4]], np.float32)
    found = judge_frames(scores, [], of="max", threshold=0.5)
    assert found.label == 0  # 0.6 + 0.55, against 0.9
    assert found.positive.tolist() == [0, 2]
    assert judge_frames(scores, [], of="max", threshold=0.99).label == 1, "of none above it by all frames"


def test_of_several_labels_the_one_that_a_frame_shows_best() -> None:
    scores = np.array([[0.2, 0.1, 0.7], [0.1, 0.6, 0.3]], np.float32)
    assert judge_frames(scores, [0, 1], of="own", threshold=0.5).label == 1
    label, confidence = judge_piece(scores[0], [0, 1], of="own")
    assert [label, confidence] == pytest.approx([0, 0.2])
    label, confidence = judge_piece(scores[0], [], of="max")
    assert [label, confidence] == pytest.approx([2, 0.7])


def test_a_video_of_37_seconds_is_four_pieces_the_last_of_7() -> None:
    assert cut([(0.0, 37.0)], 10.0) == [(0, 10), (10, 20), (20, 30), (30, 37)]
    assert cut([(0.0, 30.0)], 10.0) == [(0, 10), (10, 20), (20, 30)]
    assert cut([(0.0, 4.0), (9.0, 21.0)], 10.0) == [(0, 4), (9, 19), (19, 21)]
    assert cut([], 10.0) == []


@settings(deadline=None)
@given(st.floats(0.01, 500), st.floats(1, 100))
def test_pieces_cover_a_video_once(duration: float, seconds: float) -> None:
    pieces = cut([(0.0, duration)], seconds)
    assert pieces[0][0] == 0
    assert pieces[-1][1] == duration
    assert all(a[1] == pytest.approx(b[0]) for a, b in pairwise(pieces))
    assert all(0 < end - start <= seconds * (1 + 1e-9) for start, end in pieces)


def test_what_is_used_of_a_video() -> None:
    assert spans_of(30.0, 5.0, 15.0, "whole") == [(0, 30)]
    assert spans_of(30.0, 5.0, 15.0, "part") == [(5, 15)]
    assert spans_of(30.0, 5.0, 15.0, "rest") == [(0, 5), (15, 30)], "K400-untr: without the annotated 10 seconds"
    assert spans_of(30.0, 0.0, 30.0, "rest") == []
    assert spans_of(30.0, 20.0, None, "rest") == [(0, 20)]
    assert spans_of(30.0, None, None, "rest") == [(0, 30)], "nothing is annotated"
    assert spans_of(30.0, 40.0, 50.0, "rest") == [(0, 30)], "what is annotated lies behind the end"
    assert spans_of(30.0, 40.0, 50.0, "part") == []
    assert spans_of(0.0, None, None, "whole") == []
    assert inside(np.array([0, 4, 5, 15, 29.0]), [(0, 5), (15, 30)]).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("rate", [24000 / 1001, 30000 / 1001, 60000 / 1001, 25.0, 29.5, 7.0])
def test_the_times_of_frames_lead_back_to_them(rate: float) -> None:
    """As a manifest writes them, and as a clip of segments finds them: 0.959 s is before frame 23 at 23.976 fps."""
    shown = np.arange(3000) / rate
    snippets = snippets_of({"positive_seconds": _times(shown)})
    assert snippets is not None
    assert _shown_at(snippets.positive, shown, 3000 / rate).frames == tuple(range(3000))
