from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_data.samples import Sample
from tenclip_training.curation.subsets import (
    Bands,
    Budget,
    Kind,
    class_subset,
    duration_subset,
    instance_subset,
    random_subset,
    tail_preserving_subset,
)

COUNTS = st.lists(st.integers(1, 25), min_size=1, max_size=6)


def dataset(*counts: int, prefix: str = "") -> list[Sample]:
    return [
        Sample(path=Path(f"/v/{prefix}{c}-{i}.mp4"), name=f"{prefix}{c}-{i}.mp4", labels=(f"c{c}",))
        for c, count in enumerate(counts)
        for i in range(count)
    ]


def classes(samples: list[Sample]) -> list[int]:
    return sorted(Counter(label for s in samples for label in s.labels).values())


def keys(samples: list[Sample]) -> set[str]:
    return {s.key for s in samples}


Builder = Callable[[list[Sample], float], list[Sample]]
BUILDERS: dict[str, Builder] = {
    "random": lambda s, f: random_subset(s, Budget(fraction=f), seed=1),
    "tail": lambda s, f: tail_preserving_subset(s, Budget(fraction=f), seed=1),
    "classes": lambda s, f: class_subset(s, f, seed=1),
    "instances": lambda s, f: instance_subset(s, f, seed=1),
    "minutes": lambda s, f: random_subset(
        s, Budget(minutes=f * len(s) / 60 * 3), seed=1, seconds={x.key: 1.0 + i % 5 for i, x in enumerate(s)}
    ),
    "tail minutes": lambda s, f: tail_preserving_subset(
        s, Budget(minutes=f * len(s) / 60 * 3), seed=1, seconds={x.key: 1.0 + i % 5 for i, x in enumerate(s)}
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
@given(counts=COUNTS, fractions=st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)))
def test_subsets_are_nested(name: str, counts: list[int], fractions: tuple[float, float]) -> None:
    samples = dataset(*counts)
    small, large = (BUILDERS[name](samples, f) for f in sorted(fractions))
    assert keys(small) <= keys(large) <= keys(samples)
    assert [s for s in samples if s in small] == small  # in the given order


def test_random_takes_as_many_as_are_asked_for() -> None:
    samples = dataset(50, 50)
    assert len(random_subset(samples, Budget(videos=30), seed=0)) == 30
    assert len(random_subset(samples, Budget(fraction=0.25), seed=0)) == 25
    assert random_subset(samples, Budget(videos=30), seed=0) != random_subset(samples, Budget(videos=30), seed=1)
    with pytest.raises(DatasetError, match="a budget of 101 videos, where there are 100"):
        random_subset(samples, Budget(videos=101), seed=0)


def test_tail_classes_stay_whole() -> None:
    kept = tail_preserving_subset(dataset(10, 50, 1000, 5000), Budget(videos=400), seed=0)
    assert classes(kept) == [10, 50, 170, 170]


def test_a_video_of_several_labels_counts_for_the_rarest() -> None:
    both = [Sample(path=Path(f"/b{i}"), name=f"b{i}", labels=("head", "tail")) for i in range(3)] + [
        Sample(path=Path(f"/h{i}"), name=f"h{i}", labels=("head",)) for i in range(100)
    ]
    kept = tail_preserving_subset(both, Budget(videos=13), seed=0)
    assert Counter(label for s in kept for label in s.labels) == {"head": 13, "tail": 3}


def test_minutes_are_kept_to() -> None:
    samples = dataset(5, 40)
    seconds = {s.key: 30.0 for s in samples}
    kept = random_subset(samples, Budget(minutes=10), seed=0, seconds=seconds)
    assert len(kept) == 20
    tail = tail_preserving_subset(samples, Budget(minutes=10), seed=0, seconds=seconds)
    assert classes(tail) == [5, 15]
    assert tail_preserving_subset(samples, Budget(minutes=1000), seed=0, seconds=seconds) == samples


