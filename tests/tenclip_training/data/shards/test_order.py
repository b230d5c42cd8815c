from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.data.samplers import Draw, DrawSampler, EpochDraws, EpochSampler
from tenclip_training.data.shards.index import Shard
from tenclip_training.data.shards.order import ShardFetcher, ShardSampler, by_shards, shard_order
from tenclip_training.data.shards.read import CacheOptions, read_videos
from tenclip_training.data.shards.write import write_shards
from tests.tenclip_training.data.shards.server import Files


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=80),
    st.randoms(use_true_random=False),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_properties_of_the_order(
    shards: list[int], random: object, window: int, world_size: int, micro_batches: int
) -> None:
    of_draw = np.array(shards)
    places = np.random.default_rng(random.randrange(2**32)).permutation(10)  # type: ignore[attr-defined]
    arranged = shard_order(of_draw, places, window=window, world_size=world_size, micro_batches=micro_batches)
    owners = np.arange(len(arranged)) // micro_batches % world_size
    assert sorted(arranged) == list(range(len(shards))), "every draw once"
    seen_by: dict[int, set[int]] = {}
    for rank in range(world_size):
        mine = of_draw[arranged[owners == rank]]
        visits = [s for s, after in pairwise([*mine.tolist(), -1]) if s != after]
        order = sorted(set(mine.tolist()), key=lambda s: places[s])
        windows = [set(order[i : i + window]) for i in range(0, len(order), window)]
        at = 0
        for shard in visits:
            while shard not in windows[at]:
                at += 1  # a window that was left never comes back
        seen_by[rank] = set(order)
        for shards_of_window in windows:
            draws = [d for d in arranged[owners == rank] if of_draw[d] in shards_of_window]
            assert draws == sorted(draws), "within a window as the sampler drew them"
    # Neighbours may share one shard, and no others share any.
    for one in range(world_size):
        for other in range(one + 1, world_size):
            both = seen_by[one] & seen_by[other]
            between = [seen_by[r] for r in range(one + 1, other)]
            assert len(both) <= 1
            assert all(r <= both for r in between if both)


def sampler(**changes: object) -> ShardSampler:
    """12 samples of 4 shards."""
    values: dict[str, object] = {"num_samples": 12, "batch_size": 2, "epochs": 3, "seed": 5}
    inner = DrawSampler(**{**values, **changes})  # type: ignore[arg-type]
    return ShardSampler.around(inner, np.repeat(np.arange(4), 3), window=2)


