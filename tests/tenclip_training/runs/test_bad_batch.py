from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tenclip_api.errors import CheckpointError, TenclipError
from tenclip_training.data.dataset import Batch, Collate
from tenclip_training.models import create_model
from tenclip_training.runs import setup
from tenclip_training.runs.bad_batch import keep_batch, make_again
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_training.runs.distributed import World
from tenclip_training.runs.train import train
from tests.tenclip_training.conftest import SPEC


def rows_of(out: Path | str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(out) / "steps.jsonl").read_text().splitlines()]


def test_a_loss_that_is_not_finite_ends_the_run_at_its_step_and_keeps_the_batch(train_config: TrainConfig) -> None:
    config = train_config.changed(lr=1e12, warmup_epochs=0, save_every_minutes=0.0)
    with pytest.raises(
        TenclipError, match=r"the loss of step \d \(epoch 1\) is not finite.*--clip-gradients 1"
    ) as error:
        train(config)
    rows = rows_of(config.out)
    bad = rows[-1]
    assert bad["loss"] is None
    assert all(row["loss"] is not None for row in rows[:-1])
    out = Path(config.out)
    assert f"its batch is kept in {out / 'nan-batch.pt'}; last.pt is of step {bad['step'] - 1}" in str(error.value)
    batch = torch.load(out / "nan-batch.pt", weights_only=True)
    assert batch["clips"].shape == (4, 4, 16, 16, 3)
    assert batch["clips"].dtype == torch.uint8
    assert batch["targets"].shape == (4, 2)
    assert len(batch["videos"]) == 4
    assert all(video.endswith(".mp4") for video in batch["videos"])
    assert (batch["epoch"], batch["step"], batch["learning_rate"], batch["process"]) == (
        1,
        bad["step"],
        bad["learning_rate"],
        0,
    )
    assert not math.isfinite(batch["loss"])
    # The state before it is whole, and the batch has the network at it fail as it did.
    last = load_checkpoint(out / "last.pt")
    assert last.training_state is not None
    assert last.training_state["step"] == bad["step"] - 1
    scale, bias = (torch.from_numpy(a) for a in SPEC.affine())
    clips = torch.addcmul(bias, batch["clips"].float(), scale).permute(0, 4, 1, 2, 3)
    logits, _ = last.model.train()(clips)
    assert not torch.isfinite(torch.nn.functional.cross_entropy(logits.mean(2), batch["targets"]))


def test_a_run_goes_on_after_that_with_a_lower_rate_and_says_so(train_config: TrainConfig, tmp_path: Path) -> None:
    # Its first step has rate 0, its second one ends it: the loss of the third is not finite.
    config = train_config.changed(lr=1e12, warmup_start="zero")
    train(config, stop_after_steps=1)
    for _ in range(2):  # nothing has changed, so it ends where it did
        with pytest.raises(TenclipError, match=r"the loss of step 3 .* is not finite.*last\.pt is of step 1,"):
            train(config, resume=True)
    lower = config.changed(lr=0.02, max_gradient_norm=5.0)
    with pytest.raises(CheckpointError, match=r"other settings: optimizer\.momentum"):
        train(lower.changed(momentum=0.5), resume=True)
    result = train(lower, resume=True)
    assert result.completed
    assert [row["step"] for row in rows_of(config.out)] == list(range(1, 10))
    assert read_config(config.out) == lower
    changes = load_checkpoint(result.last).provenance["changes"]
    assert changes == [
        {"step": 2, "setting": "optimizer.lr", "was": 1e12, "now": 0.02},
        {"step": 2, "setting": "optimizer.max_gradient_norm", "was": 0.0, "now": 5.0},
    ]
    assert train(lower, resume=True).completed
    assert load_checkpoint(result.last).provenance["changes"] == changes, "noted once"
    # The rate of the first step was 0 in both, so the whole is a run at the lower rate.
    other = train(lower.changed(out=str(tmp_path / "other")))
    assert load_checkpoint(result.last).weights_sha256 == load_checkpoint(other.last).weights_sha256
    # A run that had no such loss takes no other rate.
    healthy = train_config.changed(out=str(tmp_path / "healthy"))
    train(healthy, stop_after_steps=1)
    with pytest.raises(CheckpointError, match=r"other settings: optimizer\.lr"):
        train(healthy.changed(lr=1e-3), resume=True)


class _RootOfNothing(torch.nn.Module):
    """Adds zero, whose gradient is not a number."""

    def forward(self, features: Tensor) -> Tensor:
        return features + torch.sqrt(features * 0).nan_to_num()


def test_a_gradient_that_is_not_finite_counts_too(train_config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_root(architecture: str, **values: Any) -> Any:
        model = create_model(architecture, **values)
        root = _RootOfNothing()
        model.fc.register_forward_pre_hook(lambda m, args: root(args[0]) if m.training else args[0])
        return model

    monkeypatch.setattr(setup, "create_model", with_a_root)
    with pytest.raises(TenclipError, match=r"the gradient of step 1 .* is not finite.*nothing was saved before it"):
        train(train_config)
    (row,) = rows_of(train_config.out)
    assert row["loss"] > 0
    assert row["gradient_norm"] is None
    assert not (Path(train_config.out) / "last.pt").exists()
    monkeypatch.undo()
    assert train(train_config, resume=True).completed, "nothing was saved, so it begins anew"
    assert not (Path(train_config.out) / "nan-batch.pt").exists()


def test_the_batch_of_any_step_is_made_again(train_config: TrainConfig) -> None:
    config = train_config.changed(accumulate=2, batch_size=2)
    splits = setup.read_splits(config)
    dataset = setup.build_dataset(config, splits.train, SPEC)
    sampler, collate = setup.build_sampler(config, splits.train, World()), Collate(SPEC, 2)
    given = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate))
    for step in (1, 3, 4, 9):
        again = make_again(sampler, dataset, collate, step=step)
        assert torch.equal(again.clips, given[step - 1].clips)
        assert again.videos == given[step - 1].videos


def test_a_batch_that_cannot_be_kept_hides_nothing(tmp_path: Path) -> None:
    batch = Batch(torch.zeros(1, 4, 16, 16, 3, dtype=torch.uint8), torch.ones(1, 2), videos=("a.mp4",))
    assert "nan-batch.pt: [Errno 2] No such file" in keep_batch(tmp_path / "gone" / "nan-batch.pt", batch, {})
