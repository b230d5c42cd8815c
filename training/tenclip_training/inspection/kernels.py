"""The first kernels of a network as pictures, and how much they vary over time (DistInit, figures 3 and 4).

O filters over C channels, t frames and k x k pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import nn

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import VideoModel

TILE = 36  # pixels of a filter's picture, about
COLUMNS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernels:
    """Weights of one convolution: float32 [O,C,t,k,k]. name: of its module."""

    name: str
    weights: NDArray[np.float32]

    @property
    def temporal_variance(self) -> float:
        """The mean over all weights of their variance over time; 0 exactly where kernels were repeated."""
        # Of the differences from the first frame: those of equal numbers are exactly 0.
        moved = self.weights.astype(np.float64) - self.weights[:, :, :1]
        return float(moved.var(axis=2).mean())

    @property
    def temporal_share(self) -> float:
        """That, as a part of the mean square of the weights: 0 for copies, up to 1 for a mean of 0 over time."""
        power = float((self.weights.astype(np.float64) ** 2).mean())
        return self.temporal_variance / power if power else 0.0

    @property
    def shape_in_words(self) -> str:
        filters, channels, time, height, width = self.weights.shape
        return f"{filters} filters of {time}x{height}x{width} over {channels} channels"


def first_kernels(model: VideoModel) -> tuple[Kernels, Kernels | None]:
    """(the first convolution, the first one over time where that is another one, as in a (2+1)D network).

    Raises InvalidRequest for a network without convolutions.
    """
    found = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv3d)]
    if not found:
        raise InvalidRequest(f"{model.architecture} has no convolutions to show")
    over_time = next((pair for pair in found if pair[1].kernel_size[0] > 1), None)
    if over_time is None or over_time[0] == found[0][0]:
        return _kernels(*found[0]), None
    return _kernels(*found[0]), _kernels(*over_time)


def _kernels(name: str, part: nn.Conv3d) -> Kernels:
    return Kernels(name=name, weights=part.weight.detach().cpu().float().numpy())


def pictures(kernels: Kernels) -> list[NDArray[np.uint8]]:
    """One picture for each frame of the kernels, uint8 RGB [H,W,3], with all filters in rows.

    The brightness of a filter is stretched over all its frames together, so that what differs between them shows. Three
    channels are red, green and blue; others are averaged.
    """
    weights = kernels.weights
    if weights.shape[1] != 3:
        weights = weights.mean(1, keepdims=True).repeat(3, 1)
    low = weights.min((1, 2, 3, 4), keepdims=True)
    span = weights.max((1, 2, 3, 4), keepdims=True) - low
    tiles = ((weights - low) / np.where(span > 0, span, 1) * 255).round().astype(np.uint8)
    return [_sheet(tiles[:, :, frame].transpose(0, 2, 3, 1)) for frame in range(tiles.shape[2])]


def _sheet(tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[O,k,k,3] -> [H,W,3]: enlarged, with a margin of white."""
    size = max(1, TILE // tiles.shape[1]) * tiles.shape[1]
    columns = min(COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.full((rows * (size + 2) + 2, columns * (size + 2) + 2, 3), 255, np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        top, left = 2 + row * (size + 2), 2 + column * (size + 2)
        enlarged = cv2.resize(np.ascontiguousarray(tile), (size, size), interpolation=cv2.INTER_NEAREST)
        sheet[top : top + size, left : left + size] = enlarged
    return sheet
