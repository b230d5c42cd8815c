from __future__ import annotations

import copy

import pytest
import torch

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import create_model
from tenclip_training.runs.optimization import (
    Updater,
    build_optimizer,
    resolve_precision,
)
from tenclip_training.runs.sections import Algorithm, OptimizerConfig


def test_precision_auto_is_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == "fp32"
    for capability, expected in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capability: c)
        assert resolve_precision("auto", cpu) == expected


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


def test_exact_recipes_switch_off_what_the_papers_do_not_do() -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    plain = build_optimizer(model, OptimizerConfig(nesterov=False, decay_all=True, weight_decay=0.1))
    assert [g["weight_decay"] for g in plain.param_groups if g["params"]] == [0.1]
    assert not any(g["nesterov"] for g in plain.param_groups)
