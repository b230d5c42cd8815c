from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.class_sampler import ClassIndex, ClassSampler, class_probabilities
from tenclip_training.data.dataset import ClipDataset, Collate, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.joint import (
    JointBatch,
    JointCollate,
    JointDataset,
    JointSampler,
    SourceDraw,
    source_seed,
)
from tenclip_training.data.ratios import joint_batch_sizes
from tenclip_training.data.samplers import Draw, DrawSampler
from tenclip_training.runs.objectives import Classification, Inputs
from tests.tenclip_training.conftest import SPEC

RATIO = (2, 1, 1, 1)


def videos(count: int, source: int, seed: int = 0) -> DrawSampler:
    return DrawSampler(num_samples=count, batch_size=1, epochs=1, seed=source_seed(seed, source))


def joint(*counts: int, target: int = 4, epochs: int = 3, **more: object) -> JointSampler:
    sources = tuple(videos(count, i) for i, count in enumerate(counts))
    sizes = joint_batch_sizes(target, RATIO[: len(counts)])
    return dataclasses.replace(
        JointSampler(sources=sources, batch_sizes=sizes, epochs=epochs),
        **more,  # type: ignore[arg-type]
    )


def draws_of(sampler: JointSampler, source: int) -> list[Draw]:
    return [d.draw for batch in sampler for d in batch if d.source == source]


# -- the ratio --


def test_every_batch_has_the_ratio_over_a_thousand_steps() -> None:
    """2:1:1:1, where the sources end after 1003, 17, 400 and 3 videos."""
    sampler = joint(1003, 17, 400, 3, target=8, epochs=10)
    batches = list(itertools.islice(sampler, 1000))
    assert len(batches) == 1000
    for batch in batches:
        assert [d.source for d in batch] == [0] * 8 + [1] * 4 + [2] * 4 + [3] * 4


def test_an_epoch_is_as_long_as_the_target() -> None:
    sampler = joint(10, 500, target=4, epochs=2)
    assert (sampler.steps_per_epoch, len(sampler), len(list(sampler))) == (3, 6, 6)
    assert {d.sample for d in draws_of(sampler, 0)[:10]} == set(range(10))


@pytest.mark.parametrize(
    ("target", "ratio", "expected"),
    [(16, (2, 1, 1, 1), (16, 8, 8, 8)), (8, (1, 1), (8, 8)), (6, (3, 2), (6, 4)), (4, (2, 3), (4, 6))],
)
def test_sizes_by_the_ratio(target: int, ratio: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert joint_batch_sizes(target, ratio) == expected


@pytest.mark.parametrize(
    ("target", "ratio", "message"),
    [
        (15, (2, 1), "15 clips of the target at 2:1 leave parts of clips"),
        (4, (2, 0), "got 2:0"),
        (4, (), "got none"),
    ],
)
def test_ratios_that_give_no_batches(target: int, ratio: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joint_batch_sizes(target, ratio)


def test_samplers_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"batch_sizes has a number above 0 for each of the 2 sources, got 4:2:2"):
        JointSampler(sources=(videos(3, 0), videos(3, 1)), batch_sizes=(4, 2, 2), epochs=1)
    with pytest.raises(ValueError, match=r"turns has a number above 0 for each of the 2 sources, got 2:0"):
        JointSampler(sources=(videos(3, 0), videos(3, 1)), batch_sizes=(4, 2), turns=(2, 0), epochs=1)
    shared = dataclasses.replace(videos(3, 0), world_size=2)
    with pytest.raises(ValueError, match="shared out by it"):
        JointSampler(sources=(shared,), batch_sizes=(1,), epochs=1)


# -- sources --


def test_sources_begin_anew_with_an_order_of_their_own_when_they_end() -> None:
    sampler = joint(40, 7, 7, target=4, epochs=4)
    for source, count in ((1, 7), (2, 7)):
        drawn = draws_of(sampler, source)
        passes = [drawn[i : i + count] for i in range(0, len(drawn) - count, count)]
        assert len(passes) > 5
        assert all({d.sample for d in p} == set(range(count)) for p in passes)
        assert len({tuple(d.sample for d in p) for p in passes}) > 1, "each pass in another order"
        assert [p[0].visit for p in passes] == list(range(len(passes)))
    assert [d.sample for d in draws_of(sampler, 1)] != [d.sample for d in draws_of(sampler, 2)]


def test_the_target_is_drawn_as_if_it_were_alone() -> None:
    alone = [d for batch in DrawSampler(num_samples=12, batch_size=4, epochs=3, seed=0) for d in batch]
    assert draws_of(joint(12, 5, 9), 0) == alone


def test_seeds_of_sources_differ() -> None:
    assert source_seed(7, 0) == 7
    seeds = {source_seed(seed, source) for seed in range(4) for source in range(5)}
    assert len(seeds) == 20


def test_a_source_may_draw_classes_first() -> None:
    labels = [(0,)] * 30 + [(1,)] * 2
    index = ClassIndex.of(labels, 2, seed=1)
    by_class = ClassSampler(
        index=index,
        probabilities=class_probabilities(index.counts, power=0.0),
        draws=32,
        batch_size=1,
        epochs=1,
        seed=1,
    )
    sampler = JointSampler(sources=(videos(100, 0), by_class), batch_sizes=(8, 4), epochs=20)
    drawn = draws_of(sampler, 1)
    assert Counter(d.label for d in drawn)[1] / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert len(set(drawn)) == len(drawn)


# -- turns --


def test_batches_of_one_source_in_turn() -> None:
    """The released code: two batches of the target, then one of each source, of sizes of their own."""
    sampler = dataclasses.replace(joint(40, 9, 9, 9), batch_sizes=(3, 8, 2, 5), turns=RATIO)
    batches = list(sampler)
    assert sampler.steps_per_epoch == 5 * math.ceil(40 / 6)
    sources = [{d.source for d in batch} for batch in batches]
    assert sources == [{0}, {0}, {1}, {2}, {3}] * (len(batches) // 5)
    assert [len(batch) for batch in batches[:5]] == [3, 3, 8, 2, 5]
    assert {d.sample for d in draws_of(sampler, 0)[:40]} == set(range(40))


# -- places in the run --


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 25), min_size=1, max_size=4),
    turns=st.booleans(),
    world_size=st.integers(1, 3),
    step=st.integers(0, 40),
)
def test_a_resumed_run_goes_on_in_every_source(counts: list[int], turns: bool, world_size: int, step: int) -> None:
    whole = joint(*counts, turns=RATIO[: len(counts)] if turns else None, rank=world_size - 1, world_size=world_size)
    epoch, within = divmod(min(step, len(whole)), whole.steps_per_epoch)
    rest = dataclasses.replace(whole, first_epoch=epoch, first_step=within)
    batches = list(whole)
    assert list(rest) == batches[epoch * whole.steps_per_epoch + within :]
    assert len(rest) == len(list(rest))
    for source in range(len(counts)):
        before = batches[: epoch * whole.steps_per_epoch + within]
        taken = sum(d.source == source for batch in before for d in batch)
        cursor = whole.batches_before(epoch * whole.steps_per_epoch + within, source)
        assert taken == cursor * whole.batch_sizes[source]


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 25), min_size=1, max_size=4), turns=st.booleans(), half=st.integers(1, 3))
def test_two_processes_share_what_one_would_draw(counts: list[int], turns: bool, half: int) -> None:
    ratio = RATIO[: len(counts)] if turns else None
    sizes = [half * size for size in joint_batch_sizes(2, RATIO[: len(counts)])]
    alone = joint(*counts, batch_sizes=tuple(2 * size for size in sizes), turns=ratio)
    ranks = [list(joint(*counts, batch_sizes=tuple(sizes), turns=ratio, rank=rank, world_size=2)) for rank in range(2)]
    for one, *parts in zip(alone, *ranks, strict=True):
        assert Counter(one) == Counter(d for part in parts for d in part)


