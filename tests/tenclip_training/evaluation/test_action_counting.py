"""Verbs, nouns and actions, with the arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_score, recall_score

from tenclip_training.evaluation.action_counting import TaskScores, count_actions, count_pairs, count_task
from tenclip_training.evaluation.results import Accuracy

# The methods' example: p(verb) .5 .3 .2, p(noun) .6 .3 .1.
VERB, NOUN = [0.5, 0.3, 0.2], [0.6, 0.3, 0.1]
ALL = [(v, n) for v in range(3) for n in range(3)]


def task(
    name: str, scores: list[list[float]] | np.ndarray, targets: list[int], in_training: list[int] | None = None
) -> TaskScores:
    array = np.asarray(scores, np.float32)
    return TaskScores(
        name=name,
        labels=tuple(f"{name}{k}" for k in range(array.shape[1])),
        scores=array,
        targets=np.array(targets),
        in_training=None if in_training is None else np.array(in_training),
    )


def test_worked_example_of_products() -> None:
    """Over all pairs (0,0) wins with .30; over the pairs seen (0,1) .15, (1,0) .18, (2,2) .02, and (1,0) wins.

    For truth (1,0) the verb is wrong, the noun right, and the action right where only seen pairs count.
    """
    verb, noun = task("verb", [VERB], [1]), task("noun", [NOUN], [0])
    assert count_task(verb).top1 == Accuracy(correct=0, total=1)
    assert count_task(noun).top1 == Accuracy(correct=1, total=1)
    everything = count_actions(verb, noun, ALL)
    assert ALL[int(everything.predicted[0])] == (0, 0)
    assert everything.top1 == Accuracy(correct=0, total=1)
    seen = count_actions(verb, noun, [(0, 1), (1, 0), (2, 2)])
    assert seen.predicted.tolist() == [1]
    assert seen.top1 == Accuracy(correct=1, total=1)
    assert (everything.classes, seen.classes) == (9, 3)


def test_top5_of_all_pairs() -> None:
    """Products .30 .18 .15 .12 .09 .06 .05 .03 .02: the fifth is (1,1), the sixth (2,1)."""
    for pair, right in (((1, 1), 1), ((2, 1), 0), ((0, 2), 0), ((2, 0), 1)):
        result = count_actions(task("verb", [VERB], [pair[0]]), task("noun", [NOUN], [pair[1]]), ALL)
        assert result.top5.correct == right, pair


def test_an_action_that_training_has_not_seen_cannot_be_right() -> None:
    """Even where there are fewer than five pairs in all."""
    result = count_actions(task("verb", [VERB], [0]), task("noun", [NOUN], [0]), [(1, 0), (2, 2)])
    assert (result.top1.correct, result.top5.correct, result.top5.total) == (0, 0, 1)
    assert result.mean_average_precision.classes_counted == 1
    assert result.mean_average_precision.classes_left_out == 2
    assert result.mean_average_precision.value == 1.0, "one video in all: any order has it first"


def test_mean_average_precision_of_actions() -> None:
    """Scores of (0,0) by video: .81 .42 .36, truth at 1 and 3: 5/6. Of (1,1): .01 .12 .16, truth at 2: 1/2."""
    verb = task("verb", [[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], [0, 1, 0])
    noun = task("noun", [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], [0, 1, 0])
    result = count_actions(verb, noun, [(0, 0), (0, 1), (1, 1)])
    assert result.mean_average_precision.value == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert (result.mean_average_precision.classes_counted, result.mean_average_precision.classes_left_out) == (2, 1)
    assert result.mean_average_precision.rows == 3


def test_an_unseen_action_has_the_precision_of_chance() -> None:
    verb = task("verb", [[0.9, 0.1], [0.6, 0.4], [0.6, 0.4]], [0, 1, 0])
    noun = task("noun", [[0.9, 0.1], [0.7, 0.3], [0.6, 0.4]], [0, 1, 0])
    result = count_actions(verb, noun, [(0, 0)])
    assert result.mean_average_precision.value == pytest.approx((5 / 6 + 1 / 3) / 2)


# -- many-shot classes --


def test_many_shot_verbs() -> None:
    """Training has 200, 101, 100 and 500 of the verbs: 100 is not more than 100. Verb 3 has no video here.

    Verb 0: two videos, one right; predicted twice, once rightly. Verb 1: one video, wrong; never predicted: 0.
    """
    verb = task(
        "verb",
        [[0.9, 0.0, 0.1, 0.0], [0.1, 0.0, 0.9, 0.0], [0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.7, 0.0]],
        [0, 0, 1, 2],
        [200, 101, 100, 500],
    )
    many = count_task(verb).many_shot
    assert many is not None
    assert (many.more_than, many.classes, many.classes_counted) == (100, 3, 2)
    assert many.mean_recall == pytest.approx((1 / 2 + 0) / 2)
    assert many.mean_precision == pytest.approx((1 / 2 + 0) / 2)
    assert count_task(verb, more_than=99).many_shot.classes == 4  # type: ignore[union-attr]


def test_many_shot_actions_need_both_and_a_training_video() -> None:
    """Verbs 0 and 1 and noun 0 are many-shot. (0,0) was seen, (1,0) never was, (0,1) has a rare noun."""
    scores = [[0.8, 0.2], [0.3, 0.7], [0.9, 0.1]]
    verb = task("verb", scores, [0, 1, 0], [150, 120])
    noun = task("noun", [[0.9, 0.1], [0.8, 0.2], [0.2, 0.8]], [0, 0, 1], [170, 100])
    seen = {(0, 0): 70, (0, 1): 80}
    many = count_actions(verb, noun, sorted(seen), in_training=seen).many_shot
    assert many is not None
    assert (many.classes, many.classes_counted) == (1, 1)
    # (0,0) is predicted for the first video, rightly, and for the second, where it is the better of the two seen.
    assert (many.mean_recall, many.mean_precision) == (1.0, 0.5)


def test_without_many_shot_classes() -> None:
    verb = task("verb", [VERB], [0], [3, 2, 1])
    many = count_task(verb).many_shot
    assert many is not None
    assert (many.classes, many.classes_counted, many.mean_recall, many.mean_precision) == (0, 0, None, None)
    assert count_task(task("verb", [VERB], [0])).many_shot is None


def test_pairs_of_training_videos() -> None:
    labels = [("cut", "cup"), ("cut", "cup"), ("wash", "pan"), ("peel", "cup")]
    assert count_pairs(labels, ("cut", "wash"), ("pan", "cup")) == {(0, 1): 2, (1, 0): 1}


SCORES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, 3), elements=st.floats(0.125, 1, width=16)),
        arrays(np.float32, (n, 4), elements=st.floats(0.125, 1, width=16)),
        arrays(np.int64, (n, 2), elements=st.integers(0, 2)),
    )
)


@settings(deadline=None)
@given(SCORES)
def test_against_the_whole_matrix_of_products(made: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    v, n, targets = made
    verb = task("verb", v, targets[:, 0].tolist(), [200, 0, 200])
    noun = task("noun", n, targets[:, 1].tolist(), [200, 200, 0, 0])
    every = [(i, j) for i in range(3) for j in range(4)]
    counts = {pair: int(pair != (0, 1)) for pair in every}
    result = count_actions(verb, noun, every, in_training=counts)
    products = (v[:, :, None].astype(np.float64) * n[:, None, :]).reshape(len(v), 12)
    flat = targets[:, 0] * 4 + targets[:, 1]
    order = np.argsort(-products, axis=1, kind="stable")
    assert result.predicted.tolist() == order[:, 0].tolist()
    for k, found in ((1, result.top1), (5, result.top5)):
        assert found.correct == int((order[:, :k] == flat[:, None]).any(axis=1).sum())
    present = sorted(set(flat.tolist()))
    precise = [average_precision_score(flat == k, products[:, k].astype(np.float32)) for k in present]
    assert result.mean_average_precision.value == pytest.approx(np.mean(precise))
    many = [k for k in present if k in (0, 8, 9)]
    assert result.many_shot is not None
    assert result.many_shot.classes_counted == len(many)
    if many:
        predicted = order[:, 0]
        options = {"labels": many, "average": "macro", "zero_division": 0}
        assert result.many_shot.mean_recall == pytest.approx(recall_score(flat, predicted, **options))
        assert result.many_shot.mean_precision == pytest.approx(precision_score(flat, predicted, **options))
