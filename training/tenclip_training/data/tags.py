"""From the k labels of a video to its target [K]: softmax over one tag or over all of them, or a sigmoid for each.

IG-65M (section 3.3) gives a video with several hashtags one of them at random and trains a softmax; it does not say
whether anew at each visit. `draw` does so at each visit, `fixed` once for all. `soft` is the 1/k of images with
hashtags (Mahajan et al. 2018): the same gradient in expectation, with less variance. `multi-hot` is for one sigmoid a
class: IG-65M fine-tunes on multi-label targets with it, and not on hashtags, citing that it suffers from their noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tenclip_training.data.random_streams import Stream, stream

if TYPE_CHECKING:  # settings need the names of this module, and no torch
    from tenclip_training.data.samplers import Draw

# How one clip is given a target of a softmax.
Tags = Literal["soft", "draw", "fixed"]
TargetKind = Literal["soft", "draw", "fixed", "multi-hot"]


def soft_target(labels: Sequence[int], num_classes: int) -> NDArray[np.float32]:
    """The soft target [K] of a video with k labels: 1/k at each of them, so that it sums to 1.

    >>> soft_target([0, 2], 4).tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    row = np.zeros(num_classes, np.float32)
    row[list(labels)] = 1 / len(labels)
    return row


def multi_hot_target(labels: Sequence[int], num_classes: int) -> NDArray[np.float32]:
    """The target [K] of one sigmoid a class: 1 at each label of the video, 0 elsewhere.

    >>> multi_hot_target([0, 2], 4).tolist()
    [1.0, 0.0, 1.0, 0.0]
    """
    row = np.zeros(num_classes, np.float32)
    row[list(labels)] = 1
    return row


def drawn_tag(labels: Sequence[int], *, seed: int, visit: int, index: int) -> int:
    """One of the labels, each with the same probability, anew at each visit of the video (IG-65M, 3.3)."""
    if len(labels) == 1:
        return labels[0]
    return labels[int(stream(Stream.DRAWN_TAG, seed, visit, index).integers(len(labels)))]


def fixed_tag(labels: Sequence[int], *, seed: int, index: int) -> int:
    """One of the labels, each with the same probability, the same one whenever the video is visited."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(Stream.FIXED_TAG,)))
    bits.advance(index)
    return labels[int(np.random.Generator(bits).random() * len(labels))]


def fixed_tags(labels: Sequence[Sequence[int]], *, seed: int) -> list[tuple[int]]:
    """`fixed_tag` of each video, for many videos at once."""
    numbers = stream(Stream.FIXED_TAG, seed).random(len(labels))
    return [(tags[int(number * len(tags))],) for tags, number in zip(labels, numbers.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The targets of a run. A draw that names its class (see `ClassSampler`) has that one as its drawn or fixed tag."""

    kind: TargetKind = "soft"
    num_classes: int
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(TargetKind):
            raise ValueError(f"targets {self.kind!r} is not one of {', '.join(get_args(TargetKind))}")

    def __call__(self, labels: Sequence[int], draw: Draw) -> NDArray[np.float32]:
        """The target of one visit of a video with these labels: float32 [K]."""
        if self.kind == "soft":
            return soft_target(labels, self.num_classes)
        if self.kind == "multi-hot":
            return multi_hot_target(labels, self.num_classes)
        if draw.label is not None:
            tag = draw.label
        elif self.kind == "draw":
            tag = drawn_tag(labels, seed=self.seed, visit=draw.visit, index=draw.sample)
        else:
            tag = fixed_tag(labels, seed=self.seed, index=draw.sample)
        return multi_hot_target([tag], self.num_classes)
