"""Hashtags: the noise is as large as it says, and its truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tenclip_training.synth import CLASSES, NOUNS, NoisyTags, tag_classes
from tenclip_training.synth.nouns import pair_name
from tenclip_training.synth.tags import SYNONYMS, UNRELATED, draw_tags, tags_of

NAMES = CLASSES[:8]


def draws(noise: NoisyTags, count: int = 3000) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(0)
    return [draw_tags("zoom_in", NAMES, noise, rng) for _ in range(count)]


def test_vocabulary_is_unambiguous() -> None:
    assert set(SYNONYMS) == set(CLASSES)
    pairs = [pair_name(verb, noun) for verb in CLASSES for noun in NOUNS]
    tags = [tag for label in (*CLASSES, *NOUNS, *pairs) for tag in tags_of(label)] + list(UNRELATED)
    assert len(set(tags)) == len(tags)
    assert all(tag.startswith("#") and tag[1:].isalnum() and tag == tag.lower() for tag in tags)
    assert all(len(synonyms) >= 2 for synonyms in SYNONYMS.values())


def test_noise_rates_are_those_asked_for() -> None:
    noise = NoisyTags(missing=0.25, synonym=0.4, wrong=0.3, unrelated=1.5)
    named = tag_classes(NAMES)
    tags = draws(noise)
    true = [[t for t in some if named.get(t) == "zoom_in"] for some in tags]
    wrong = [[t for t in some if named.get(t, "zoom_in") != "zoom_in"] for some in tags]
    assert np.mean([not t for t in true]) == pytest.approx(0.25, abs=0.03)
    assert np.mean([t != ["#zoomin"] for t in true if t]) == pytest.approx(0.4, abs=0.03)
    assert np.mean([len(t) for t in wrong]) == pytest.approx(0.3, abs=0.03)
    assert {named[t] for some in wrong for t in some} == set(NAMES) - {"zoom_in"}
    # A little above 1.5: a video that would have no tag gets one.
    assert np.mean([sum(t in UNRELATED for t in some) for some in tags]) == pytest.approx(1.54, abs=0.08)


def test_tags_are_never_empty_and_never_repeat() -> None:
    for some in draws(NoisyTags(missing=0.9, unrelated=0.1)):
        assert some
        assert len(set(some)) == len(some)


def test_no_noise_leaves_the_canonical_tag() -> None:
    assert set(draws(NoisyTags(missing=0, synonym=0, wrong=0, unrelated=0))) == {("#zoomin",)}


def test_common_chatter_is_common() -> None:
    counts = [sum(tag in some for some in draws(NoisyTags())) for tag in (UNRELATED[0], UNRELATED[-1])]
    assert counts[0] > 5 * counts[1]
