from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.data.samplers import Draw, DrawSampler


@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    clips_per_video=st.integers(1, 3),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_every_sample(
    num_samples: int, batch_size: int, clips_per_video: int, world_size: int, seed: int
) -> None:
    samplers = [
        DrawSampler(
            num_samples=num_samples,
            batch_size=batch_size,
            epochs=2,
            seed=seed,
            clips_per_video=clips_per_video,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    per_rank = [list(s) for s in samplers]
    # All processes take equally many steps of equally many clips, or they would wait for each other for ever.
    assert len({tuple(len(b) for b in batches) for batches in per_rank}) == 1
    assert all(len(batches) == len(s) == 2 * s.steps_per_epoch for batches, s in zip(per_rank, samplers, strict=True))
    sizes = [len(b) for b in per_rank[0]]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    steps = samplers[0].steps_per_epoch
    for epoch in range(2):
        draws = [d for batches in per_rank for b in batches[epoch * steps : (epoch + 1) * steps] for d in b]
        times = Counter(index for _, index, _ in draws)
        assert set(times) == set(range(num_samples))
        assert len(draws) - num_samples * clips_per_video < world_size
        # No two clips of a video are drawn alike, in this epoch or another.
        assert {visit for visit, _, _ in draws} <= set(range(epoch * clips_per_video, (epoch + 1) * clips_per_video))


@given(epoch=st.integers(0, 2), step=st.integers(0, 3))
def test_the_order_goes_on_where_it_was(epoch: int, step: int) -> None:
    whole = DrawSampler(num_samples=10, batch_size=3, epochs=3, seed=5)
    rest = dataclasses.replace(whole, first_epoch=epoch, first_step=step)
    assert list(rest) == list(whole)[epoch * 4 + step :]
    assert len(rest) == len(list(rest))


@given(
    num_samples=st.integers(1, 40),
    batch_size=st.integers(1, 5),
    processes=st.sampled_from([1, 2, 3, 6]),
)
def test_micro_batches_are_the_same_in_whichever_process(num_samples: int, batch_size: int, processes: int) -> None:
    """So a run of six processes can go on in one, and one can do what six do."""

    def micro_batches(processes: int) -> list[list[list[Draw]]]:
        samplers = [
            DrawSampler(
                num_samples=num_samples,
                batch_size=batch_size,
                epochs=2,
                seed=1,
                micro_batches=6 // processes,
                rank=rank,
                world_size=processes,
            )
            for rank in range(processes)
        ]
        steps = list(zip(*samplers, strict=True))
        assert len(steps) == len(samplers[0]) == 2 * samplers[0].steps_per_epoch
        size = [len(step[0]) // (6 // processes) for step in steps]
        return [
            [batch[i : i + n] for batch in step for i in range(0, len(batch), n)]
            for n, step in zip(size, steps, strict=True)
        ]

    shared = micro_batches(processes)
    assert shared == micro_batches(6)
    assert all(len(step) == 6 and len({len(m) for m in step}) == 1 for step in shared)
    assert {draw.sample for step in shared for m in step for draw in m} == set(range(num_samples))


def test_epochs_have_different_orders() -> None:
    batches = list(DrawSampler(num_samples=20, batch_size=20, epochs=2, seed=0))
    assert [d.sample for d in batches[0]] != [d.sample for d in batches[1]]


@pytest.mark.parametrize(
    ("values", "first", "digest"),
    [
        ({"num_samples": 23, "batch_size": 4, "epochs": 3, "seed": 7}, (0, 15), "081e63e7ff56e5ad"),
        (
            {
                "num_samples": 10,
                "batch_size": 3,
                "epochs": 2,
                "seed": 0,
                "clips_per_video": 3,
                "rank": 1,
                "world_size": 2,
            },
            (1, 1),
            "d0418024a30fa4aa",
        ),
        (
            {
                "num_samples": 41,
                "batch_size": 8,
                "epochs": 2,
                "seed": 5,
                "clips_per_video": 2,
                "rank": 2,
                "world_size": 3,
                "first_epoch": 1,
                "first_step": 1,
            },
            (3, 38),
            "487e625566cbcfcf",
        ),
    ],
)
def test_the_order_of_earlier_versions(values: dict[str, Any], first: tuple[int, int], digest: str) -> None:
    """As recorded before classes could be drawn, so that runs from then can be gone on with and repeated."""
    batches = [[(d.visit, d.sample) for d in batch] for batch in DrawSampler(**values)]
    assert batches[0][0] == first
    assert hashlib.sha256(repr(batches).encode()).hexdigest()[:16] == digest
    assert all(d.label is None for batch in DrawSampler(**values) for d in batch)
