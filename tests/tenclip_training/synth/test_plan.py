"""Plans: counts, splits, times, and that nothing but the label hangs on the class."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.synth import CLASSES, MOTIONS, NoisyTags, SynthConfig, plan_videos
from tenclip_training.synth.counts import class_counts, split_counts


def test_defaults_are_eight_balanced_classes() -> None:
    specs = plan_videos(SynthConfig())
    counts = Counter((s.label, s.split) for s in specs)
    assert counts == {(name, split): n for name in CLASSES[:8] for split, n in (("train", 96), ("test", 24))}
    assert len({s.path for s in specs}) == len(specs)


def test_at_least_twelve_classes() -> None:
    assert len(CLASSES) >= 12
    assert {s.label for s in plan_videos(SynthConfig(num_classes=len(CLASSES), videos_per_class=1))} == set(CLASSES)


@given(st.integers(1, 500), st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any))
def test_splits_share_out_every_video(count: int, parts: list[int]) -> None:
    fractions = tuple((f"split{i}", part / sum(parts)) for i, part in enumerate(parts))
    shares = split_counts(count, fractions)
    assert sum(shares.values()) == count
    assert all(abs(shares[name] - count * fraction) < 1 for name, fraction in fractions)


@given(st.integers(1, 1000), st.integers(2, 16), st.floats(1, 500))
def test_long_tail_falls_from_all_to_the_factor(count: int, classes: int, factor: float) -> None:
    config = SynthConfig(num_classes=classes, videos_per_class=count, splits=(("train", 1.0),), long_tail=factor)
    counts = [splits["train"] for splits in class_counts(config).values()]
    assert counts[0] == count
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == max(1, round(count / factor))


def test_only_training_is_long_tailed() -> None:
    specs = plan_videos(SynthConfig(videos_per_class=50, long_tail=10))
    counts = Counter((s.split, s.label) for s in specs)
    assert counts["train", CLASSES[0]] == 40
    assert counts["train", CLASSES[7]] == 4
    assert {counts["test", name] for name in CLASSES[:8]} == {10}


def test_a_video_hangs_on_seed_class_and_index_alone() -> None:
    few = plan_videos(SynthConfig(videos_per_class=5, classes=("zoom_in", "move_up"), seed=3))
    many = {s.path: s for s in plan_videos(SynthConfig(videos_per_class=9, num_classes=16, seed=3))}
    assert all(dataclasses.replace(many[s.path], split=s.split) == s for s in few)
    other = plan_videos(SynthConfig(videos_per_class=5, classes=("zoom_in", "move_up"), seed=4))
    assert [s.duration for s in other] != [s.duration for s in few]


def test_durations_and_rates_are_those_asked_for() -> None:
    config = SynthConfig(videos_per_class=60, seconds=(1.0, 2.0), frame_rates=(15.0, 29.97), variable_frame_rate=0.0)
    specs = plan_videos(config)
    assert {s.frame_rate for s in specs} == {Fraction(15), Fraction(2997, 100)}
    assert all(0.95 <= s.duration <= 2.05 for s in specs)
    assert all(np.allclose(np.diff(s.times), 1 / float(s.frame_rate)) for s in specs)
    assert not any(s.variable_frame_rate for s in specs)


def test_variable_frame_rates_wander_about_the_nominal_one() -> None:
    specs = plan_videos(SynthConfig(videos_per_class=60, variable_frame_rate=0.5))
    variable = [s for s in specs if s.variable_frame_rate]
    assert 0.4 < len(variable) / len(specs) < 0.6
    for spec in variable:
        intervals = np.diff(spec.times) * float(spec.frame_rate)
        assert spec.times[0] == 0
        assert intervals.min() > 0.59
        assert intervals.max() < 1.41
        assert np.ptp(intervals) > 0.2
        assert spec.times[-1] < spec.duration


def test_untrimmed_actions_lie_within_the_video() -> None:
    specs = plan_videos(SynthConfig(videos_per_class=30, seconds=(4.0, 9.0), untrimmed=(0.1, 0.3)))
    parts = np.array([(s.end - s.start) / s.duration for s in specs])
    assert all(0 <= s.start < s.end <= s.duration + 1e-3 for s in specs)
    assert 0.09 < parts.min() < 0.13
    assert 0.27 < parts.max() < 0.31
    starts = np.array([s.start / s.duration for s in specs])
    assert starts.min() < 0.1
    assert starts.max() > 0.6
    assert {s.idle for s in specs} == {"still", "wander", "flicker"}


def test_trimmed_actions_fill_the_video() -> None:
    assert all((s.start, s.end) == (0.0, s.duration) for s in plan_videos(SynthConfig(videos_per_class=3)))


@pytest.mark.parametrize("attribute", ["speed", "objects", "shape", "texture", "background"])
def test_attributes_are_no_hint_at_the_class(attribute: str) -> None:
    specs = plan_videos(SynthConfig(videos_per_class=400))
    values = Counter(getattr(s, attribute) for s in specs)
    assert len(values) >= 2
    for value, count in values.items():
        assert count / len(specs) == pytest.approx(1 / len(values), abs=0.04)
        by_class = Counter(s.label for s in specs if getattr(s, attribute) == value)
        assert all(n / 400 == pytest.approx(1 / len(values), abs=0.1) for n in by_class.values())


def test_noisy_tags_are_drawn_last_so_that_they_change_nothing_else() -> None:
    plain = plan_videos(SynthConfig(videos_per_class=4))
    tagged = plan_videos(SynthConfig(videos_per_class=4, noisy_tags=NoisyTags()))
    assert all(s.tags for s in tagged)
    assert [dataclasses.replace(s, tags=()) for s in tagged] == plain


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"classes": ("move_left", "fly")}, "no motion class fly; there are move_left, "),
        ({"classes": ("move_left", "move_left")}, "twice"),
        ({"classes": ("move_left",)}, "num_classes must lie in 2-16, got 1"),
        ({"num_classes": 17}, "2-16, got 17"),
        ({"videos_per_class": 0}, "at least 1, got 0"),
        ({"splits": ()}, "split names"),
        ({"splits": (("train", 0.5), ("train", 0.5))}, "must differ"),
        ({"splits": (("train", 0.5), ("test", 0.4))}, "sum to 1"),
        ({"splits": (("train", 1.5), ("test", -0.5))}, "sum to 1"),
        ({"width": 15}, "15x84"),
        ({"height": 5000}, "112x5000"),
        ({"seconds": (2.0, 1.0)}, "seconds must be"),
        ({"seconds": (0.0, 1.0)}, "seconds must be"),
        ({"frame_rates": ()}, "frame_rates is empty"),
        ({"frame_rates": (0.0,)}, "frame_rates must lie in 1-240"),
        ({"variable_frame_rate": 1.5}, "a fraction of the videos, got 1.5"),
        ({"objects": (0, 2)}, "objects must be"),
        ({"clutter": -1}, "clutter must lie"),
        ({"distractors": 10}, "distractors must lie"),
        ({"camera_shake": 0.5}, "camera_shake must lie"),
        ({"untrimmed": (0.0, 0.3)}, "untrimmed must be"),
        ({"long_tail": 0.5}, "at least 1, got 0.5"),
        ({"crf": 99}, "crf must lie"),
        ({"gop": 0}, "gop must be"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_configurations_that_make_no_sense(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SynthConfig(**options)


@pytest.mark.parametrize("options", [{"missing": 1.1}, {"synonym": -0.1}, {"wrong": 2}, {"unrelated": -1}])
def test_noise_that_makes_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"noisy_tags.{next(iter(options))}"):
        NoisyTags(**options)


def test_every_motion_is_described() -> None:
    assert all(m.family and m.axis in ("horizontal", "vertical", "none") for m in MOTIONS.values())
