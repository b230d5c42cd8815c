"""Small real runs with several labels a video and classes of different sizes."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_training.commands.train_screen import epoch_line
from tenclip_training.data.dataset import Batch, Collate
from tenclip_training.data.samplers import Draw
from tenclip_training.data.tags import drawn_tag
from tenclip_training.models import create_model
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_training.runs.distributed import World
from tenclip_training.runs.optimization import Updater
from tenclip_training.runs.schedules import build_schedule
from tenclip_training.runs.setup import build_dataset, build_sampler, describe_sampling, warn_of_repeats
from tenclip_training.runs.train import train
from tests.tenclip_training.conftest import SPEC

# Of 12 training videos 8 are of class a alone, 2 of a and b, one of b and c, one of c.
LABELS = (*["a"] * 8, *["a;b"] * 2, "b;c", "c")
METHODS = {
    "square root, one tag drawn": {"class_power": 0.5, "tags": "draw"},
    "balanced, one tag for good": {"class_power": 0.0, "tags": "fixed", "draws": 16},
    "balanced, soft targets": {"class_power": 0.0, "tags": "soft"},
    "videos, one tag drawn": {"tags": "draw", "clips_per_video": 2},
    "sigmoids": {"loss": "sigmoid"},
    "square root, sigmoids": {"class_power": 0.5, "loss": "softmax+sigmoid", "draws": 20},
}


def write_manifest(path: Path, videos: Sequence[str], labels: Sequence[str]) -> str:
    with path.open("w", newline="") as f:
        csv.writer(f).writerows(
            [("path", "label", "split"), *zip(videos, labels, ["train"] * len(videos), strict=True)]
        )
    return str(path)


@pytest.fixture
def tagged_config(train_config: TrainConfig, action_videos: Path, tmp_path: Path) -> TrainConfig:
    """Two epochs over 12 videos with the labels above, of which nothing is validated."""
    videos = [str(s.path) for s in read_manifest(action_videos).split("train").samples]
    manifest = write_manifest(tmp_path / "tagged.csv", videos, LABELS)
    return train_config.changed(manifest=manifest, epochs=2, cache_gib=1.0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_run_trains_on_its_draws_and_resumes_in_mid_epoch(
    tagged_config: TrainConfig, tmp_path: Path, method: dict[str, object]
) -> None:
    config = tagged_config.changed(**method)
    whole = train(config)
    assert read_config(whole.out) == config
    clips = 12 * config.sampling.clips_per_video if config.sampling.draws is None else config.sampling.draws
    assert [h.train_clips for h in whole.history] == [clips, clips]
    assert whole.history[0].loss == pytest.approx(loss_of_first_epoch(config), rel=1e-12)

    parts = config.changed(out=str(tmp_path / "parts"))
    assert not train(parts, stop_after_steps=4).completed
    resumed = train(parts, resume=True)
    assert resumed.completed
    assert load_checkpoint(resumed.last).weights_sha256 == load_checkpoint(whole.last).weights_sha256
    for one, other in zip(resumed.history, whole.history, strict=True):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)


def loss_of_first_epoch(config: TrainConfig) -> float:
    """By a plain loop, with the targets written out."""
    manifest = read_manifest(config.manifest).split("train")
    torch.manual_seed(config.seed)
    model = create_model("r2plus1d_10", num_classes=3, num_frames=4, crop=16, width=4)
    model.set_execution("conv2d")
    model.train()
    sampler = build_sampler(config, manifest, World())
    clips = build_dataset(config, manifest, SPEC)
    updater = Updater(model, config.optimizer, device=torch.device("cpu"), precision="fp32")
    schedule = build_schedule(
        config.schedule, config.optimizer, epochs=2, steps_per_epoch=sampler.steps_per_epoch, world_size=1
    )
    total, count = 0.0, 0
    for step, draws in enumerate(itertools.islice(sampler, sampler.steps_per_epoch)):
        batch: Batch = Collate(SPEC, 3)([clips[draw] for draw in draws])
        labels = [manifest.targets(manifest.samples[draw.sample]) for draw in draws]
        targets = torch.stack([target_of(config, *pair) for pair in zip(draws, labels, strict=True)])
        assert torch.equal(batch.targets, targets)
        logits = model(normalise(batch.clips, SPEC))[0].float().mean(2)
        cross_entropy = F.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
        logistic = F.binary_cross_entropy_with_logits(logits, targets)
        losses = {"softmax": cross_entropy, "sigmoid": logistic, "softmax+sigmoid": logistic + cross_entropy}
        loss = losses[config.objective.loss]
        updater.add(loss)
        updater.step(learning_rate=schedule.rate(step))
        total, count = total + loss.item() * len(draws), count + len(draws)
    return total / count


def target_of(config: TrainConfig, draw: Draw, labels: Sequence[int]) -> torch.Tensor:
    row = torch.zeros(3)
    if config.objective.loss != "softmax":
        row[list(labels)] = 1
    elif config.sampling.tags == "soft":
        row[list(labels)] = 1 / len(labels)
    elif draw.label is None:
        row[drawn_tag(labels, seed=config.seed, visit=draw.visit, index=draw.sample)] = 1
    else:
        assert draw.label in labels
        row[draw.label] = 1
    return row


def test_two_processes_share_what_one_would_draw(tagged_config: TrainConfig) -> None:
    config = tagged_config.changed(class_power=0.5, tags="draw", draws=16)
    manifest = read_manifest(config.manifest).split("train")
    alone = [d for batch in build_sampler(config, manifest, World()) for d in batch]
    both = [
        [d for batch in build_sampler(config, manifest, World(rank=rank, size=2)) for d in batch] for rank in range(2)
    ]
    assert [d for pair in zip(*both, strict=True) for d in pair] == alone


def test_the_run_says_how_often_a_video_is_repeated(
    tagged_config: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = tagged_config.changed(class_power=0.0, draws=1000)
    manifest = read_manifest(config.manifest).split("train")
    summary = describe_sampling(config, manifest)
    # c: 1.5 of the video that is c alone, half of it of the one that is b, too.
    assert summary.largest_repeats == pytest.approx(1000 / 3 / 1.5)
    with caplog.at_level(logging.WARNING):
        warn_of_repeats(config, manifest)
        warn_of_repeats(tagged_config, manifest)
    assert [r.getMessage() for r in caplog.records] == [summary.warning]


def test_a_class_of_which_nothing_can_be_read_is_named_at_the_end_of_the_epoch(
    tagged_config: TrainConfig, action_videos: Path, tmp_path: Path
) -> None:
    videos = [str(s.path) for s in read_manifest(action_videos).split("train").samples]
    for name in ("one", "two"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    videos[10:] = [str(tmp_path / "one.mp4"), str(tmp_path / "two.mp4")]
    labels = [*["a"] * 9, "a;b", "b;c", "c"]
    manifest = write_manifest(tmp_path / "broken.csv", videos, labels)
    config = tagged_config.changed(
        manifest=manifest, class_power=0.0, tags="draw", draws=24, max_failures=0.2, cache_gib=0.0
    )
    sampler = build_sampler(config, read_manifest(manifest).split("train"), World())
    result = train(config)
    assert [h.unreadable_classes for h in result.history] == [("c",), ("c",)]
    # The batches lack those clips, and the others are as they would be.
    drawn = [np.array([d.sample for d in batch]) for batch in sampler]
    readable = [sum(int((batch < 10).sum()) for batch in drawn[e * 6 : e * 6 + 6]) for e in range(2)]
    assert [h.train_clips for h in result.history] == readable
    assert readable[0] < 24
    assert "no readable video of c" in epoch_line(result.history[0], 2)
    lines = (result.out / "history.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["unreadable_classes"] == ["c"]


def test_nothing_of_any_class_to_read_ends_the_run(tagged_config: TrainConfig, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    manifest = write_manifest(tmp_path / "empty.csv", [str(empty)], ["a"])
    with pytest.raises(DatasetError, match="no video of epoch 1 could be read"):
        train(tagged_config.changed(manifest=manifest, class_power=0.5, max_failures=1.0, cache_gib=0.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "sigmoid", "tags": "draw"}, "tags draw gives a clip one class; loss sigmoid learns all of them"),
        ({"loss": "sigmoid", "label_smoothing": 0.1}, "label_smoothing spreads the target of a softmax"),
        ({"draws": 5, "clips_per_video": 2}, "give one of them"),
        ({"class_power": 1.5}, "class_power"),
        ({"class_cap": 0}, "class_cap"),
    ],
)
def test_settings_that_contradict_each_other(
    train_config: TrainConfig, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train_config.changed(**values)
