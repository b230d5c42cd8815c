"""Training objectives: (a batch, the network) -> (the loss, how many clips are right).

An objective decides what is learned from a batch and nothing else: the order of the videos, the optimiser, precision
and files are the trainer's. A new training method brings an objective of its own.

B clips of T frames, H x W pixels; K classes; P positions of the classifier (1 in training).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from tenclip_training.heads import Heads
from tenclip_training.runs.sections import ObjectiveConfig

# Normalised clips, float32 [B,3,T,H,W] -> (logits [B,K,P], features [B,D]), under the run's autocast.
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch on the device. clips: float32 [B,3,T,H,W], normalised; targets: float32 [B,K].

    Each row of targets sums to 1, or is 1 at each class of the clip where sigmoids are trained. sources: int64 [B], in
    ascending order and on the CPU, where clips are of several, the target being 0.
    """

    clips: Tensor
    targets: Tensor
    sources: Tensor | None = None


class Objective(Protocol):
    """A callable that a run minimises."""

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        """(loss, correct): the mean loss of the clips, with its graph, and the number of clips that are right.

        Both are float32 scalars on the device of the inputs.
        """
        ...


@dataclass(frozen=True)
class Classification:
    """Softmax cross entropy with soft targets: one class a clip, or 1/k for each of its k.

    A clip is right when its best class is any of its own. label_smoothing: the part of each target that is spread
    evenly over all classes.
    """

    label_smoothing: float = 0.0

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        logits, _ = network(inputs.clips)
        scores = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = F.cross_entropy(scores, inputs.targets, label_smoothing=self.label_smoothing)
        return loss, count_correct(logits, inputs.targets)


@dataclass(frozen=True)
class MultiLabel:
    """The logistic loss of one sigmoid a class, with multi-hot targets; its mean over the K classes.

    IG-65M uses it for multi-label targets (section 4), and not for noisy hashtags (3.3). The mega-scale paper trains
    Mini-HVU (24.6 tags a video) with softmax and cross entropy "combined", which cannot be done as it is written;
    `with_softmax` adds the cross entropy of a softmax with 1/k at each of the k tags.
    A clip is right when its best class is any of its own.
    """

    with_softmax: bool = False
    label_smoothing: float = 0.0

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        logits, _ = network(inputs.clips)
        scores = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = F.binary_cross_entropy_with_logits(scores, inputs.targets)
        if self.with_softmax:
            soft = inputs.targets / inputs.targets.sum(1, keepdim=True)
            loss = loss + F.cross_entropy(scores, soft, label_smoothing=self.label_smoothing)
        return loss, count_correct(logits, inputs.targets)


@dataclass(frozen=True)
class HeadsClassification:
    """The sum over H heads of the softmax cross entropy of each (EPIC-KITCHENS: a verb and a noun).

    A clip has one class of each head, 1/H at each in its row of targets. It is right when every head is.
    """

    heads: Heads
    label_smoothing: float = 0.0

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        logits, _ = network(inputs.clips)
        scores = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = scores.new_zeros(())
        parts = zip(self.heads.split(scores, axis=1), self.heads.split(inputs.targets, axis=1), strict=True)
        for of_head, targets in parts:
            share = targets * len(self.heads.heads)  # rows sum to 1
            loss = loss + F.cross_entropy(of_head, share, label_smoothing=self.label_smoothing)
        return loss, self.count_correct(logits, inputs.targets)

    def count_correct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How many clips are right with every head. [B,K,P], [B,K] -> float32 scalar."""
        scores = logits.float().mean(2)
        right = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
        for of_head, classes in zip(self.heads.split(scores, axis=1), self.heads.split(targets, axis=1), strict=True):
            best = of_head.argmax(1, keepdim=True)  # [B,1]
            right &= classes.gather(1, best).gt(0).squeeze(1)
        return right.sum().float()


def build_objective(config: ObjectiveConfig, heads: Heads | None = None) -> Objective:
    """The objective of a run. heads: where the network has several."""
    if heads is not None:
        return HeadsClassification(heads, label_smoothing=config.label_smoothing)
    if config.loss == "softmax":
        return Classification(label_smoothing=config.label_smoothing)
    return MultiLabel(with_softmax=config.loss == "softmax+sigmoid", label_smoothing=config.label_smoothing)


def count_correct(logits: Tensor, targets: Tensor) -> Tensor:
    """How many clips have as their best class any of their own. [B,K,P], [B,K] -> float32 scalar."""
    best = logits.float().mean(2).argmax(1, keepdim=True)  # [B,1]
    return targets.gather(1, best).gt(0).sum().float()
