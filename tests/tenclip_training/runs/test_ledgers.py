from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.data.damage import Damage
from tenclip_training.data.dataset import Batch
from tenclip_training.data.failures import Failure
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.ledgers import Ledgers
from tenclip_training.runs.run_folder import RunFolder

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TwoLedgers(World):
    """A world whose other process has met what is in `others`; it stands for gathering over a network."""

    others: tuple[object, ...] = ()

    def gather(self, values: list[T]) -> list[T]:  # type: ignore[override]
        kind = type(values[0]) if values else Failure
        return [*values, *(o for o in self.others if isinstance(o, kind))]  # type: ignore[list-item]


def failure(video: str, split: str = "train") -> Failure:
    return Failure(video=video, reason="EMPTY_VIDEO", message=f"{video}: empty", split=split)


def batch(*failures: Failure, damaged: tuple[Damage, ...] = ()) -> Batch:
    return Batch(torch.zeros(0, 4, 16, 16, 3), torch.zeros(0, 2), failures, (), damaged)


def ledgers(config: TrainConfig, world: World, begin: bool = True) -> Ledgers:
    Path(config.out).mkdir(exist_ok=True)
    made = Ledgers(config, read_manifest(config.manifest).split("train"), RunFolder(config.out, world))
    if begin:
        made.begin(None)
    return made


def test_failures_of_all_processes_count_each_video_once(train_config: TrainConfig) -> None:
    world = TwoLedgers(size=2, others=(failure("b.mp4"), failure("a.mp4"), failure("v.mp4", "val")))
    found = ledgers(train_config.changed(max_failures=0.2), world)
    found.record(batch(failure("a.mp4")))
    assert [f.video for f in found.failures()] == ["a.mp4", "b.mp4", "v.mp4"]
    assert [f.video for f in found.train_failures()] == ["a.mp4", "b.mp4"]
    assert found.train_videos_failed == 2
    # Each process has met less than a tenth of the 12 videos, and all of them together more.
    strict = ledgers(train_config.changed(max_failures=0.1), world)
    strict.record(batch(failure("a.mp4")))
    with pytest.raises(DatasetError, match="2 of 12 videos could not be read, more than the 10% allowed"):
        strict.train_failures()


def test_what_a_checkpoint_remembers_stays_with_the_first_process(train_config: TrainConfig) -> None:
    damage = Damage(video="d.mp4", split="train", frames_corrupt=2, frames_substituted=0)
    first = ledgers(train_config, World())
    first.record(batch(failure("a.mp4"), damaged=(damage,)))
    state = json.loads(json.dumps(first.to_dict()))
    for rank, expected in ((0, ["a.mp4"]), (1, [])):
        again = ledgers(train_config, World(rank=rank), begin=False)
        again.begin(state)
        assert [f.video for f in again.failures()] == expected
        assert [d.video for d in again.damaged()] == (["d.mp4"] if rank == 0 else [])
    out = Path(train_config.out)
    assert json.loads((out / "failures.jsonl").read_text())["video"] == "a.mp4"
    assert (out / "failures.rank1.jsonl").read_text() == (out / "damaged.rank1.jsonl").read_text() == ""
    with pytest.raises(KeyError):
        first.begin({"failures": []})
