"""A world in which a class is a colour, and teachers that have learned it in a second."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from tenclip_training.models import create_model
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_training.curation.helpers import write_frames

COLORS = {"blue": (40, 60, 200), "green": (50, 190, 60), "red": (200, 50, 40)}
CLASSES = tuple(COLORS)
GREY = (128, 128, 128)


def painted(color: tuple[int, int, int], seed: int, height: int = 36, width: int = 48) -> NDArray[np.uint8]:
    """One colour with some noise: uint8 RGB [H,W,3]."""
    noise = np.random.default_rng(seed).integers(-25, 26, (height, width, 3))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)


def teacher_spec(*, frames: int = 1, crop: int = 32, color_order: str = "rgb") -> ClipSpec:
    return ClipSpec(
        num_frames=frames,
        resize=Resize(height=crop + 4, width=crop + 8),
        crop=crop,
        fully_convolutional_crop=None,
        color_order=color_order,  # type: ignore[arg-type]
    )


def train_teacher(
    path: Path, *, architecture: str = "r2d_18", labels: Sequence[str] = CLASSES, steps: int = 30, **spec: Any
) -> Path:
    """A checkpoint of a small network that tells the colours apart, in the order of `labels`."""
    given = teacher_spec(**spec)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = create_model(architecture, num_classes=len(labels), width=8, num_frames=given.num_frames, crop=given.crop)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(steps):
        classes = rng.integers(0, len(labels), 12)
        pixels = [
            painted(COLORS[labels[c]], int(rng.integers(1 << 30)), given.crop, given.crop) for c in classes.tolist()
        ]
        clips = np.repeat(np.stack(pixels)[:, None], given.num_frames, axis=1)
        if given.color_order == "bgr":
            clips = clips[..., ::-1].copy()
        logits, _ = model(normalise(torch.from_numpy(clips), given))
        loss = F.cross_entropy(logits.mean(2), torch.from_numpy(classes))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    save_checkpoint(path, model, clip_spec=given, labels=tuple(labels), provenance={})
    return path


def write_images(folder: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    """A manifest of images. rows: (what it was asked for, what it shows: a class or off_topic, its source)."""
    table = []
    (folder / "images").mkdir(parents=True)
    for i, (label, shows, source) in enumerate(rows):
        name = f"images/{i:03d}.png"
        Image.fromarray(painted(COLORS.get(shows, GREY), i)).save(folder / name)
        table.append({"path": name, "label": label, "true_label": shows, "source": source})
    return write_table(folder / "web.csv", table)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_video(path: Path, colors: Sequence[str], *, seconds_each: float = 1.0, fps: int = 8) -> Path:
    """A video of one colour after the other."""
    count = round(seconds_each * fps)
    frames = [painted(COLORS.get(c, GREY), 1000 * i + j) for i, c in enumerate(colors) for j in range(count)]
    return write_frames(path, np.stack(frames), fps=fps)
