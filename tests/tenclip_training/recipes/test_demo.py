from __future__ import annotations

import math
from pathlib import Path

from tenclip_training.recipes.demo import demo_recipe
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.train import train


def test_the_demo_recipe_runs_on_generated_videos(validated_videos: Path, tmp_path: Path) -> None:
    """That it reaches 90% in minutes is for `tenclip demo` to show; here only that it is whole."""
    config = demo_recipe(validated_videos, tmp_path / "run").changed(epochs=1, warmup_epochs=0.0)
    result = train(config)
    assert result.completed
    assert math.isfinite(result.history[0].loss)
    assert result.evaluation is not None
    assert result.evaluation.split == "val"
    model = load_checkpoint(result.last).model
    assert (model.architecture, model.config["width"], model.feature_dim) == ("r2plus1d_10", 16, 128)


def test_the_demo_recipe_passes_its_arguments_on() -> None:
    config = demo_recipe("m.csv", "out", val_split="val", seed=5)
    assert (config.manifest, config.out, config.val_split, config.seed) == ("m.csv", "out", "val", 5)
