"""The recipe of `tenclip demo`."""

from __future__ import annotations

from pathlib import Path

from tenclip_training.recipes.recipe import Recipe
from tenclip_training.runs.config import TrainConfig

DEMO = Recipe(
    name="demo",
    paper="tenclip",
    place="`tenclip demo`",
    summary="a narrow R(2+1)D-10 from scratch on a few hundred videos of simple motions",
    gpus=1,
    values={
        "architecture": "r2plus1d_10",
        "model": {"width": 16, "stem_pool": True},
        "num_frames": 8,
        "target_fps": 15.0,
        "resize": (64, 86),
        "crop": 56,
        "fully_convolutional_crop": 64,
        "epochs": 30,
        "batch_size": 16,
        "algorithm": "adamw",
        "lr": 0.002,
        "weight_decay": 0.05,
        "warmup_epochs": 3.0,
        "val_every": 5,
    },
    ours=("everything",),
)


def demo_recipe(manifest: Path | str, out: Path | str, *, val_split: str | None = None, seed: int = 0) -> TrainConfig:
    """A narrow R(2+1)D-10 from scratch, in minutes on two cores: what `tenclip demo` trains.

    For a few hundred videos of simple motions, such as `tenclip synth` makes. Half a second at 15 frames a second is
    enough to tell those apart, and one rate for all videos makes a speed the same number of pixels a frame in each.
    The max pool behind the stem (`use_pool1` of the authors' code) leaves a third of the operations.
    The videos never come twice alike: a random half second of each in every epoch, and a random crop of 56x56 of 64x86.
    """
    return DEMO(manifest, out).changed(val_split=val_split, seed=seed)
