from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import create_model
from tenclip_training.runs.config import Optimizer, TrainConfig
from tenclip_training.runs.optimization import (
    build_optimizer,
    learning_rate_at,
    resolve_precision,
    warmup_then_cosine,
)


def test_precision_auto_is_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == "fp32"
    for capability, expected in (({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({}, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capability: c)
        assert resolve_precision("auto", cpu) == expected


def test_learning_rate_climbs_then_falls() -> None:
    config = TrainConfig(manifest="m", out="o", epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate_at(step, 5, config) for step in range(50)]
    assert np.all(np.diff(rates[:10]) > 0)
    assert rates[10] == 1.0
    assert np.all(np.diff(rates[10:]) < 0)
    assert rates[30] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01
    flat = dataclasses.replace(config, warmup_epochs=0)
    assert learning_rate_at(0, 5, flat) == 1.0


@given(warmup=st.integers(0, 20), rest=st.integers(1, 50), peak=st.floats(1e-6, 10))
def test_a_schedule_never_leaves_zero_to_peak(warmup: int, rest: int, peak: float) -> None:
    total = warmup + rest
    rates = [warmup_then_cosine(s, peak=peak, warmup_steps=warmup, total_steps=total) for s in range(total + 1)]
    assert all(0 <= r <= peak for r in rates)
    assert rates[warmup] == peak
    assert rates[-1] == pytest.approx(0, abs=peak * 1e-12)


def test_weight_decay_leaves_norms_and_biases_alone() -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    kinds: tuple[Optimizer, ...] = ("sgd", "adamw")
    for kind in kinds:
        config = TrainConfig(manifest="m", out="o", optimizer=kind, weight_decay=0.1)
        decayed, others = build_optimizer(model, config).param_groups
        assert decayed["weight_decay"] == 0.1
        assert others["weight_decay"] == 0
        assert all(p.ndim > 1 for p in decayed["params"])
        assert all(p.ndim == 1 for p in others["params"])
        assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_half_precision_is_not_for_processors() -> None:
    with pytest.raises(InvalidRequest, match="fp16 needs a GPU"):
        resolve_precision("fp16", torch.device("cpu"))
