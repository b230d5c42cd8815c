"""Verdicts follow the data: the same code says that a claim is shown, that it is not, and that the opposite is."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tenclip_findings.salience.results import Results
from tenclip_findings.salience.verdicts import Line, verdicts

from .made_up import SCORERS, VIDEOS, results


def lines(found: Results, scorer: str = SCORERS[0]) -> list[Line]:
    return [v for v in verdicts(found) if v.scorer in (scorer, "")]


def words(found: Results, scorer: str = SCORERS[0]) -> list[str]:
    return [v.verdict for v in lines(found, scorer)]


def test_a_gain_is_shown_with_its_cost() -> None:
    found = lines(results())
    assert [v.verdict for v in found] == [
        *("shown", "shown", "shown", "shown", "shown", "shown"),
        "no loss is shown",
        "holds",
        "the bound does not carry over for 1 of 2 bounds",
        "not shown",  # both scorers are as often right
        "shown",
    ]
    assert "+25.0 points" in found[0].figures
    # Of ten billion, three clips and 0.1 for scoring are the most that a third allows.
    assert found[2].figures.startswith("3 clips, 31% of the operations")
    assert found[3].figures.startswith("3 clips, 30% of the operations")
    assert "The fewest clips that reach the baseline's mean are 1, with 11%" in found[2].figures
    assert found[4].figures.startswith("error bound 20%, 1.5 clips on average, 16% of the operations")
    assert found[5].figures.startswith("error bound 20%, 1.5 clips on average, 15% of the operations")
    assert found[7].figures == "of 360 videos differ 0.0% (bound 5%: holds), 1.7% (bound 20%: holds)"
    assert found[8].figures.endswith("25.0% (bound 20%: does not hold)")


def test_a_refused_temperature_lowers_nothing() -> None:
    found = results()
    refused = dataclasses.replace(found.seeds[0].temperature, refused="it does not help")
    seeds = (dataclasses.replace(found.seeds[0], temperature=refused), *found.seeds[1:])
    line = verdicts(dataclasses.replace(found, seeds=seeds))[-1]
    assert line.verdict == "not shown"
    assert line.figures.endswith("refused for 1 of 3 seeds")


def test_the_strictest_rule_that_is_cheap_enough_is_compared() -> None:
    """By its cost, not by its accuracy."""
    figures = lines(results(adaptive_clips=0.25, scoring_gflops=0.0))[4].figures
    assert figures.startswith("error bound 5%, 1.0 clips on average")
    dear = lines(results(adaptive_clips=6.0))[4]
    assert (dear.verdict, dear.figures.partition(",")[0]) == ("not shown", "no rule is that cheap")


def test_swapped_accuracies_flip_the_verdicts() -> None:
    found = results(uniform=0.75, dense=0.75, salient=0.5, adaptive=0.5)
    assert words(found)[:7] == [
        *("the opposite is shown", "the opposite is shown", "not shown", "not shown", "not shown", "not shown"),
        "a loss is shown",
    ]
    assert "No number of clips up to 10" in lines(found)[2].figures


def test_equal_arms_show_no_gain_and_no_loss() -> None:
    found = results(uniform=0.5, dense=0.5, salient=0.5, adaptive=0.5)
    assert words(found)[:7] == ["not shown", "not shown", "shown", "shown", "shown", "shown", "no loss is shown"]


def test_a_scorer_that_costs_too_much_is_not_cheaper_however_right() -> None:
    found = results(salient=0.95, adaptive=0.95, scoring_gflops=3.0)
    assert words(found)[2:6] == ["not shown", "shown", "not shown", "shown"], "with scoring and without"
    assert "one clip takes 40%" in lines(found)[2].figures
    assert words(found, SCORERS[1])[2:6] == ["shown"] * 4, "motion energy has no network"


def test_adaptive_prediction_must_keep_to_its_fifth() -> None:
    assert words(results(adaptive_clips=1.8))[4:6] == ["shown", "shown"]
    assert words(results(adaptive_clips=2.0))[4:6] == ["not shown", "shown"], "two clips are a fifth, scoring is more"
    assert words(results(adaptive_clips=2.5))[4:6] == ["not shown", "not shown"]


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ((0, 0), ["holds", "holds"]),
        ((26, 26), ["exceeded, within chance"] * 2),
        ((60, 6), ["does not hold for 1 of 2 bounds", "holds"]),
    ],
)
def test_the_bound_is_held_against_what_was_observed(different: tuple[int, int], expected: list[str]) -> None:
    assert words(results(different=different))[7:9] == expected


def test_results_come_back_from_json() -> None:
    found = results(seeds=2)
    again = Results.from_dict(json.loads(json.dumps(found.to_dict())))
    assert verdicts(again) == verdicts(found)
    assert again.seeds[0].set("test").arm("dense").correct == found.seeds[0].set("test").arm("dense").correct
    assert again.seeds[0].set("test").videos == VIDEOS
    with pytest.raises(KeyError, match="no arm uniform  7"):
        again.seeds[0].set("test").arm("uniform", num_clips=7)
