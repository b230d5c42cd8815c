"""Schedules against the papers' numbers; worked values in brackets are those of the tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.runs.schedules import Schedule, build_schedule, plateau_reductions, rates
from tenclip_training.runs.sections import OptimizerConfig, ScheduleConfig


def schedule(
    config: ScheduleConfig,
    *,
    epochs: int,
    steps_per_epoch: int = 1000,
    lr: float = 1.0,
    gpus: int = 1,
    linear: bool = False,
) -> Schedule:
    optimizer = OptimizerConfig(lr=lr, lr_scaling="linear" if linear else "none")
    return build_schedule(config, optimizer, epochs=epochs, steps_per_epoch=steps_per_epoch, world_size=gpus)


def test_table_8_of_ig65m() -> None:
    config = ScheduleConfig(kind="steps", warmup_epochs=16, warmup_start="one-gpu", lr_steps=(16, 16))
    table = schedule(config, epochs=58, lr=0.0003, gpus=64, linear=True)
    expected = {
        0: 0.0003,
        4: 0.005025,
        8: 0.00975,
        16: 0.0192,
        31.999: 0.0192,
        32: 0.00192,
        48: 0.000192,
        57.9: 0.000192,
    }
    for epoch, rate in expected.items():
        assert table.rate(round(epoch * 1000)) == pytest.approx(rate), epoch
    from_zero = schedule(
        ScheduleConfig(kind="steps", warmup_epochs=16, warmup_start="zero", lr_steps=(16, 16)),
        epochs=58, lr=0.0003, gpus=64, linear=True,
    )  # fmt: skip
    assert from_zero.rate(4000) == pytest.approx(0.0048)


@pytest.mark.parametrize(
    ("warmup", "steps", "total", "expected"),
    [
        (20, (40, 40, 40), 167, [60, 100, 140]),
        (20, (20, 20, 20), 96, [40, 60, 80]),
        (40, (40, 40, 40), 188, [80, 120, 160]),
        (0, (9, 9, 9), 27, [9, 18]),  # the third falls on the end
        (0, (6, 6), 16, [6, 12]),
        (0, (12,), 16, [12]),
    ],
)
def test_step_lists_of_tables_12_to_17(
    warmup: float, steps: tuple[float, ...], total: int, expected: list[int]
) -> None:
    found = schedule(
        ScheduleConfig(kind="steps", warmup_epochs=warmup, lr_steps=steps), epochs=total, steps_per_epoch=10
    )
    rates_ = [found.rate(s) for s in range(total * 10)]
    drops = [s / 10 for s in range(1, total * 10) if rates_[s] < rates_[s - 1]]
    assert drops == expected
    assert rates_[-1] == pytest.approx(0.1 ** len(expected))


def test_thirteen_halvings_of_490_million_clips() -> None:
    found = schedule(ScheduleConfig(kind="halvings", warmup_epochs=0), epochs=490, lr=0.192)
    expected = {34.9: 0.192, 35: 0.096, 245: 0.0015, 455: 2.34375e-5, 489.9: 2.34375e-5}
    for million, rate in expected.items():
        assert found.rate(round(million * 1000)) == pytest.approx(rate)
    assert len({found.rate(s) for s in range(0, 490_000, 100)}) == 14


def test_a_cosine_climbs_then_falls_to_zero() -> None:
    found = schedule(ScheduleConfig(warmup_epochs=2), epochs=10, steps_per_epoch=5)
    rates_ = [found.rate(s) for s in range(50)]
    assert np.all(np.diff(rates_[:10]) > 0)
    assert rates_[10] == 1.0
    assert np.all(np.diff(rates_[10:]) < 0)
    assert rates_[30] == pytest.approx(0.5)
    assert 0 < rates_[-1] < 0.01
    assert schedule(ScheduleConfig(warmup_epochs=0), epochs=10).rate(0) == 1.0
    short = schedule(ScheduleConfig(warmup_epochs=3), epochs=7, steps_per_epoch=1)
    assert [round(short.rate(s), 2) for s in range(7)] == [0.25, 0.5, 0.75, 1.0, 0.85, 0.5, 0.15]


@given(losses=st.lists(st.floats(0.01, 10), max_size=60), patience=st.integers(1, 12))
def test_plateau_is_that_of_torch(losses: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0)
    for done, loss in enumerate(losses, start=1):
        reference.step(loss)
        assert optimizer.param_groups[0]["lr"] == 0.5 ** plateau_reductions(losses[:done], patience)


def test_plateau_lowers_the_rate_of_a_run() -> None:
    flat = [1.0] + [1.1] * 30
    for rule, first, second in (("torch", 12, 23), ("literal", 11, 21)):
        config = ScheduleConfig(kind="plateau", warmup_epochs=0, plateau_rule=rule)  # type: ignore[arg-type]
        found = schedule(config, epochs=40, lr=0.003)
        seen = [found.rate(0, flat[:n]) for n in range(31)]
        assert seen[first - 1] == 0.003
        assert seen[first] == pytest.approx(0.0003)
        assert seen[second - 1] == pytest.approx(0.0003)
        assert seen[second] == pytest.approx(0.00003)


def test_linear_scaling_counts_processes_and_micro_batches() -> None:
    linear = OptimizerConfig(lr=0.0003, lr_scaling="linear", accumulate=4)
    assert rates(linear, 16) == pytest.approx((0.0003, 0.0192))
    whole = OptimizerConfig(lr=0.0192)
    assert rates(whole, 64) == pytest.approx((0.0003, 0.0192))


@given(
    kind=st.sampled_from(["cosine", "halvings", "constant", "plateau"]),
    start=st.sampled_from(["step", "one-gpu", "tenth", "zero"]),
    warmup=st.integers(0, 20), rest=st.integers(1, 50), peak=st.floats(1e-6, 10), gpus=st.integers(1, 64),
)  # fmt: skip
def test_a_schedule_never_leaves_zero_to_peak(
    kind: str, start: str, warmup: int, rest: int, peak: float, gpus: int
) -> None:
    config = ScheduleConfig(kind=kind, warmup_epochs=warmup, warmup_start=start)  # type: ignore[arg-type]
    found = schedule(config, epochs=warmup + rest, steps_per_epoch=3, lr=peak, gpus=gpus)
    assert all(0 <= found.rate(s) <= peak * (1 + 1e-12) for s in range((warmup + rest) * 3))
    if kind != "halvings":
        assert found.rate(warmup * 3) == peak


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "steps"}, "needs lr_steps"),
        ({"lr_steps": (3.0,)}, "belong to schedule steps"),
        ({"kind": "steps", "lr_steps": (3.0, 0.0)}, "above 0 epochs"),
        ({"kind": "stairs"}, "not one of cosine"),
        ({"lr_factor": 1.0}, "lr_factor"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**values)  # type: ignore[arg-type]
