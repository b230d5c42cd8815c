from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tenclip_training.data.class_sampler import ClassSampler
from tenclip_training.data.samplers import Draw, DrawSampler, EpochSampler
from tenclip_training.data.sampling import build_sampler, describe
from tenclip_training.data.tags import fixed_tags
from tenclip_training.runs.sections import SamplingConfig
from tests.tenclip_training.data.test_class_sampler import TAGGED, of_sizes

PLACE: dict[str, Any] = {"batch_size": 4, "epochs": 3, "seed": 0}


def draws_of(sampler: EpochSampler) -> list[Draw]:
    return [draw for batch in sampler for draw in batch]


# -- which sampler --


def test_without_classes_every_video_is_drawn_as_ever() -> None:
    found = build_sampler(TAGGED, 3, SamplingConfig(clips_per_video=2), **PLACE)
    assert found == DrawSampler(num_samples=3, clips_per_video=2, **PLACE)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SamplingConfig(class_power=0.5), [0.4177, 0.3411, 0.2412]),
        (SamplingConfig(class_power=1), [0.5, 0.3333, 0.1667]),
        (SamplingConfig(class_power=0), [0.3333, 0.3333, 0.3333]),
        (SamplingConfig(class_cap=1), [0.4, 0.4, 0.2]),
        (SamplingConfig(class_cap=1, class_power=0.5), [0.3694, 0.3694, 0.2612]),
    ],
)
def test_classes_are_drawn_by_power_and_cap(config: SamplingConfig, expected: list[float]) -> None:
    found = build_sampler(TAGGED, 3, config, **PLACE)
    assert isinstance(found, ClassSampler)
    assert found.probabilities.round(4).tolist() == expected
    assert found.draws_per_epoch == 3


def test_an_epoch_has_as_many_draws_as_asked_for() -> None:
    for config, draws in (
        (SamplingConfig(class_power=0, draws=50), 50),
        (SamplingConfig(class_power=0, clips_per_video=4), 12),
        (SamplingConfig(draws=50), 50),
    ):
        found = build_sampler(TAGGED, 3, config, **PLACE)
        assert len(draws_of(found)) == 3 * draws
        assert found.draws_per_epoch == draws


def test_short_epochs_go_on_through_the_videos_where_the_last_one_ended() -> None:
    found = build_sampler(of_sizes(10), 1, SamplingConfig(draws=4), **{**PLACE, "epochs": 5})
    draws = draws_of(found)
    assert Counter(d.sample for d in draws) == dict.fromkeys(range(10), 2)
    assert {d.sample for d in draws[:10]} == set(range(10))
    assert all(d.label is None for d in draws)
    assert len(set(draws)) == 20


def test_a_fixed_tag_is_the_only_class_of_a_video() -> None:
    labels = [(i % 3, 3 + i % 2) for i in range(40)]
    found = build_sampler(labels, 5, SamplingConfig(class_power=0.5, tags="fixed", draws=400), **PLACE)
    fixed = fixed_tags(labels, seed=0)
    draws = draws_of(found)
    assert {d.sample for d in draws} == set(range(40))
    assert all((d.label,) == fixed[d.sample] for d in draws)


def test_a_sampler_begins_where_it_is_told() -> None:
    for config in (SamplingConfig(), SamplingConfig(class_power=0.2), SamplingConfig(draws=5)):
        whole = list(build_sampler(of_sizes(9, 4), 2, config, **PLACE))
        late = build_sampler(of_sizes(9, 4), 2, config, **PLACE, first_epoch=1, first_step=1)
        assert list(late) == whole[len(whole) // 3 + 1 :]


def test_draws_and_clips_per_video_contradict_each_other() -> None:
    with pytest.raises(ValueError, match=r"draws \(8\).*clips_per_video \(2\).*give one of them"):
        SamplingConfig(draws=8, clips_per_video=2)


# -- what it will do --


def test_the_summary_names_the_largest_repeats() -> None:
    """10,000 draws of 900/100/4 by the square root: 476 of the smallest class, 119 for each of its four videos."""
    names = ["run", "jump", "swim", "never"]
    found = describe(of_sizes(900, 100, 4), names, SamplingConfig(class_power=0.5, draws=10_000), seed=0)
    assert found.scheme == "classes by N^0.5 (square root)"
    assert (found.videos, found.draws, found.classes, found.without_videos) == (1004, 10_000, 3, ("never",))
    assert found.largest_repeats == pytest.approx(119.05, abs=0.01)
    assert found.repeated_class == "swim"
    assert found.warning is not None
    assert "a video of class 'swim' is seen 119 times in an epoch of 10000 clips, more than 30" in found.warning
    assert [(row.name, round(row.draws, 1)) for row in found.rows] == [
        ("run", 7142.9),
        ("jump", 2381.0),
        ("swim", 476.2),
    ]
    assert json.loads(json.dumps(found.to_dict()))["warning"] == found.warning
    assert found.lines()[-1] == f"warning: {found.warning}"
    assert found.lines()[0] == (
        "sampling: classes by N^0.5 (square root); 10000 clips an epoch of 1004 videos; targets: soft"
    )


def test_plain_sampling_repeats_no_video() -> None:
    found = describe(TAGGED, ["a", "b", "c"], SamplingConfig(clips_per_video=2), seed=0)
    assert found.largest_repeats == pytest.approx(2)
    assert (found.scheme, found.warning, found.repeated_class) == ("every video in turn", None, None)


def test_repeats_of_a_video_add_up_over_its_tags() -> None:
    """Balanced, 3 draws: v1 1/1.5; v2 .5/1.5 + .5/1; v3 .5/1 + .5/.5 = 1.5."""
    config = SamplingConfig(class_power=0, draws=3)
    found = describe(TAGGED, ["a", "b", "c"], config, seed=0)
    assert found.largest_repeats == pytest.approx(1.5)
    assert found.repeated_class == "c"
    often = build_sampler(TAGGED, 3, SamplingConfig(class_power=0, draws=30_000), **{**PLACE, "epochs": 1})
    seen = Counter(next(iter(often.epochs_from(0))).indices.tolist())
    assert [seen[i] / 10_000 for i in range(3)] == pytest.approx([2 / 3, 5 / 6, 3 / 2], abs=0.03)


def test_a_clipped_summary_says_so() -> None:
    config = SamplingConfig(class_cap=5000)
    found = describe(of_sizes(2, 3), ["a", "b"], config, seed=0)
    assert found.scheme == "classes by min(N, 5000)"
    assert found.warning is None
