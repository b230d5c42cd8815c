"""Sampling by class. The worked numbers are those of the papers' schemes, computed by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenclip_training.data.class_sampler import ClassIndex, ClassSampler, class_probabilities
from tenclip_training.data.samplers import Draw, EpochDraws

# Other processes may hold the machine for longer than hypothesis would wait.
unhurried = settings(deadline=None)

# v1{a}, v2{a,b}, v3{b,c}
TAGGED = [(0,), (0, 1), (1, 2)]


def of_sizes(*sizes: int) -> list[tuple[int]]:
    """Labels of videos, so many of each class."""
    return [(c,) for c, size in enumerate(sizes) for _ in range(size)]


def sampler(
    labels: Sequence[tuple[int, ...]],
    *,
    power: float = 1.0,
    cap: float | None = None,
    num_classes: int | None = None,
    draws: int = 100,
    batch_size: int = 7,
    epochs: int = 3,
    seed: int = 0,
) -> ClassSampler:
    index = ClassIndex.of(labels, num_classes or 1 + max(max(tags) for tags in labels), seed=seed)
    return ClassSampler(
        index=index,
        probabilities=class_probabilities(index.counts, power=power, cap=cap),
        draws=draws,
        batch_size=batch_size,
        epochs=epochs,
        seed=seed,
    )


def draws_of(batches: ClassSampler) -> list[Draw]:
    return [draw for batch in batches for draw in batch]


def labels_of(draws: EpochDraws) -> NDArray[np.int64]:
    assert draws.labels is not None
    return draws.labels


# -- probabilities --


@pytest.mark.parametrize(
    ("counts", "power", "cap", "expected"),
    [
        ([900, 100, 4], 0.5, None, [0.7143, 0.2381, 0.0476]),
        ([900, 100, 4], 0.2, None, [0.5043, 0.3250, 0.1707]),
        ([100_000, 10], 0.5, None, [0.9901, 0.0099]),
        ([100_000, 10], 0.2, None, [0.8632, 0.1368]),
        ([5000, 500, 50, 5], 0.5, None, [0.6907, 0.2184, 0.0691, 0.0218]),
        ([5000, 500, 50, 5], 0.2, None, [0.4385, 0.2767, 0.1746, 0.1102]),
        ([8000, 5000, 1200, 40], 1, 5000, [0.4448, 0.4448, 0.1068, 0.0036]),
        ([8000, 5000, 1200, 40], 1, None, [0.5618, 0.3511, 0.0843, 0.0028]),
        ([900, 100, 4], 0, None, [0.3333, 0.3333, 0.3333]),
        ([900, 100, 4], 1, None, [0.8964, 0.0996, 0.0040]),
    ],
)
def test_probabilities_of_the_papers(
    counts: list[float], power: float, cap: float | None, expected: list[float]
) -> None:
    found = class_probabilities(np.array(counts, float), power=power, cap=cap)
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (1, [0.5, 1 / 3, 1 / 6]),
        (0.5, [0.4177, 0.3411, 0.2412]),
        (0.2, [0.3670, 0.3384, 0.2946]),
    ],
)
def test_a_video_of_k_tags_counts_one_kth_in_each_class(power: float, expected: list[float]) -> None:
    counts = ClassIndex.of(TAGGED, 3, seed=0).counts
    assert counts.tolist() == [1.5, 1, 0.5]
    np.testing.assert_allclose(class_probabilities(counts, power=power), expected, atol=5e-5)


@pytest.mark.parametrize("power", [0, 0.2, 1])
def test_a_class_without_videos_is_never_drawn(power: float) -> None:
    """Also where classes are balanced: 0 to the power of 0 is 1."""
    assert class_probabilities(np.array([3.0, 0, 1]), power=power)[1] == 0
    assert {d.label for d in draws_of(sampler([(0,), (2,)], num_classes=4, power=power))} == {0, 2}


def test_no_videos_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="no class has a video to draw"):
        class_probabilities(np.zeros(3))


@unhurried
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any), st.floats(0, 1))
def test_a_smaller_power_moves_towards_balance(counts: list[int], power: float) -> None:
    found = class_probabilities(np.array(counts, float), power=power)
    assert found.sum() == pytest.approx(1)
    order = np.argsort(counts, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all(), "a class of more videos is drawn no less"
    per_video = np.divide(found, counts, out=np.zeros_like(found), where=np.array(counts) > 0)
    positive = order[np.array(counts)[order] > 0]
    assert (np.diff(per_video[positive]) <= 1e-12).all(), "a video of a smaller class is drawn no less"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([(0,), ()], "video 1 has no label"),
        ([(0,), (3,)], "labels are 0 to 3, where there are 3 classes"),
        ([(-1,), (1,)], "labels are -1 to 1, where there are 3 classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassIndex.of(labels, 3, seed=0)


# -- draws --


@pytest.mark.parametrize("power", [0.0, 0.2, 0.5, 1.0])
def test_classes_are_drawn_by_their_probabilities(power: float) -> None:
    """Chi-square of 10^5 draws, from one epoch and from a hundred."""
    for draws, epochs in ((100_000, 1), (1000, 100)):
        batches = sampler(of_sizes(900, 100, 4), power=power, draws=draws)
        drawn = np.concatenate([labels_of(e) for e in itertools.islice(batches.epochs_from(0), epochs)])
        found, expected = np.bincount(drawn), 100_000 * batches.probabilities
        assert scipy.stats.chisquare(found, expected).pvalue > 0.001


def test_plain_sampling_of_tagged_videos_is_a_uniform_video_with_a_uniform_tag() -> None:
    draws = next(sampler(TAGGED, draws=100_000).epochs_from(0))
    pairs = Counter(zip(draws.indices.tolist(), labels_of(draws).tolist(), strict=True))
    assert set(pairs) == {(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)}
    expected = {(0, 0): 1 / 3, (1, 0): 1 / 6, (1, 1): 1 / 6, (2, 1): 1 / 6, (2, 2): 1 / 6}
    keys = sorted(expected)
    found, wanted = [pairs[k] for k in keys], [100_000 * expected[k] for k in keys]
    assert scipy.stats.chisquare(found, wanted).pvalue > 0.001


@unhurried
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    power=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    seed=st.integers(0, 5),
)
def test_no_video_is_drawn_three_times_before_another_of_its_class_once(
    sizes: list[int], power: float, seed: int
) -> None:
    batches = sampler(of_sizes(*sizes), power=power, draws=40, seed=seed, num_classes=len(sizes))
    by_class = defaultdict(list)
    for draw in draws_of(batches):
        assert of_sizes(*sizes)[draw.sample] == (draw.label,)
        by_class[draw.label].append(draw.sample)
    for c, videos in by_class.items():
        assert c is not None
        # The class as a whole goes in rounds, also across the epochs.
        rounds = [videos[i : i + sizes[c]] for i in range(0, len(videos), sizes[c])]
        assert all(len(set(r)) == len(r) for r in rounds)
        for start, end in itertools.combinations(range(0, len(videos) + 1, 3), 2):
            times = Counter(videos[start:end])
            assert max(times.values()) - min(times[v] for v in set(videos[: sizes[c]])) <= 2


@st.composite
def tagged_videos(draw: st.DrawFn) -> list[tuple[int, ...]]:
    tags = st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(tuple)
    return draw(st.lists(tags, min_size=1, max_size=25))


@unhurried
@given(labels=tagged_videos(), seed=st.integers(0, 3))
def test_within_a_class_videos_come_in_inverse_proportion_to_their_tags(
    labels: list[tuple[int, ...]], seed: int
) -> None:
    index = ClassIndex.of(labels, 6, seed=seed)
    for c in range(6):
        members = [i for i, tags in enumerate(labels) if c in tags]
        if not members:
            continue
        rounds = 36  # 12 is a multiple of 1, 2, 3 and 4
        _, videos = index.walk(c, 0, round(rounds * index.counts[c]), seed=seed)
        times = Counter(videos.tolist())
        assert times == {i: rounds // len(labels[i]) for i in members}


@unhurried
@given(labels=tagged_videos(), start=st.integers(0, 3000), size=st.integers(1, 40), seed=st.integers(0, 3))
def test_a_walk_can_be_entered_anywhere(labels: list[tuple[int, ...]], start: int, size: int, seed: int) -> None:
    index = ClassIndex.of(labels, 6, seed=seed)
    c = labels[0][0]
    whole = index.walk(c, 0, start + size, seed=seed)
    part = index.walk(c, start, size, seed=seed)
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(one[start:], other)


def test_rounds_of_a_class_have_different_orders() -> None:
    _, videos = ClassIndex.of(of_sizes(50), 1, seed=0).walk(0, 0, 500, seed=0)
    rounds = {tuple(videos[i : i + 50].tolist()) for i in range(0, 500, 50)}
    assert len(rounds) == 10
    assert {tuple(sorted(r)) for r in rounds} == {tuple(range(50))}


def test_a_video_of_k_tags_is_in_the_first_round_of_one_of_k_seeds() -> None:
    """Videos with many tags come neither first nor last, few of them or many."""
    labels = [(0,), *[(0, 1, 2)] * 2, *[(0, 1, 2, 3)] * 9]
    in_first = np.zeros(12)
    for seed in range(2000):
        index = ClassIndex.of(labels, 4, seed=seed)
        in_first += index.phases[: index.offsets[1]] == 0
    shares = np.array([1, *[1 / 3] * 2, *[1 / 4] * 9])
    sigmas = np.sqrt(shares * (1 - shares) / 2000)
    assert (np.abs(in_first / 2000 - shares) <= 3.5 * sigmas).all()


@unhurried
@given(labels=tagged_videos(), power=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 3))
def test_no_two_clips_of_a_video_are_alike(labels: list[tuple[int, ...]], power: float, seed: int) -> None:
    draws = draws_of(sampler(labels, power=power, draws=60, seed=seed, num_classes=6))
    assert len({(d.visit, d.sample) for d in draws}) == len(draws)


# -- places in the run --


@unhurried
@given(
    labels=tagged_videos(),
    power=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    draws=st.integers(1, 50),
    batch_size=st.integers(1, 9),
    step=st.integers(0, 30),
)
def test_a_resumed_run_draws_the_tail_of_an_unbroken_one(
    labels: list[tuple[int, ...]], power: float, draws: int, batch_size: int, step: int
) -> None:
    whole = sampler(labels, power=power, draws=draws, batch_size=batch_size, num_classes=6)
    epoch, within = divmod(min(step, len(whole)), whole.steps_per_epoch)
    rest = dataclasses.replace(whole, first_epoch=epoch, first_step=within)
    assert list(rest) == list(whole)[epoch * whole.steps_per_epoch + within :]
    assert len(rest) == len(list(rest))


@unhurried
@given(
    labels=tagged_videos(),
    draws_per_rank=st.integers(1, 30),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 9),
)
def test_ranks_cover_the_sequence_of_one(
    labels: list[tuple[int, ...]], draws_per_rank: int, world_size: int, batch_size: int
) -> None:
    alone = sampler(labels, power=0.5, draws=draws_per_rank * world_size, batch_size=batch_size, num_classes=6)
    ranks = [list(dataclasses.replace(alone, rank=r, world_size=world_size)) for r in range(world_size)]
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1, "all take equally many steps and clips"
    each = [[d for batch in batches for d in batch] for batches in ranks]
    assert [d for together in zip(*each, strict=True) for d in together] == draws_of(alone)


def test_what_does_not_come_out_even_is_filled_from_the_epochs_start() -> None:
    alone = sampler(of_sizes(5, 3), draws=10, epochs=1, batch_size=4)
    ranks = [draws_of(dataclasses.replace(alone, rank=r, world_size=3)) for r in range(3)]
    in_order = [ranks[i % 3][i // 3] for i in range(12)]
    assert in_order == [*draws_of(alone), *draws_of(alone)[:2]]


def test_epochs_and_seeds_differ_and_repeat() -> None:
    labels = of_sizes(30, 20, 5)
    one, same, other = (draws_of(sampler(labels, power=0.5, seed=seed)) for seed in (0, 0, 1))
    assert one == same
    assert [d.sample for d in one] != [d.sample for d in other]
    assert [d.label for d in one[:100]] != [d.label for d in one[100:200]]


def test_a_run_is_entered_far_in_without_going_through_it() -> None:
    """Epoch 1000 of 10,000 draws over 1000 classes: as far as 10 million draws, in the time of about two epochs."""
    labels = of_sizes(*[1 + 5 * (c % 7) for c in range(1000)])
    late = sampler(labels, power=0.5, draws=10_000, epochs=1001, batch_size=100)
    began = time.process_time()
    (tail,) = dataclasses.replace(late, first_epoch=1000, first_step=late.steps_per_epoch - 1)
    seconds = time.process_time() - began
    assert len(tail) == 100
    assert len({(d.visit, d.sample) for d in tail}) == 100
    # 16 videos a class, seen 10 million times: about 625 rounds are over.
    assert min(d.visit for d in tail) > 100
    assert seconds < 5


@pytest.mark.parametrize(
    ("batches", "first", "digest"),
    [
        (
            sampler(of_sizes(900, 100, 4), power=0.5, draws=1004, batch_size=8, epochs=2),
            (0, 354, 0),
            "ff952d4cab0f9aac",
        ),
        (sampler(TAGGED, power=0.5, draws=20, batch_size=8, epochs=2, seed=5), (1, 1, 1), "003f87abe9a18873"),
    ],
)
def test_a_seed_keeps_its_sequence(batches: ClassSampler, first: tuple[int, int, int], digest: str) -> None:
    """A run can be gone on with, and repeated, by later versions."""
    drawn = [[tuple(d) for d in batch] for batch in dataclasses.replace(batches, epochs=2)]
    assert drawn[0][0] == first
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == digest