def test_an_epoch_has_every_video_and_an_order_of_its_own() -> None:
    batches = list(sampler())
    assert len(batches) == len(sampler()) == 18
    epochs = [[d.sample for batch in batches[i : i + 6] for d in batch] for i in (0, 6, 12)]
    assert [sorted(e) for e in epochs] == [list(range(12))] * 3
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(d.visit == i // 6 for i, batch in enumerate(batches) for d in batch)
    assert all(len({i // 3 for i in e[:6]}) == 2 for e in epochs), "two shards, then the other two"
    assert len({tuple(sorted({i // 3 for i in e[:6]})) for e in epochs}) > 1
    assert [d.sample for b in sampler(seed=6) for d in b] != [d.sample for b in batches for d in b]


@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 5), (2, 3)])
def test_it_goes_on_at_any_place(epoch: int, step: int) -> None:
    for rank in (0, 1):
        whole = list(sampler(rank=rank, world_size=2))
        part = dataclasses.replace(sampler(rank=rank, world_size=2), first_epoch=epoch, first_step=min(step, 2))
        assert list(part) == whole[epoch * 3 + min(step, 2) :]
        assert len(part) == len(list(part))


def test_two_processes_share_no_video_and_few_shards() -> None:
    one, two = (list(sampler(rank=r, world_size=2)) for r in (0, 1))
    for epoch in range(3):
        draws = [{d.sample for b in batches[3 * epoch : 3 * epoch + 3] for d in b} for batches in (one, two)]
        assert draws[0] | draws[1] == set(range(12))
        assert not draws[0] & draws[1]
        assert not {i // 3 for i in draws[0]} & {i // 3 for i in draws[1]}


def test_another_sampler_keeps_its_visits_and_classes() -> None:
    class Twice(EpochSampler):
        draws_per_epoch = 4

        def epochs_from(self, first: int) -> Iterator[EpochDraws]:
            while True:
                yield EpochDraws(np.array([7, 8, 9, 10]), np.array([0, 5, 0, 5]), np.array([1, 2, 3, 4]))

    inner = Twice(batch_size=4, epochs=1, seed=0)
    (batch,) = ShardSampler.around(inner, np.repeat(np.arange(2), 3), window=1)
    assert sorted(batch) == [Draw(7, 0, 1), Draw(8, 5, 2), Draw(9, 0, 3), Draw(10, 5, 4)]
    assert batch[0].sample == batch[1].sample


# -- fetching ahead --


def test_shards_are_asked_for_before_they_are_needed() -> None:
    asked: list[list[int]] = []
    fetching = dataclasses.replace(sampler(), fetch=lambda numbers: asked.append(list(numbers)))
    batches = []
    for batch in fetching:
        batches.append(batch)
        assert {d.sample // 3 for d in batch} <= set(asked[-1])
    assert batches == list(sampler())
    assert len(asked) == len(batches)
    assert all(len(set(a)) == len(a) for a in asked)
    assert asked[0] == list(dict.fromkeys(d.sample // 3 for b in batches for d in b)), "what comes first first"
    # In the middle of the first window, those of the second one are asked for already.
    assert len(asked[1]) == 4
    assert asked[-1] == list(dict.fromkeys(d.sample // 3 for d in batches[-1]))


def test_a_fetcher_fetches_each_once_while_it_is_ahead() -> None:
    fetched: list[str] = []
    done = threading.Semaphore(0)

    class Storage:
        def file_of(self, shard: Shard) -> Path:
            fetched.append(shard.name)
            done.release()
            if shard.name == "1":
                raise DatasetError("a failure is for the reader to report")
            return Path(shard.name)

        def place_of(self, shard: Shard) -> str:
            return shard.name

    fetcher = ShardFetcher(Storage(), {i: Shard(name=str(i), num_bytes=1, sha256="") for i in range(4)})
    for numbers, new in (([0, 1], 2), ([0, 1], 0), ([1, 2], 1), ([2, 0], 1)):
        fetcher(numbers)
        assert all(done.acquire(timeout=30) for _ in range(new))
    assert sorted(fetched) == ["0", "0", "1", "2"]


# -- for a manifest --


def plain() -> DrawSampler:
    return DrawSampler(num_samples=12, batch_size=2, epochs=1, seed=0)


def test_only_shards_get_another_order(shards: Path, validated_videos: Path) -> None:
    files, tars = read_manifest(validated_videos).split("train"), read_videos(shards).split("train")
    assert by_shards(plain(), files, window=4) == plain()
    assert by_shards(plain(), tars, window=0) == plain()
    arranged = by_shards(plain(), tars, window=2)
    assert isinstance(arranged, ShardSampler)
    assert arranged.fetch is None, "nothing to fetch in a folder"
    assert arranged.shards.tolist() == np.repeat(np.arange(4), 3).tolist()


def test_a_cache_that_is_too_small(
    shards: Path, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shards, server.folder, dirs_exist_ok=True)
    sizes = sorted((p.stat().st_size for p in shards.glob("train-*.tar")), reverse=True)

    def arranged(window: int, num_bytes: int) -> Sequence[list[Draw]]:
        cache = CacheOptions(folder=str(tmp_path / "cache"), gib=num_bytes / 2**30)
        return list(by_shards(plain(), read_videos(server.url, cache=cache).split("train"), window=window))

    assert arranged(1, sum(sizes[:2]) + 1) == list(by_shards(plain(), read_videos(shards).split("train"), window=1))
    for window, needed in ((1, 2), (0, 4), (3, 4)):
        with pytest.raises(
            DatasetError, match=rf"{needed} shards are needed at once.* lower shuffle_shards \({window}\)"
        ):
            arranged(window, sum(sizes[:needed]) - 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(DatasetError, match="4 shards are needed at once"):
        arranged(1, sum(sizes[:2]) + 1)


def test_the_shards_of_one_write_are_mixed(validated_videos: Path, tmp_path: Path) -> None:
    write_shards(read_manifest(validated_videos), tmp_path / "mixed", videos_per_shard=6, shuffle_seed=3)
    samples = read_videos(tmp_path / "mixed").split("train").samples
    assert len({s.labels for s in samples[:6]}) == 2
