"""Training and evaluation from shards, beside the same from files."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import CheckpointError, DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, TrainingClip
from tenclip_training.data.failures import Failure
from tenclip_training.data.shards import storage
from tenclip_training.data.shards.read import CacheOptions, read_videos
from tenclip_training.data.shards.storage import Retries
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.results import TrainResult
from tenclip_training.runs.run_folder import RunFolder
from tenclip_training.runs.setup import read_splits
from tenclip_training.runs.train import train
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.data.shards.server import Files


@pytest.fixture
def config(train_config: TrainConfig, shards: Path) -> TrainConfig:
    """A run of 2 epochs of 3 steps, two of four shards at a time."""
    return train_config.changed(manifest=str(shards), epochs=2, val_every=2, shuffle_shards=2)


def result_of(result: TrainResult) -> tuple[str, list[Any]]:
    history = [dataclasses.replace(h, seconds=0.0) for h in result.history]
    return load_checkpoint(result.last).weights_sha256, history


def elsewhere(config: TrainConfig, name: str, **changes: Any) -> TrainConfig:
    return config.changed(out=str(Path(config.out).parent / name), **changes)


def test_a_clip_from_a_shard_is_the_clip_from_the_file(
    shards: Path, validated_videos: Path, train_config: TrainConfig
) -> None:
    files, tars = (
        ClipDataset(read(source).split("train"), SPEC, train_config.augmentation, seed=3)
        for read, source in ((read_manifest, validated_videos), (read_videos, shards))
    )
    for draw in [(e, i) for e in range(2) for i in range(12)]:
        one, two = files[draw], tars[draw]
        assert isinstance(one, tuple)
        assert isinstance(two, tuple)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])


def test_in_the_same_order_the_weights_are_the_same_to_the_bit(config: TrainConfig, validated_videos: Path) -> None:
    files = train(elsewhere(config, "files", manifest=str(validated_videos)))
    tars = train(elsewhere(config, "tars", shuffle_shards=0))
    assert result_of(tars) == result_of(files)
    few = train(elsewhere(config, "few"))
    assert result_of(few)[0] != result_of(files)[0], "few shards at a time is another order"
    assert few.history[-1].val_videos_decoded == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_was_stopped_within_an_epoch_goes_on_to_the_bit(config: TrainConfig, workers: int) -> None:
    whole = train(elsewhere(config, "whole"))
    parts = elsewhere(config, "parts", workers=workers)
    assert not train(parts, stop_after_steps=2).completed
    assert not train(parts, resume=True, stop_after_steps=2).completed
    assert result_of(train(parts, resume=True)) == result_of(whole)


def test_a_run_goes_on_with_the_shards_elsewhere_and_with_no_others(
    config: TrainConfig, shards: Path, tmp_path: Path
) -> None:
    whole = train(elsewhere(config, "whole"))
    parts = elsewhere(config, "parts")
    train(parts, stop_after_steps=2)
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    with pytest.raises(CheckpointError, match=r"other settings: sampling.shuffle_shards \(was 2, now 3\)"):
        train(parts.changed(shuffle_shards=3), resume=True)
    assert result_of(train(parts.changed(manifest=str(copy)), resume=True)) == result_of(whole)


def test_from_a_web_server(config: TrainConfig, shards: Path, server: Files, tmp_path: Path) -> None:
    whole = train(elsewhere(config, "whole"))
    shutil.copytree(shards, server.folder, dirs_exist_ok=True)
    remote = elsewhere(config, "remote", manifest=server.url, shard_cache=str(tmp_path / "cache"), workers=1)
    train(remote, stop_after_steps=4)
    assert result_of(train(remote, resume=True)) == result_of(whole)
    tars = {name: count for name, count in server.requests.items() if name.endswith(".tar")}
    assert tars == {p.name: 1 for p in shards.glob("*.tar")}, "each is fetched once, whoever needs it"


def test_what_could_not_be_fetched_for_the_cache_is_tried_again(
    shards: Path, server: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_SECONDS_TO_FORGET_FAILURE", 0.0)
    shutil.copytree(shards, server.folder, dirs_exist_ok=True)
    cache = CacheOptions(folder=str(tmp_path / "cache"), retries=Retries(attempts=1))
    clips = ClipDataset(read_videos(server.url, cache=cache).split("train"), SPEC, Augmentation(), seed=3)
    server.fail["train-000001.tar"] = [503] * 4  # for each of its three videos, and a visit
    assert clips.fill_cache(1 << 30, threads=1) == []
    assert isinstance(clips[0, 3], Failure), "it is away still"
    assert all(isinstance(clips[0, i], TrainingClip) for i in range(12))


def test_from_a_web_server_with_little_room(config: TrainConfig, shards: Path, server: Files, tmp_path: Path) -> None:
    whole = train(elsewhere(config, "whole", shuffle_shards=1))
    shutil.copytree(shards, server.folder, dirs_exist_ok=True)
    cache = tmp_path / "cache"
    gib = 2.2 * max(p.stat().st_size for p in shards.glob("*.tar")) / 2**30
    few: dict[str, Any] = {"shuffle_shards": 1, "shard_cache": str(cache), "shard_cache_gib": gib}
    assert result_of(train(elsewhere(config, "remote", manifest=server.url, **few))) == result_of(whole)
    deadline = time.monotonic() + 60
    while list(cache.glob(".*.part")) and time.monotonic() < deadline:
        time.sleep(0.01)  # what was fetched ahead
    assert sum(p.stat().st_size for p in cache.glob("*.tar")) <= gib * 2**30
    assert server.requests["train-000000.tar"] >= 2, "it had to go, and was fetched again"


def test_videos_of_a_shard_that_is_cut_off_are_failures(config: TrainConfig, shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    path = copy / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:2000])
    damaged = config.changed(manifest=str(copy), max_failures=0.5)
    result = train(damaged)
    assert result.completed
    assert [h.train_clips for h in result.history] == [9, 9]
    listed = [json.loads(line) for line in (result.out / "failures.jsonl").read_text().splitlines()]
    assert sorted(f["video"] for f in listed) == sorted(s.name for s in read_videos(copy).samples[6:9])
    assert {f["reason"] for f in listed} == {"TRUNCATED_VIDEO"}
    assert all("train-000002.tar: the shard is cut off" in f["message"] for f in listed)
    with pytest.raises(DatasetError, match=r"videos could not be read, more than the 10% allowed"):
        train(elsewhere(damaged, "strict", max_failures=0.1))


def test_evaluation_reads_shards(config: TrainConfig, shards: Path, validated_videos: Path) -> None:
    last = train(config.changed(epochs=1, warmup_epochs=0)).last
    files = evaluate(last, read_manifest(validated_videos), split="val", protocol="center-clip")
    tars = evaluate(last, read_videos(shards), split="val", protocol="center-clip")
    assert tars.video_top1 == files.video_top1
    assert [s.video.tolist() for s in tars.scores] == [s.video.tolist() for s in files.scores]


def test_other_processes_go_on_only_at_the_end_of_an_epoch(config: TrainConfig) -> None:
    """The order within an epoch follows from the number of processes that share the shards."""
    config = config.changed(accumulate=2, batch_size=2)
    train(config, stop_after_steps=2)
    manifest = read_splits(config).train
    two = RunFolder(config.out, World(size=2))
    with pytest.raises(CheckpointError, match="is in the midst of epoch 1, in which 1 processes share the shards"):
        two.require_same_processes(two.find(config, manifest, resume=True))
    alone = RunFolder(config.out, World())
    alone.require_same_processes(alone.find(config, manifest, resume=True))
    train(config, resume=True, stop_after_steps=1)
    two.require_same_processes(two.find(config, manifest, resume=True))
