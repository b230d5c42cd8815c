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

# Normalised clips, float32 [B,3,T,H,W] -> (logits [B,K,P], features [B,D]), under the run's autocast.
Network = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Inputs:
    """A batch on the device. clips: float32 [B,3,T,H,W], normalised; targets: float32 [B,K], each row sums to 1."""

    clips: Tensor
    targets: Tensor


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
        logits = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = F.cross_entropy(logits, inputs.targets, label_smoothing=self.label_smoothing)
        best = logits.argmax(1, keepdim=True)  # [B,1]
        return loss, inputs.targets.gather(1, best).gt(0).sum().float()


@dataclass(frozen=True)
class HeadsClassification:
    """The sum over H heads of the softmax cross entropy of each (EPIC-KITCHENS: a verb and a noun).

    A clip has one class of each head, 1/H at each in its row of targets. It is right when every head is.
    A row may have classes of some heads only, where one of its H labels is drawn at each visit: the mean over visits is
    the same, and only heads with a class are asked to be right.
    """

    heads: Heads
    label_smoothing: float = 0.0

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        logits, _ = network(inputs.clips)
        logits = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = logits.new_zeros(())
        right = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        parts = zip(self.heads.split(logits, axis=1), self.heads.split(inputs.targets, axis=1), strict=True)
        for of_head, targets in parts:
            share = targets * len(self.heads.heads)  # rows sum to 1
            loss = loss + F.cross_entropy(of_head, share, label_smoothing=self.label_smoothing)
            best = of_head.argmax(1, keepdim=True)  # [B,1]
            right &= targets.gather(1, best).gt(0).squeeze(1) | targets.sum(1).eq(0)
        return loss, right.sum().float()