def test_categories_and_instances_of_the_mega_scale_paper() -> None:
    samples = dataset(*[3] * 700)
    assert len(classes(class_subset(samples, 0.1, seed=0))) == 70
    assert set(classes(class_subset(samples, 0.1, seed=0))) == {3}
    assert classes(instance_subset(dataset(10, 7, 1), 0.3, seed=0)) == [1, 3, 3]  # rounded up, none lost


def test_labels_of_classes_that_are_not_chosen_are_taken_off() -> None:
    samples = [Sample(path=Path("/a"), name="a", labels=("x", "y")), Sample(path=Path("/b"), name="b", labels=("y",))]
    kept = class_subset(samples, 0.5, seed=0)
    assert len({label for s in kept for label in s.labels}) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "got none"),
        ({"videos": 1, "minutes": 2.0}, "got videos and minutes"),
        ({"fraction": 1.5}, "up to 1, got 1.5"),
        ({"fraction": float("nan")}, "above 0"),
        ({"minutes": -1.0}, "above 0, got -1.0"),
        ({"videos": 0}, "above 0, got 0"),
    ],
)
def test_budgets_that_cannot_be(options: dict[str, float], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Budget(**options)  # type: ignore[arg-type]


# -- short, long and long-center --


def timed() -> tuple[list[Sample], dict[str, float]]:
    short, long, other = dataset(8, 3, 2, prefix="s"), dataset(4, 9, 0, 5, prefix="l"), dataset(6, prefix="o")
    seconds = {s.key: 1.0 + i % 5 for i, s in enumerate(short)}
    seconds |= {s.key: 55.0 + i % 6 for i, s in enumerate(long)} | {s.key: 20.0 for s in other}
    return [*other, *long, *short], seconds


@pytest.mark.parametrize(("budget", "videos"), [(None, 7), (Budget(videos=5), 5), (Budget(fraction=0.5), 4)])
def test_sets_have_equally_many_videos_of_each_class(budget: Budget | None, videos: int) -> None:
    samples, seconds = timed()
    kinds: tuple[Kind, ...] = ("short", "long", "long-center")
    sets = {k: duration_subset(samples, k, seed=0, seconds=seconds, budget=budget) for k in kinds}
    counts = [Counter(label for s in kept for label in s.labels) for kept in sets.values()]
    assert counts[0] == counts[1] == counts[2]
    assert set(counts[0]) == {"c0", "c1"}
    assert sum(counts[0].values()) == videos
    assert all(1 <= seconds[s.key] <= 5 for s in sets["short"])
    assert [s.name for s in sets["long"]] == [s.name for s in sets["long-center"]]
    for center in sets["long-center"]:
        start, end = center.start_seconds, center.end_seconds
        assert start is not None
        assert end is not None
        assert end - start == pytest.approx(4)
        assert (start + end) / 2 == pytest.approx(seconds[center.name] / 2)


def test_a_long_set_of_as_many_minutes() -> None:
    samples, seconds = timed()
    kept = duration_subset(samples, "long", seed=0, seconds=seconds, budget=Budget(minutes=3))
    assert classes(kept) == [1, 1]  # 90 s of each class, at 55 s and more a video


def test_the_center_of_a_part_lies_within_it() -> None:
    samples = [
        Sample(path=Path("/a"), name="a", labels=("x",), start_seconds=100.0, end_seconds=156.0),
        Sample(path=Path("/b"), name="b", labels=("x",)),
    ]
    kept = duration_subset(samples, "long-center", seed=0, seconds={samples[0].key: 56.0, "b": 3.0})
    assert [(s.start_seconds, s.end_seconds) for s in kept] == [(126.0, 130.0)]


def test_bands_without_videos_are_named() -> None:
    samples, seconds = timed()
    with pytest.raises(DatasetError, match=r"no video of 70 to 80 s for the long set: they last 1\.0 to 60\.0 s"):
        duration_subset(samples, "long", seed=0, seconds=seconds, bands=Bands(long=(70, 80)))
    with pytest.raises(DatasetError, match="no class has both"):
        duration_subset(dataset(1, 1), "short", seed=0, seconds={"0-0.mp4": 2.0, "1-0.mp4": 57.0})
