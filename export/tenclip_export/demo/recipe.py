"""How the demo trains: a network of a fiftieth of R(2+1)D-18, in a few minutes on two cores."""

from __future__ import annotations

import math
from pathlib import Path

from tenclip_export.demo.videos import DemoVideos
from tenclip_training.config import TrainConfig
from tenclip_video.spec import ClipSpec, Resize

# 16 frames of the video, every second one: at 30 frames/s half a second, enough to tell a swing from a move.
CLIP = ClipSpec(
    num_frames=8,
    frame_stride=2,
    resize=Resize(height=64, width=86),
    crop=56,
    fully_convolutional_crop=64,
)
BATCH_SIZE = 16
STEPS = 1500  # whatever the number of videos: that many, and no fewer, make a network of these motions
FEWEST_EPOCHS, MOST_EPOCHS = 12, 120


def training_config(videos: DemoVideos, out: Path, *, quick: bool, seed: int) -> TrainConfig:
    """R(2+1)D-10 of a quarter of the width, from random weights."""
    epochs = 2 if quick else epochs_for(videos.facts.train_videos)
    return TrainConfig(
        manifest=str(videos.manifest),
        out=str(out),
        val_split=videos.val_split,
        architecture="r2plus1d_10",
        model={"width": 8 if quick else 16},
        clip_spec=CLIP,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        warmup_epochs=0.0 if quick else 2.0,
        # Validation is for the curve on the page; the last epoch's weights are taken, whatever it says.
        val_every=1 if quick else max(1, epochs // 12),
        cache_gib=2.0,
        seed=seed,
    )


def epochs_for(num_videos: int) -> int:
    """As many as give `STEPS` steps, within bounds.

    >>> epochs_for(592), epochs_for(40), epochs_for(100_000)
    (41, 120, 12)
    """
    return min(max(round(STEPS / math.ceil(num_videos / BATCH_SIZE)), FEWEST_EPOCHS), MOST_EPOCHS)
