from __future__ import annotations

import copy
from typing import cast

import pytest
import torch

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.optimization import (
    Updater,
    build_optimizer,
    resolve_precision,
)
from tenclip_training.runs.sections import Algorithm, OptimizerConfig


def test_precision_auto_on_a_processor_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it multiplies bfloat16 itself."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": True})
    assert resolve_precision("auto", torch.device("cpu")) == "fp32"
    assert resolve_precision("bf16", torch.device("cpu")) == "bf16"


def test_weight_decay_leaves_norms_and_biases_alone() -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    kinds: tuple[Algorithm, ...] = ("sgd", "adamw")
    for kind in kinds:
        config = OptimizerConfig(algorithm=kind, weight_decay=0.1)
        decayed, others = build_optimizer(model, config).param_groups
        assert decayed["weight_decay"] == 0.1
        assert others["weight_decay"] == 0
        assert all(p.ndim > 1 for p in decayed["params"])
        assert all(p.ndim == 1 for p in others["params"])
        assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_half_precision_is_not_for_processors() -> None:
    with pytest.raises(InvalidRequest, match="fp16 needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))


def test_gradients_of_micro_batches_add_up_to_that_of_the_batch() -> None:
    torch.manual_seed(0)
    model = create_model("r2plus1d_10", num_classes=3, width=4, num_frames=4, crop=16).eval()
    clips, targets = torch.randn(5, 3, 4, 16, 16), torch.tensor([0, 1, 2, 0, 1])

    def weights_after(sizes: tuple[int, ...]) -> torch.Tensor:
        mine = copy.deepcopy(model)
        updater = Updater(mine, OptimizerConfig(), device=torch.device("cpu"), precision="fp32")
        for part, labels in zip(torch.split(clips, list(sizes)), torch.split(targets, list(sizes)), strict=True):
            loss = torch.nn.functional.cross_entropy(mine(part)[0].mean(2), labels)
            updater.add(loss * (len(part) / 5))
        updater.step(learning_rate=0.5)
        return torch.cat([p.flatten() for p in mine.parameters()])

    before = torch.cat([p.flatten() for p in model.parameters()])
    whole = weights_after((5,))
    assert (whole - before).abs().max() > 1e-3
    torch.testing.assert_close(weights_after((2, 2, 1)), whole, rtol=1e-4, atol=1e-6)


def test_the_norm_of_the_gradient_is_that_before_it_is_limited() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    updater = updater_of(model, max_gradient_norm=2.0)
    updater.add(4 * model(torch.ones(1, 1)).sum())
    norm = updater.step(learning_rate=0.5)
    assert norm is not None
    assert norm.item() == 4.0
    assert model.weight.item() == pytest.approx(-1.0, abs=1e-5), "half of the limit"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(value: float) -> None:
    model = torch.nn.Linear(2, 1)
    before = copy.deepcopy(model.state_dict())
    updater = updater_of(model)
    updater.add(value * model(torch.ones(1, 2)).sum())
    norm = updater.step(learning_rate=0.5)
    assert norm is not None
    assert not torch.isfinite(norm)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert updater.skipped == 0, "nobody scales this loss"


def test_loss_scaling_leaves_out_a_step_that_overflows_and_counts_it() -> None:
    """What float16 does on a GPU, with micro-batches: gradients add up under one scale."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    updater = updater_of(model, precision="fp16")
    scale = updater.scaler.get_scale()
    for factor in (1.0, 1e35):  # finite, but not times 65536
        updater.add(factor * model(torch.ones(1, 1)).sum())
    assert updater.step(learning_rate=0.5) is None
    assert (updater.skipped, model.weight.item(), updater.scaler.get_scale()) == (1, 0.0, scale / 2)
    for _ in range(2):
        updater.add(model(torch.ones(1, 1)).sum())
    norm = updater.step(learning_rate=0.5)
    assert norm is not None
    assert norm.item() == 2.0, "of the gradient itself, not of the scaled one"
    assert model.weight.item() == -1.0
    other = updater_of(torch.nn.Linear(1, 1, bias=False), precision="fp16")
    other.load_state_dict(updater.state_dict())
    assert (other.skipped, other.scaler.get_scale()) == (1, scale / 2)


def test_loss_scaling_gives_up_on_a_gradient_that_is_not_finite_at_any_scale() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    updater = updater_of(model, precision="fp16")
    norms = []
    for _ in range(20):
        updater.add(float("nan") * model(torch.ones(1, 1)).sum())
        norms.append(updater.step(learning_rate=0.5))
    assert [n is None for n in norms] == [True] * 16 + [False] * 4, "65536 is 2 to the 16th"


def updater_of(model: torch.nn.Module, *, precision: str = "fp32", max_gradient_norm: float = 0.0) -> Updater:
    config = OptimizerConfig(momentum=0.0, nesterov=False, weight_decay=0.0, max_gradient_norm=max_gradient_norm)
    return Updater(cast(VideoModel, model), config, device=torch.device("cpu"), precision=precision)


def test_exact_recipes_switch_off_what_the_papers_do_not_do() -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    plain = build_optimizer(model, OptimizerConfig(nesterov=False, decay_all=True, weight_decay=0.1))
    assert [g["weight_decay"] for g in plain.param_groups if g["params"]] == [0.1]
    assert not any(g["nesterov"] for g in plain.param_groups)


def test_a_state_without_loss_scaling_goes_on_in_half_precision() -> None:
    """After a loss that was not finite, a run may be resumed with another precision."""
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    before = Updater(model, OptimizerConfig(), device=torch.device("cpu"), precision="bf16")
    after = Updater(model, OptimizerConfig(), device=torch.device("cpu"), precision="fp16")
    after.load_state_dict(before.state_dict())
    assert after.scaler.get_scale() > 1
