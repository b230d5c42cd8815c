"""Relevant hashtags of IG-65M: section 3.1 and the supplement."""

from __future__ import annotations

import doctest
import importlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_training.labels.forms import word_forms
from tenclip_training.labels.hashtags import noun_hashtags, pair_hashtags, relevant_hashtags, verb_hashtags
from tenclip_training.labels.words import FUNCTION_WORDS, canonical_tag

CANDLES = {
    *("burncandle", "candlesburning", "candleburning", "burncandles"),
    *("burningcandle", "burningcandles", "candlesburn", "candleburn"),
}
WORDS = ["catching", "a", "fish", "the", "candles", "not", "horse", "swimming", "in", "zumba"]


def test_the_papers_examples() -> None:
    tags = relevant_hashtags("catching a fish").tags
    assert {"catchingafish", "catchfish", "fishcatching"} <= set(tags)
    # 3! orders of two forms with the article, 2! without.
    assert len(tags) == 3 * 2 * 2 + 2 * 2
    assert tags == tuple(sorted(tags))


@pytest.mark.parametrize(("verb", "noun"), [("burning", "candle"), ("burn", "candles"), ("Burning", "#candle")])
def test_the_supplements_pair(verb: str, noun: str) -> None:
    assert set(pair_hashtags(verb, noun).tags) == CANDLES


def test_an_action_of_a_verb_and_a_noun_in_the_plural_has_the_pairs_tags() -> None:
    assert set(relevant_hashtags("burning candles").tags) == CANDLES


def test_a_word_that_is_verb_and_noun_gives_no_tag_twice() -> None:
    tags = pair_hashtags("fish", "fish").tags
    assert len(tags) == len(set(tags))
    assert "fishfish" in tags


def test_single_verbs_and_nouns() -> None:
    assert verb_hashtags("burning").tags == ("burn", "burning")
    assert noun_hashtags("candle").tags == ("candle", "candles")


def test_negations_tell_labels_apart() -> None:
    inside = relevant_hashtags("passing American football (in game)")
    outside = relevant_hashtags("passing American football (not in game)")
    assert not set(inside.tags) & set(outside.tags)
    assert not inside.capped
    assert not outside.capped


def test_function_words_alone_are_kept() -> None:
    assert set(relevant_hashtags("to the").tags) == {"tothe", "theto"}


def test_a_long_label_is_capped_and_says_so() -> None:
    label = "catching riding burning cutting eating washing throwing painting opening"
    found = relevant_hashtags(label, max_tags=100)
    assert len(found.tags) == 100
    assert found.capped
    assert found.possible == math.factorial(9) * 2**9
    # What is nearest to the label stays.
    assert label.replace(" ", "") in found.tags
    assert label.replace(" ", "").replace("opening", "open") in found.tags


def test_a_cap_that_is_met_exactly_is_no_cap() -> None:
    assert not relevant_hashtags("catching a fish", max_tags=16).capped
    assert relevant_hashtags("catching a fish", max_tags=15).capped


def test_a_cap_takes_from_both_variants() -> None:
    assert {"catchingafish", "catchingfish"} == set(relevant_hashtags("catching a fish", max_tags=2).tags)


def test_repeated_words_end() -> None:
    found = relevant_hashtags(" ".join(["duck"] * 30 + ["goose"]))
    assert len(found.tags) == 31
    assert found.possible == 31


@pytest.mark.parametrize("label", ["", "  ", "#", "🔥", "()"])
def test_a_label_without_words_is_an_error(label: str) -> None:
    for hashtags in (relevant_hashtags, verb_hashtags, noun_hashtags):
        with pytest.raises(DatasetError, match="is empty: a label needs a letter or a digit"):
            hashtags(label)
    with pytest.raises(DatasetError, match="is empty"):
        pair_hashtags("burn", label)


def test_a_text_is_no_label() -> None:
    with pytest.raises(DatasetError, match="has 51 words; a label has at most 50"):
        relevant_hashtags(" ".join(["word"] * 51))


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4), st.randoms())
def test_tags_do_not_depend_on_the_order_of_words(words: list[str], rng: random.Random) -> None:
    found = relevant_hashtags(" ".join(words))
    shuffled = rng.sample(words, len(words))
    assert relevant_hashtags(" ".join(shuffled)).tags == found.tags
    assert all(canonical_tag(tag) == tag for tag in found.tags)
    assert len(found.tags) <= found.possible
    assert "".join(words) in found.tags
    if content := [w for w in words if w not in FUNCTION_WORDS]:
        assert "".join(word_forms(w)[-1] for w in content) in found.tags


@given(st.text(max_size=12), st.integers(1, 50))
def test_any_label_gives_tags_or_an_error(label: str, max_tags: int) -> None:
    try:
        found = relevant_hashtags(label, max_tags=max_tags)
    except DatasetError:
        return
    assert 1 <= len(found.tags) <= max_tags
    assert all(canonical_tag(tag) == tag for tag in found.tags)


@pytest.mark.parametrize("module", ["words", "forms", "hashtags", "overlap"])
def test_examples_of_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"tenclip_training.labels.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
