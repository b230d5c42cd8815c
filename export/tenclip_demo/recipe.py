"""How the demo trains: `demo_recipe`, stretched or cut to the number of videos."""

from __future__ import annotations

import math
from pathlib import Path

from tenclip_demo.videos import DemoVideos
from tenclip_training.recipes.demo import demo_recipe
from tenclip_training.runs.config import TrainConfig

STEPS = 1500  # a network needs them, however few videos there are
FEWEST_EPOCHS, MOST_EPOCHS = 12, 120


def training_config(videos: DemoVideos, out: Path, *, quick: bool, seed: int) -> TrainConfig:
    """The run of the demo. With quick, two epochs of a network of half the width."""
    recipe = demo_recipe(videos.manifest, out, val_split=videos.val_split, seed=seed)
    if quick:
        return recipe.changed(epochs=2, warmup_epochs=0.0, val_every=1, model={**recipe.model, "width": 8})
    epochs = epochs_for(videos.facts.train_videos, recipe.batch_size)
    return recipe.changed(
        epochs=epochs,
        warmup_epochs=epochs / 10,
        # For the curve on the page; the last epoch's weights are taken, whatever it says.
        val_every=max(1, epochs // 10),
    )


def epochs_for(num_videos: int, batch_size: int) -> int:
    """The number of epochs that gives about `STEPS` steps, within bounds.

    >>> epochs_for(592, 16), epochs_for(40, 16), epochs_for(100_000, 16)
    (41, 120, 12)
    """
    return min(max(round(STEPS / math.ceil(num_videos / batch_size)), FEWEST_EPOCHS), MOST_EPOCHS)
