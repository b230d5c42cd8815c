from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_data.samples import Manifest, Sample
from tenclip_training.data.shards.plan import plan_shards


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """9 training videos of 100 kB and 2 of another split; the first is there in three parts."""
    samples = []
    for i in range(11):
        path = tmp_path / f"{i}.mp4"
        path.write_bytes(bytes(100_000))
        split = "train" if i < 9 else "my split"
        samples.append(Sample(path=path, name=path.name, labels=("a",), split=split))
    parts = [dataclasses.replace(samples[0], start_seconds=float(i), end_seconds=i + 1.0) for i in range(3)]
    return Manifest(source=tmp_path, samples=(*parts, *samples[1:]), labels=("a",))


def test_by_number_of_videos(manifest: Manifest) -> None:
    shards = plan_shards(manifest, shard_bytes=None, videos_per_shard=4, shuffle_seed=None)
    assert [s.name for s in shards] == [
        "train-000000.tar", "train-000001.tar", "train-000002.tar", "my_split-000000.tar",
    ]  # fmt: skip
    assert [len(s.videos) for s in shards] == [4, 4, 1, 2]
    assert [v.key for s in shards[:3] for v in s.videos] == [f"{i:08d}" for i in range(9)]
    assert [v.name for s in shards[:3] for v in s.videos] == [f"{i}.mp4" for i in range(9)]
    assert [len(v.samples) for v in shards[0].videos] == [3, 1, 1, 1], "parts of a video lie together, once"


def test_by_size(manifest: Manifest) -> None:
    sizes = [len(s.videos) for s in plan_shards(manifest, shard_bytes=310_000, videos_per_shard=None, shuffle_seed=1)]
    assert sizes == [3, 3, 3, 2]
    alone = plan_shards(manifest, shard_bytes=1000, videos_per_shard=None, shuffle_seed=1)
    assert [len(s.videos) for s in alone] == [1] * 11, "a video that is too large for a shard has one of its own"


def test_the_order_hangs_on_seed_and_names_alone(manifest: Manifest) -> None:
    def names(m: Manifest, seed: int) -> list[str]:
        shards = plan_shards(m, shard_bytes=None, videos_per_shard=100, shuffle_seed=seed)
        return [v.name for v in shards[0].videos]

    turned = dataclasses.replace(manifest, samples=(*manifest.samples[3:11], *manifest.samples[:3]))
    assert names(manifest, 0) == names(turned, 0)
    assert names(manifest, 0) != names(manifest, 1)
    assert sorted(names(manifest, 0)) == [f"{i}.mp4" for i in range(9)]


def test_splits_never_share_a_file_name(manifest: Manifest) -> None:
    samples = [dataclasses.replace(s, split=("a b", "a/b", "ä", "")[i % 4]) for i, s in enumerate(manifest.samples)]
    shards = plan_shards(
        dataclasses.replace(manifest, samples=tuple(samples)), shard_bytes=None, videos_per_shard=100, shuffle_seed=0
    )
    assert sorted(s.name for s in shards) == [
        "_-000000.tar", "a_b-000000.tar", "a_b_-000000.tar", "shard-000000.tar",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.data())
def test_a_digest_tells_every_change(data: st.DataObject) -> None:
    sample = Sample(path=Path("/no/a.mp4"), name="a.mp4", labels=("x", "y"), split="train")
    manifest = Manifest(source=Path("m"), samples=(sample,), labels=("x", "y"))

    def digest(changed: Sample, labels: tuple[str, ...] = ("x", "y")) -> str:
        m = dataclasses.replace(manifest, samples=(changed,))
        (shard,) = plan_shards(m, shard_bytes=None, videos_per_shard=1, shuffle_seed=0)
        return shard.digest(labels)

    changes: list[dict[str, object]] = [
        {"labels": ("x",)}, {"name": "b.mp4"}, {"split": "val"}, {"start_seconds": 1.0}, {"extra": {"verb": "v"}},
    ]  # fmt: skip
    change = data.draw(st.sampled_from(changes))
    assert digest(sample) == digest(dataclasses.replace(sample))
    assert digest(dataclasses.replace(sample, **change)) != digest(sample)  # type: ignore[arg-type]
    assert digest(sample, ("y", "x")) != digest(sample), "numbers of classes are in .cls"
