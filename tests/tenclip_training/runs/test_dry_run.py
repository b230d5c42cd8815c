from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.dry_run import plan_run, plot_text


def test_a_plan_counts_what_a_run_would_do(train_config: TrainConfig) -> None:
    plan = plan_run(train_config.changed(accumulate=2), world_size=2)
    assert (plan.train_videos, plan.clips_per_step, plan.steps_per_epoch) == (12, 16, 1)
    assert plan.trained_parameters == plan.parameters > 1000
    epochs = [epoch for epoch, _ in plan.curve()]
    assert epochs == [0, 1, 2]
    assert plan.sampling is not None
    assert (plan.sampling.scheme, plan.sampling.largest_repeats) == ("every video in turn", 1)
    balanced = plan_run(train_config.changed(class_power=0.0, draws=1200))
    assert balanced.steps_per_epoch == 300
    summary = balanced.to_dict()["sampling"]
    assert [(row["name"], row["draws"]) for row in summary["rows"]] == [("move_left", 600), ("move_right", 600)]
    assert "is seen 100 times in an epoch of 1200 clips" in summary["warning"]


def test_a_logarithmic_plot_where_rates_span_decades() -> None:
    lines = plot_text([(0, 1.0), (1, 0.1), (2, 0.01), (3, 0.001)], width=8, height=4).splitlines()
    assert [line.split("|")[0].strip() for line in lines[:4]] == ["1", "0.1", "0.01", "0.001"]
    assert [line.index("*") for line in lines[:4]] == sorted(line.index("*") for line in lines[:4])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50), st.integers(12, 80), st.integers(2, 20))
def test_a_plot_has_its_size_and_every_value(rates: list[float], width: int, height: int) -> None:
    lines = plot_text([(float(i), r) for i, r in enumerate(rates)], width=width, height=height).splitlines()
    assert len(lines) == height + 2
    assert all(len(line) <= width + 14 for line in lines)
    assert 1 <= sum(line.count("*") for line in lines) <= min(len(rates), width * height)
