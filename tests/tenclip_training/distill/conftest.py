"""Small teachers, and videos to learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tenclip_training.distill import DistillConfig, TeachingConfig
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_training.runs.sections import OptimizerConfig, ScheduleConfig
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_training.conftest import SPEC

FRAME_SPEC = ClipSpec(
    num_frames=1,
    resize=Resize(height=36, width=48),
    crop=32,
    fully_convolutional_crop=None,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
)
LABELS = ("disc", "square", "star")


def frame_model(seed: int = 0, *, num_classes: int = len(LABELS), **config: Any) -> VideoModel:
    """A small network of frames whose batch norms have seen data, and whose classes differ from frame to frame."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = create_model("r2d_18", num_classes=num_classes, width=4, **{"num_frames": 1, "crop": 32, **config})
        with torch.no_grad():
            torch.nn.init.normal_(model.fc.weight, std=3.0)
            for _ in range(10):
                model(torch.randn(8, 3, 1, 32, 32))
    return model.eval()


def save_frame_model(path: Path, model: VideoModel, spec: ClipSpec = FRAME_SPEC) -> Path:
    labels = LABELS if model.num_classes == len(LABELS) else [str(i) for i in range(model.num_classes)]
    save_checkpoint(path, model, clip_spec=spec, labels=labels, provenance={})
    return path


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network of frames, of 3 classes."""
    return save_frame_model(tmp_path_factory.mktemp("teacher") / "objects.pt", frame_model())


@pytest.fixture(scope="session")
def scene_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second one, of 5 classes and other frames."""
    spec = ClipSpec(
        num_frames=1, resize=Resize(height=24, width=32), crop=24, fully_convolutional_crop=None, color_order="bgr"
    )
    model = frame_model(1, num_classes=5, crop=24)
    return save_frame_model(tmp_path_factory.mktemp("teacher") / "scenes.pt", model, spec)


@pytest.fixture
def distill_config(action_videos: Path, teacher_file: Path, tmp_path: Path) -> Callable[..., DistillConfig]:
    """Makes configs of runs of 2 epochs of 3 steps, of the 12 training videos; values by name, as `changed` takes."""

    def make(**values: object) -> DistillConfig:
        config = DistillConfig(
            manifest=str(action_videos),
            out=str(tmp_path / "run"),
            architecture="r2plus1d_10",
            model={"width": 4},
            clip_spec=SPEC,
            epochs=2,
            batch_size=4,
            optimizer=OptimizerConfig(lr=0.02),
            schedule=ScheduleConfig(warmup_epochs=1),
            precision="fp32",
            device="cpu",
            cache_gib=0.0,
            teaching=TeachingConfig(teachers=(str(teacher_file),), teacher_runtime="torch"),
        )
        return config.changed(**values)

    return make
