"""Small encoded videos and small models for the tests of training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl  # type: ignore[import-untyped]
import torch

from tenclip_training.data.augment import Augmentation
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.sections import OptimizerConfig, ScheduleConfig
from tenclip_training.synth import SynthConfig, generate
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_training.worlds import WebWorld, make_web_world

SPEC = ClipSpec(num_frames=4, resize=Resize(height=24, width=32), crop=16, fully_convolutional_crop=24)


@pytest.fixture(scope="session")
def action_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of 2 classes with 6 training and 2 test videos each, 10 to 18 frames of 48x36."""
    config = SynthConfig(
        num_classes=2,
        videos_per_class=8,
        splits=(("train", 0.75), ("test", 0.25)),
        width=48,
        height=36,
        seconds=(0.4, 0.6),
        frame_rates=(25.0, 30.0),
    )
    return generate(config, tmp_path_factory.mktemp("actions"), workers=1)


@pytest.fixture(scope="session")
def web_world(tmp_path_factory: pytest.TempPathFactory) -> WebWorld:
    """A labelled target of 3 classes with web images, web clips and untrimmed videos of them; see `worlds`."""
    return make_web_world(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="session")
def validated_videos(action_videos: Path) -> Path:
    """`action_videos`, whose test videos are the split val."""
    return with_val_split(action_videos)


def with_val_split(manifest: Path) -> Path:
    """The manifest beside `manifest` in which the split test is called val."""
    lines = manifest.read_text().splitlines()
    column = lines[0].split(",").index("split")
    rows = [line.split(",") for line in lines[1:]]
    changed = [[*r[:column], r[column].replace("test", "val"), *r[column + 1 :]] for r in rows]
    path = manifest.with_name(f"val_{manifest.name}")
    path.write_text("".join(f"{line}\n" for line in (lines[0], *map(",".join, changed))))
    return path


@pytest.fixture
def train_config(validated_videos: Path, tmp_path: Path) -> TrainConfig:
    """A run of 3 epochs of 3 steps that takes about a second."""
    return TrainConfig(
        manifest=str(validated_videos),
        out=str(tmp_path / "run"),
        architecture="r2plus1d_10",
        model={"width": 4},
        clip_spec=SPEC,
        augmentation=Augmentation(scale=(0.7, 1.0), flip=False, brightness=0.2),
        epochs=3,
        batch_size=4,
        optimizer=OptimizerConfig(lr=0.02),
        schedule=ScheduleConfig(warmup_epochs=1),
        val_every=3,
        val_protocol="center-clip",
        precision="fp32",
        device="cpu",
        cache_gib=0.0,
    )


def write_bytes_as_video(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def broken_manifest(action_videos: Path, tmp_path: Path) -> Path:
    """`action_videos` with an empty training file, and a test file that is text."""
    folder = action_videos.parent
    broken = write_bytes_as_video(tmp_path / "broken" / "empty.mp4", b"")
    text = write_bytes_as_video(tmp_path / "broken" / "text.mp4", b"not a video\n" * 100)
    lines = action_videos.read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    entries = [(str(folder / r["path"]), r["label"], r["split"]) for r in rows]
    entries += [(str(broken), entries[0][1], "train"), (str(text), entries[0][1], "test")]
    manifest = tmp_path / "broken.csv"
    manifest.write_text("path,label,split\n" + "".join(f"{','.join(e)}\n" for e in entries))
    return manifest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models as small as these gain nothing from more, and waiting threads take time from whatever else runs."""
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def _no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if name in os.environ:
            monkeypatch.delenv(name)