def test_a_run_is_entered_far_in() -> None:
    sampler = joint(1000, 10, 300, 3, target=8, epochs=2_000_000)
    late = dataclasses.replace(sampler, first_epoch=1_999_999, first_step=3)
    batch = next(iter(late))
    assert len(batch) == 20
    assert batch[0].draw.visit == 1_999_999
    assert batch[8].draw.visit == (1_999_999 * 125 + 3) * 4 // 10


# -- clips --


def test_batches_name_the_source_of_every_clip(action_videos: Path) -> None:
    manifest = read_manifest(action_videos).split("train")
    still = Augmentation(flip=False)
    target = ClipDataset(manifest, SPEC, still, seed=0)
    few = dataclasses.replace(manifest, samples=manifest.samples[:3])
    web = ClipDataset(few, SPEC, still, seed=source_seed(0, 1))
    dataset = JointDataset([target, web])
    sampler = joint(12, 3, epochs=1)
    collate = JointCollate(Collate(SPEC, 2))
    loader: DataLoader[Any] = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=2)
    batches: list[JointBatch] = list(loader)
    assert [b.sources.tolist() for b in batches] == [[0, 0, 0, 0, 1, 1]] * 3
    for batch, draws in zip(batches, sampler, strict=True):
        for clip, draw in zip(batch.clips, draws, strict=True):
            expected = (target, web)[draw.source][draw.draw]
            assert isinstance(expected, tuple)
            np.testing.assert_array_equal(clip.numpy(), expected[0])


def test_failures_are_left_out_and_micro_batches_keep_the_ratio() -> None:
    def item(value: int) -> TrainingClip:
        return TrainingClip(np.full((4, 16, 16, 3), value, np.uint8), np.array([1, 0], np.float32), f"{value}.mp4")

    failure = Failure(video="v", reason="EMPTY_VIDEO", message="m")
    items: list[tuple[int, TrainingClip | Failure]] = [(0, item(i)) for i in range(8)]
    items += [(1, failure), *((1, item(8 + i)) for i in range(4))]
    batch = JointCollate(Collate(SPEC, 2))(items)
    assert batch.sources.tolist() == [0] * 8 + [1] * 4
    parts = batch.split(4)
    assert [p.sources.tolist() for p in parts if isinstance(p, JointBatch)] == [[0, 0, 1]] * 4
    assert batch.failures == (failure,)
    assert batch.videos == tuple(f"{i}.mp4" for i in range(12))
    assert sorted(int(clip[0, 0, 0, 0]) for p in parts for clip in p.clips) == list(range(12))


def test_the_loss_is_the_mean_over_the_union() -> None:
    """16 clips of the target with loss 1 and 8 others with loss 2: 32 / 24, eq. 1 with the rate in proportion."""
    right = torch.tensor([1.0] * 16 + [2.0] * 8)
    scores = torch.zeros(24, 2)
    scores[:, 0] = -torch.log(torch.expm1(right))  # cross entropy of class 0 is ln(1 + e^-s)
    targets = torch.tensor([[1.0, 0.0]]).repeat(24, 1)
    inputs = Inputs(clips=torch.zeros(24, 3, 1, 1, 1), targets=targets)
    loss, _ = Classification()(inputs, lambda clips: (scores[..., None], clips))
    assert loss.item() == pytest.approx(4 / 3, rel=1e-6)


def test_draws_name_their_source() -> None:
    assert next(iter(joint(4, 2)))[4] == SourceDraw(1, draws_of(joint(4, 2), 1)[0])
