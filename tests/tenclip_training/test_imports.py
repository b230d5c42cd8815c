"""What a training process brings along: every reader, every process of torchrun and every command waits for it."""

from __future__ import annotations

import pytest

from tests.tenclip_client.test_imports import modules_after

SLOW = {"sklearn", "scipy", "pandas"}  # for scores at the end of some evaluations


@pytest.mark.parametrize("module", ["runs.train", "distill.run", "evaluation.evaluate", "sampler.run"])
def test_statistics_come_where_they_are_needed(module: str) -> None:
    loaded = modules_after(f"import tenclip_training.{module}")
    assert "torch" in loaded
    assert loaded & SLOW == set()
