"""What a training process brings along: every reader, every process of torchrun and every command waits for it."""

from __future__ import annotations

from tests.tenclip_client.test_imports import modules_after

SLOW = {"sklearn", "scipy", "pandas"}  # for scores at the end of some evaluations


def test_statistics_come_where_they_are_needed() -> None:
    modules = ("runs.train", "distill.run", "evaluation.evaluate", "sampler.run")
    loaded = modules_after("import " + ", ".join(f"tenclip_training.{module}" for module in modules))
    assert "torch" in loaded
    assert loaded & SLOW == set()
