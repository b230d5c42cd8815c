"""Recipes: functions that return the TrainConfig of a run worth repeating."""

from __future__ import annotations

from pathlib import Path

from tenclip_training.data.augment import Augmentation
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.sections import OptimizerConfig, ScheduleConfig
from tenclip_video.spec import ClipSpec, Resize


def demo_recipe(manifest: Path | str, out: Path | str, *, val_split: str | None = None, seed: int = 0) -> TrainConfig:
    """A narrow R(2+1)D-10 from scratch, in minutes on two cores: what `tenclip demo` trains.

    For a few hundred videos of simple motions, such as `tenclip synth` makes. Half a second at 15 frames a second is
    enough to tell those apart, and one rate for all videos makes a speed the same number of pixels a frame in each.
    The videos never come twice alike: a random half second of each in every epoch, and a random crop of 56x56 of 64x86.
    """
    return TrainConfig(
        manifest=str(manifest),
        out=str(out),
        val_split=val_split,
        architecture="r2plus1d_10",
        model={"width": 16},
        clip_spec=ClipSpec(
            num_frames=8,
            target_fps=15.0,
            resize=Resize(height=64, width=86),
            crop=56,
            fully_convolutional_crop=64,
        ),
        augmentation=Augmentation(),
        epochs=30,
        batch_size=16,
        optimizer=OptimizerConfig(algorithm="adamw", lr=0.002, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=3.0),
        val_every=5,
        cache_gib=2.0,
        seed=seed,
    )
