"""Test protocols: how clips and views of a video are chosen, and how their scores become one prediction.

The same names mean the same thing in evaluation, serving and batch jobs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_video.sampling import ClipSelection

CropMode = Literal["center", "three"]
# What is averaged over positions, views and clips.
Averaging = Literal["probabilities", "logits", "vmz_joint"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A named test protocol.

    `crop`: "center", or "three" views along the longer side. `fully_convolutional` crops to
    `ClipSpec.fully_convolutional_crop` instead of `ClipSpec.crop`.
    """

    name: str
    description: str
    selection: ClipSelection = field(default_factory=ClipSelection)
    crop: CropMode = "center"
    fully_convolutional: bool = False
    averaging: Averaging = "probabilities"


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol(name="ten-clip", description="10 uniform clips, centre crop, softmax of each, averaged (IG-65M)"),
        Protocol(
            name="fully-convolutional",
            description="10 uniform clips, larger crop, softmax at each position, averaged (IG-65M, section 4.4)",
            fully_convolutional=True,
        ),
        Protocol(
            name="center-clip",
            description="the clip in the middle, centre crop",
            selection=ClipSelection(mode="center", num_clips=1),
        ),
        Protocol(
            name="sliding-window",
            description="every non-overlapping window, centre crop, softmax of each, averaged",
            selection=ClipSelection(mode="windows"),
        ),
        Protocol(
            name="salient-clips",
            description="the 10 windows with the highest salience, centre crop, averaged (IG-65M, SCSampler)",
            selection=ClipSelection(mode="salient"),
        ),
    )
}
DEFAULT_PROTOCOL = "ten-clip"


def softmax(logits: NDArray[np.float32], axis: int | tuple[int, ...] = -1) -> NDArray[np.float32]:
    """Softmax that does not overflow."""
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=axis, keepdims=True)
    return result


def clip_probabilities(logits: NDArray[np.float32], averaging: Averaging) -> NDArray[np.float32]:
    """[B, K, P] logits of clips over positions -> [B, K] scores of each clip.

    `vmz_joint` is one softmax over classes and positions together; its scores sum to 1/P, ranks are unaffected.
    """
    if averaging == "logits":
        return softmax(logits.mean(axis=2), axis=1)
    axes: int | tuple[int, ...] = (1, 2) if averaging == "vmz_joint" else 1
    scores: NDArray[np.float32] = softmax(logits, axis=axes).mean(axis=2)
    return scores


def video_probabilities(logits: NDArray[np.float32], averaging: Averaging) -> NDArray[np.float32]:
    """[B, K, P] logits of every clip and view of one video -> [K]."""
    if averaging == "logits":
        return softmax(logits.mean(axis=(0, 2)))
    result: NDArray[np.float32] = clip_probabilities(logits, averaging).mean(axis=0)
    return result
