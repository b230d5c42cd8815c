"""Lemmas and inflections."""

from __future__ import annotations

import pytest

from tenclip_training.labels.forms import lemma, noun_forms, noun_lemma, verb_forms, verb_lemma, word_forms


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("burning", "burn"),
        ("candles", "candle"),
        ("catching", "catch"),
        ("caught", "catch"),
        ("fish", "fish"),
        ("horses", "horse"),
        ("archery", "archery"),
        ("beekeeping", "beekeep"),
        ("abseiling", "abseil"),
        ("string", "string"),
        ("thing", "thing"),
        ("zumba", "zumba"),
        ("as", "as"),
        ("münchen", "münchen"),
        ("料理", "料理"),
        ("360", "360"),
    ],
)
def test_lemma(word: str, expected: str) -> None:
    assert lemma(word) == expected
    assert word_forms(word) == ((word,) if word == expected else (word, expected))


@pytest.mark.parametrize(
    ("words", "forms"),
    [
        (["burn"], ("burn", "burning")),
        (["burning"], ("burn", "burning")),
        (["burned"], ("burn", "burning", "burned")),
        (["put", "down"], ("putdown", "puttingdown")),
        (["料理"], ("料理",)),
    ],
)
def test_verb_forms(words: list[str], forms: tuple[str, ...]) -> None:
    assert verb_forms(words) == forms


@pytest.mark.parametrize(
    ("words", "forms"),
    [
        (["candle"], ("candle", "candles")),
        (["candles"], ("candle", "candles")),
        (["knife"], ("knife", "knives")),
        (["archery"], ("archery",)),
        (["ice", "cream"], ("icecream", "icecreams")),
        (["café"], ("café",)),
    ],
)
def test_noun_forms(words: list[str], forms: tuple[str, ...]) -> None:
    assert noun_forms(words) == forms


def test_canonical_forms_of_phrases() -> None:
    assert verb_lemma(["picking", "up"]) == "pick up"
    assert noun_lemma(["cutting", "boards"]) == "cutting board"
