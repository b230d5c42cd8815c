"""Noisy sources: shares are exact, the truth stays, and nothing else knows of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.synth import CLASSES, NOUNS, NoisyTags, SynthConfig, WebNoise, plan_videos, render, tag_classes

BASE = SynthConfig(
    num_classes=4,
    nouns=NOUNS[:8],
    overlap=0.5,
    videos_per_class=50,
    splits=(("train", 1.0),),
    web=WebNoise(wrong=0.3, off_topic=0.25),
    source="search",
)


def changed(**options: Any) -> SynthConfig:
    return dataclasses.replace(BASE, **options)


@settings(max_examples=30)
@given(st.integers(4, 90), st.floats(0, 1), st.floats(0, 1))
def test_shares_are_exact(total: int, wrong: float, rest: float) -> None:
    off_topic = (1 - wrong) * rest
    specs = plan_videos(changed(total=total, web=WebNoise(wrong=wrong, off_topic=off_topic)))
    counts = Counter(s.claim for s in specs)
    assert counts["wrong"] == round(total * wrong)
    assert abs(counts["off_topic"] - total * off_topic) <= 1
    assert sum(counts.values()) == total


@pytest.mark.parametrize("label", ["verb", "noun", "pair"])
def test_what_is_wrong_shows_another_class_of_the_set(label: str) -> None:
    config = changed(label=label)
    for spec in plan_videos(config):
        if spec.claim == "off_topic":
            assert spec.true_label == "off_topic"
            continue
        assert spec.true_label == getattr(spec, label)
        assert spec.true_label in config.class_names
        assert (spec.true_label != spec.label) == (spec.claim == "wrong")


@pytest.mark.parametrize("label", ["verb", "noun", "pair"])
def test_what_is_off_topic_shows_no_class_of_the_set(label: str) -> None:
    off = [s for s in plan_videos(changed(label=label)) if s.claim == "off_topic"]
    assert off
    assert all(s.verb not in CLASSES[:4] and s.noun not in NOUNS[:8] for s in off)
    assert len({s.verb for s in off}) > 5
    assert len({s.noun for s in off}) > 4


def test_a_set_of_everything_is_off_topic_where_nothing_acts() -> None:
    everything = changed(num_classes=16, nouns=(), web=WebNoise(wrong=0, off_topic=1), total=16)
    for spec in plan_videos(everything):
        assert (spec.verb, spec.intervals) == ("", ())
        assert spec.noun
        frames = np.stack(list(render(dataclasses.replace(spec, ticks=spec.ticks[:12]))))
        assert not np.array_equal(frames[0], frames[-1])  # it wanders
    stills = plan_videos(dataclasses.replace(everything, kind="images"))
    assert all((s.objects, s.noun, s.shape) == (0, "", "") for s in stills)


def test_other_splits_are_right() -> None:
    specs = plan_videos(changed(splits=(("train", 0.5), ("test", 0.5))))
    assert all(s.claim == "right" and s.label == s.verb for s in specs if s.split == "test")
    assert Counter(s.claim for s in specs if s.split == "train") == {"wrong": 30, "off_topic": 25, "right": 45}


def test_noise_does_not_hang_on_class_or_noun() -> None:
    specs = plan_videos(changed(videos_per_class=400, web=WebNoise(wrong=0.5, off_topic=0)))
    for name in BASE.class_names:
        assert np.mean([s.claim == "wrong" for s in specs if s.label == name]) == pytest.approx(0.5, abs=0.08)
    for noun in BASE.noun_names:
        assert np.mean([s.claim == "wrong" for s in specs if s.noun == noun]) == pytest.approx(0.5, abs=0.12)


def test_wrong_tags_do_not_hang_on_the_noun() -> None:
    noise = NoisyTags(missing=0, wrong=0.5, synonym=0, unrelated=0)
    specs = plan_videos(changed(web=None, noisy_tags=noise, videos_per_class=400))
    named = tag_classes(BASE.class_names)
    for noun in BASE.noun_names:
        some = [{named[t] for t in s.tags} - {s.label} for s in specs if s.noun == noun]
        assert np.mean([bool(others) for others in some]) == pytest.approx(0.5, abs=0.12)


def test_tags_say_what_is_claimed() -> None:
    exact = NoisyTags(missing=0, wrong=0, synonym=0, unrelated=0)
    for label in ("verb", "noun", "pair"):
        config = changed(label=label, noisy_tags=exact)
        named = tag_classes(config.class_names)
        assert all([named[t] for t in s.tags] == [s.label] for s in plan_videos(config))


def test_urls_are_of_the_source_and_no_two_alike() -> None:
    specs = [*plan_videos(BASE), *plan_videos(changed(seed=1)), *plan_videos(changed(kind="images"))]
    assert len({s.url for s in specs}) == len(specs)
    assert all(s.url.startswith("https://search.example/") and s.source == "search" for s in specs)
    assert all(s.url == s.source == "" for s in plan_videos(SynthConfig(videos_per_class=1)))


def test_the_same_seed_makes_no_copies_in_other_sources_sites_or_as_images() -> None:
    """A teacher must not have seen the target's test videos, were their seeds the same by accident."""
    plain = dataclasses.replace(BASE, web=None, source="", videos_per_class=2)
    worlds = [plain, dataclasses.replace(plain, source="a"), dataclasses.replace(plain, source="b"), changed()]
    worlds += [dataclasses.replace(plain, kind="images"), dataclasses.replace(plain, site="studio")]
    firsts = [next(render(plan_videos(world)[0])).tobytes() for world in worlds]
    assert len(set(firsts)) == len(worlds)


def test_the_same_seed_makes_the_same_noise() -> None:
    assert plan_videos(BASE) == plan_videos(BASE)
    assert [s.claim for s in plan_videos(BASE)] != [s.claim for s in plan_videos(changed(seed=1))]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"wrong": 1.2}, "web.wrong is a share"),
        ({"off_topic": -0.1}, "web.off_topic is a share"),
        ({"wrong": 0.6, "off_topic": 0.6}, "shares of the same items, got 0.6 and 0.6"),
    ],
)
def test_noise_that_makes_no_sense(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        WebNoise(**options)
