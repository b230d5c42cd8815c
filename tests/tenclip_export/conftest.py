"""One small trained-looking model and one bundle of it, shared by all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenclip_export import speed
from tenclip_export.bundle_writer import export_bundle
from tenclip_export.parity import Row
from tenclip_training.models import VideoModel, create_model
from tenclip_video.bundle import Bundle
from tenclip_video.spec import ClipSpec, Resize

LABELS = ("wave", "jump", "läuft & springt")


@pytest.fixture(scope="session")
def spec() -> ClipSpec:
    return ClipSpec(
        num_frames=8,
        resize=Resize(height=40, width=52),
        crop=32,
        fully_convolutional_crop=40,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
    )


def make_model(seed: int = 0, num_classes: int = len(LABELS)) -> VideoModel:
    """A small R(2+1)D whose BN layers have seen data: with fresh statistics, folding them would prove nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = create_model("r2plus1d_10", num_classes=num_classes, width=8, num_frames=8, crop=32)
        with torch.no_grad():
            for part in model.modules():
                if isinstance(part, torch.nn.BatchNorm3d):
                    torch.nn.init.uniform_(part.weight, 0.5, 1.5)
                    torch.nn.init.uniform_(part.bias, -0.2, 0.2)
            torch.nn.init.normal_(model.fc.weight)
            for _ in range(20):
                model(torch.randn(4, 3, 8, 32, 32))
    return model.eval()


@pytest.fixture(scope="session")
def model() -> VideoModel:
    return make_model()


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """The parity table of `bundle`; filled when that is made."""
    return []


@pytest.fixture(scope="session")
def bundle(model: VideoModel, spec: ClipSpec, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out: Path = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "MIN_SECONDS", 0.0)
        return export_bundle(
            model, spec, out, name="moves", labels=LABELS, provenance={"run": "test"}, measure=True, on_row=rows.append
        )
