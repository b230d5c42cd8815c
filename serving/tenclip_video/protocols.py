"""Test protocols: the choice of clips and crops of a video, and the averaging of their scores to one prediction.

The same names mean the same thing in evaluation, serving and batch jobs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec

# three: MMAction2's order and rounding; three-pyslowfast: PySlowFast's.
CropMode = Literal["center", "three", "three-pyslowfast"]
# What is averaged over positions, views and clips.
Averaging = Literal["probabilities", "logits", "vmz_joint"]
# What makes scores of logits: classes that exclude one another, or independent ones (several labels a video).
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A test protocol: which clips of a video are taken, which crops of each, and how their scores are averaged.

    selection: the clips, ten uniform ones by default.
    crop: "center", or one of the kinds of three views along the longer side.
    fully_convolutional: crop to `ClipSpec.fully_convolutional_crop` instead of `ClipSpec.crop`.
    short_edge: scale the shorter side to the smaller side of a squashing spec instead of squashing ("SE" in the tables
    of the IG-65M paper).

    `read_clips(source, spec, protocol)` does the first two, `aggregate(outputs, protocol.averaging, views=...)` the
    last.

    >>> Protocol(selection=ClipSelection(num_clips=3), crop="three").num_planned
    9
    """

    name: str = "custom"
    description: str = ""
    selection: ClipSelection = field(default_factory=ClipSelection)
    crop: CropMode = "center"
    fully_convolutional: bool = False
    averaging: Averaging = "probabilities"
    short_edge: bool = False

    @property
    def views(self) -> int:
        """Crops of each clip."""
        return 1 if self.crop == "center" else 3

    @property
    def num_planned(self) -> int | None:
        """Clips times views, as they reach the network; None where only the video's length tells."""
        selection = self.selection
        if selection.mode == "center":
            return self.views
        if selection.mode == "windows" or selection.rule == "3d-resnets":  # that rule takes every window in any mode
            return None
        return selection.num_clips * self.views

    @property
    def max_planned(self) -> int | None:
        """The most that `num_planned` can turn out to be; None where the selection has no limit either."""
        if self.num_planned is not None:
            return self.num_planned
        limit = self.selection.max_clips
        return None if limit is None else limit * self.views

    def apply(self, spec: ClipSpec) -> ClipSpec:
        """The spec with the resize that this protocol uses. Applying it again changes nothing."""
        if not self.short_edge or spec.resize.mode != "squash":
            return spec
        edge = min(spec.resize.height, spec.resize.width)
        return replace(spec, resize=replace(spec.resize, mode="short_edge", short_edge=edge))

    def crop_side(self, spec: ClipSpec) -> int:
        """Side of the square crop. Raises InvalidRequest for a fully-convolutional protocol on a spec without one."""
        if not self.fully_convolutional:
            return spec.crop
        if spec.fully_convolutional_crop is None:
            raise InvalidRequest("this model has no fully-convolutional crop; ask for pooled prediction")
        return spec.fully_convolutional_crop


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
            name="fully-convolutional-se",
            description="the same on frames whose short edge is scaled, aspect ratio kept (IG-65M, SE)",
            fully_convolutional=True,
            short_edge=True,
        ),
        Protocol(
            name="vmz-joint",
            description="as fully-convolutional, with one softmax over classes and positions (VMZ, Caffe2)",
            fully_convolutional=True,
            averaging="vmz_joint",
        ),
        Protocol(
            name="vmz-logits",
            description="10 uniform clips, centre crop, logits averaged (VMZ, PyTorch)",
            averaging="logits",
        ),
        Protocol(
            name="torchvision-5",
            description="5 uniform clips, centre crop, softmax of each, averaged (torchvision's video level)",
            selection=ClipSelection(num_clips=5),
        ),
        Protocol(
            name="mmaction2-10x3",
            description="10 clips x 3 crops, softmax of each, averaged (MMAction2)",
            selection=ClipSelection(rule="mmaction2"),
            crop="three",
        ),
        Protocol(
            name="mmaction2-10x3-logits",
            description="10 clips x 3 crops, logits averaged (networks of single frames on clips, MMAction2)",
            selection=ClipSelection(rule="mmaction2"),
            crop="three",
            averaging="logits",
        ),
        Protocol(
            name="vmz-10x3",
            description="10 clips x 3 larger crops, softmax at each position, averaged (VMZ's CSN)",
            crop="three",
            fully_convolutional=True,
        ),
        Protocol(
            name="pyslowfast-10x3",
            description="10 clips x 3 crops, softmax of each, averaged (PySlowFast)",
            selection=ClipSelection(rule="pyslowfast"),
            crop="three-pyslowfast",
        ),
        Protocol(
            name="pytorchvideo-10x3",
            description="10 clips by seconds x 3 crops, softmax of each, averaged (pytorchvideo)",
            selection=ClipSelection(rule="pytorchvideo"),
            crop="three-pyslowfast",
        ),
        Protocol(
            name="3d-resnets",
            description="every window of the clip's length, centre crop, softmax of each, averaged (3D-ResNets)",
            selection=ClipSelection(mode="windows", rule="3d-resnets"),
        ),
        Protocol(
            name="tsn-3",
            description="3 segments, centre crop, logits averaged (TSN)",
            selection=ClipSelection(num_clips=3, rule="tsn"),
            averaging="logits",
        ),
        Protocol(
            name="tsn-25",
            description="25 segments x 3 crops, logits averaged (TSN, MMAction2)",
            selection=ClipSelection(num_clips=25, rule="tsn"),
            crop="three",
            averaging="logits",
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
    """Softmax that does not overflow. Of no classes at all (a model without a classifier) it is empty."""
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True, initial=-np.inf))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=axis, keepdims=True)
    return result


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(logits))
    result: NDArray[np.float32] = np.where(logits >= 0, 1 / (1 + small), small / (1 + small))
    return result


def clip_probabilities(
    logits: NDArray[np.float32], averaging: Averaging, activation: Activation = "softmax"
) -> NDArray[np.float32]:
    """[B, K, P] logits of clips over positions -> [B, K] scores of each clip.

    `vmz_joint` is one softmax over classes and positions together; its scores sum to 1/P, ranks are unaffected.
    Raises ValueError for `vmz_joint` with sigmoids, which have no sum to share.
    """
    if averaging == "vmz_joint":
        if activation != "softmax":
            raise ValueError("vmz_joint is one softmax over classes and positions: a model of sigmoids has none")
        joint: NDArray[np.float32] = softmax(logits, axis=(1, 2)).mean(axis=2)
        return joint
    activate = softmax if activation == "softmax" else _sigmoid_of_classes
    if averaging == "logits":
        return activate(logits.mean(axis=2), axis=1)
    scores: NDArray[np.float32] = activate(logits, axis=1).mean(axis=2)
    return scores


def video_probabilities(
    logits: NDArray[np.float32], averaging: Averaging, activation: Activation = "softmax"
) -> NDArray[np.float32]:
    """[B, K, P] logits of every clip and view of one video -> [K]. Raises as `clip_probabilities`."""
    if averaging == "logits":
        mean = logits.mean(axis=(0, 2))
        return softmax(mean) if activation == "softmax" else sigmoid(mean)
    result: NDArray[np.float32] = clip_probabilities(logits, averaging, activation).mean(axis=0)
    return result


def _sigmoid_of_classes(logits: NDArray[np.float32], axis: int | tuple[int, ...]) -> NDArray[np.float32]:
    """Each class by itself, whatever the axis."""
    return sigmoid(logits)
