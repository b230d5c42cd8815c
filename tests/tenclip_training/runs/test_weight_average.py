from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenclip_api.errors import CheckpointError
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import Progress, train
from tenclip_training.runs.weight_average import WeightAverage


def test_the_average_forgets_the_first_steps_and_then_decays() -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    average = WeightAverage(model, 0.5)
    bias, counter = model.fc.bias, next(b for b in model.buffers() if b.dtype == torch.int64)
    statistics = next(b for n, b in model.named_buffers() if n.endswith("running_mean"))
    expected, seen = 0.0, []
    for n, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)):
        with torch.no_grad():
            bias.fill_(value)
            statistics.fill_(value)
            counter.fill_(n)
        average.update(model)
        # 0 steps before: its own weights. 1: 2/11 of them. 2: 3/12, 3: 4/13. 8 and more: a half.
        decay = 0.0 if n == 0 else min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        seen.append(expected)
    assert seen[1] == pytest.approx(2 / 11 * 1 + 9 / 11 * 2)
    assert seen[9] == pytest.approx(0.5 * seen[8] + 256)
    assert average.model.fc.bias.tolist() == pytest.approx([expected] * 2)
    averaged = dict(average.model.named_buffers())
    name = next(n for n, b in model.named_buffers() if b is statistics)
    assert averaged[name].mean().item() == pytest.approx(expected), "statistics belong to the weights"
    assert next(b for b in average.model.buffers() if b.dtype == torch.int64).item() == 9, "counters are copied"
    assert average.updates == 10


def test_a_run_validates_and_saves_the_average_and_resumes_exactly(train_config: TrainConfig, tmp_path: Path) -> None:
    config = train_config.changed(ema=0.9, val_every=1)
    whole = train(config.changed(out=str(tmp_path / "whole")))
    # The weights of each step but the last one, from the checkpoints that are written after each.
    weights = []

    def read_the_step_before(p: Progress) -> None:
        if p.stage == "train" and (p.epoch, p.done) != (1, 1):
            payload = torch.load(tmp_path / "plain" / "last.pt", weights_only=True)
            weights.append(payload["state_dict"]["fc.weight"].double())

    plain = train(
        config.changed(ema=0.0, out=str(tmp_path / "plain"), save_every_minutes=0.0), progress=read_the_step_before
    )
    saved, unaveraged = load_checkpoint(whole.last), load_checkpoint(plain.last)
    assert saved.weights_sha256 != unaveraged.weights_sha256
    assert saved.training_state is not None
    own = saved.training_state["weights"]
    for name, tensor in unaveraged.model.state_dict().items():
        assert torch.equal(own[name], tensor), "the average does not touch what is trained"
    assert [h.loss for h in whole.history] == [h.loss for h in plain.history]
    assert [h.val_loss for h in whole.history] != [h.val_loss for h in plain.history]
    assert whole.best is not None
    weights.append(unaveraged.model.fc.weight.detach().double())
    assert len(weights) == 9
    expected = weights[0]
    for n, weight in enumerate(weights[1:], start=1):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(saved.model.fc.weight.double(), expected, rtol=0, atol=1e-6)
    # Stopped within an epoch and at the end of one.
    parts = config.changed(out=str(tmp_path / "parts"))
    for stop in (2, 4):
        train(parts, resume=True, stop_after_steps=stop)
    resumed = train(parts, resume=True)
    again = load_checkpoint(resumed.last)
    assert again.weights_sha256 == saved.weights_sha256
    assert again.training_state is not None
    assert all(torch.equal(own[name], tensor) for name, tensor in again.training_state["weights"].items())
    assert [h.val_loss for h in resumed.history] == [h.val_loss for h in whole.history]


def test_an_average_without_the_weights_beside_it_is_refused(train_config: TrainConfig) -> None:
    config = train_config.changed(ema=0.9)
    stopped = train(config, stop_after_steps=2)
    payload = torch.load(stopped.last, weights_only=True)
    payload["training_state"]["weights"] = {}
    torch.save(payload, stopped.last)
    with pytest.raises(CheckpointError, match=r"last\.pt: weights do not fit r2plus1d_10: .* missing"):
        train(config, resume=True)
