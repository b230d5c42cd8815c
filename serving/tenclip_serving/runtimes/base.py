"""The interface of runtimes, and the check of clips that they share.

Letters: B clips, T frames, H height, W width, K classes, P positions (1 when pooled), D features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tenclip_video.aggregate import Outputs

__all__ = ["Clips", "Outputs", "Runtime", "check_clips"]

Clips = NDArray[np.uint8]  # [B,T,H,W,3] in ClipSpec.color_order


class Runtime(Protocol):
    """Executes one model. Called from one thread at a time."""

    @property
    def name(self) -> str:
        """`onnxruntime`, `openvino`, ... : as in `bundle.json` and `--runtime`."""

    @property
    def batch_size(self) -> int:
        """The largest batch that pays off. A larger call works too."""

    def run(self, clips: Clips) -> Outputs:
        """Logits and features of B clips of one shape. Raises ValueError for anything but uint8 [B,T,H,W,3], B >= 1."""


def without_logits(features: NDArray[np.float32]) -> Outputs:
    """The outputs of a model without a classifier, whose graph gives features [B,D] only: logits are [B,0,1]."""
    return Outputs(np.empty((len(features), 0, 1), np.float32), features)


def check_clips(clips: Clips) -> None:
    """Raises ValueError for anything but uint8 [B,T,H,W,3] with B >= 1."""
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[4] != 3 or clips.shape[0] < 1:
        raise ValueError(f"clips must be uint8 [B,T,H,W,3] with B >= 1, got {clips.dtype} {clips.shape}")
