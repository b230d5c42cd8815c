"""One spelling for tags, and words of labels."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.labels.words import canonical_tag, canonical_tags, split_words


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        ("#CandleBurning", "candleburning"),
        ("candle_burning", "candleburning"),
        ("#burncandle🔥", "burncandle"),
        ("❤️", ""),
        ("1️⃣st", "1st"),
        ("\uff43\uff41\uff4e\uff44\uff4c\uff45", "candle"),
        ("#Straße", "strasse"),
        ("cafe\u0301", "café"),
        ("#料理", "料理"),
        ("हिन्दी", "हिन्दी"),  # vowels are marks
        ("#", ""),
        ("", ""),
    ],
)
def test_canonical_tag(written: str, tag: str) -> None:
    assert canonical_tag(written) == tag


@pytest.mark.parametrize(("written", "tag"), [("Café", "cafe"), ("jalapen\u0303o", "jalapeno"), ("हिन्दी", "हिन्दी")])
def test_accents_can_be_folded(written: str, tag: str) -> None:
    assert canonical_tag(written) != tag or not tag.isascii()
    assert canonical_tag(written, fold_accents=True) == tag


@pytest.mark.parametrize(
    ("cell", "tags"),
    [
        ("#a #b #A", ("a", "b")),
        ("#a#b", ("a", "b")),
        ("\uff03a\u3000\uff03b\uff0cc", ("a", "b", "c")),
        ("a, b;c|d\te\nf", ("a", "b", "c", "d", "e", "f")),
        ("['one', 'two']", ("one", "two")),
        ("🔥 🔥", ()),
        ("", ()),
    ],
)
def test_canonical_tags(cell: str, tags: tuple[str, ...]) -> None:
    assert canonical_tags(cell) == tags


@given(st.text())
def test_a_canonical_tag_stays_as_it_is(text: str) -> None:
    tag = canonical_tag(text)
    assert canonical_tag(tag) == tag
    assert canonical_tag(f"#{unicodedata.normalize('NFD', text)}") == tag
    assert not set(tag) & set("# _🔥")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("catching a fish", ("catching", "a", "fish")),
        ("brush_hair", ("brush", "hair")),
        ("ApplyEyeMakeup", ("apply", "eye", "makeup")),
        ("TaiChi", ("tai", "chi")),
        ("playing PlayStation", ("playing", "playstation")),  # it has a blank already
        ("pick-up", ("pick", "up")),
        ("rock 'n' roll", ("rock", "n", "roll")),
        ("tying bow tie (not on a tie)", ("tying", "bow", "tie", "not", "on", "a", "tie")),
        ("  ", ()),
        ("!?", ()),
    ],
)
def test_split_words(label: str, words: tuple[str, ...]) -> None:
    assert split_words(label) == words
