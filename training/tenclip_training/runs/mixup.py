"""Mixup: a batch learns from blends of pairs of its clips (Zhang et al. 2018; OmniSource, section 3.6).

x = lambda x1 + (1 - lambda) x2, the targets alike; lambda ~ Beta(alpha, alpha), one a batch (a micro-batch where these
are accumulated), and the pairs are the batch beside a random permutation of it. What is blended are normalised clips.

Nothing lives on from step to step: lambda and the pairs come from torch's generator on the CPU, which the trainer seeds
with (seed, step, number of the micro-batch among those of all processes) before each micro-batch.

B clips, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tenclip_training.runs.objectives import Inputs, Network, Objective, count_correct


def blend(inputs: Inputs, share: float, order: Tensor) -> Inputs:
    """`share` of each clip and target, and the rest of the one at its place in `order`, a permutation int64 [B].

    >>> pair = Inputs(clips=torch.zeros(2, 3, 1, 1, 1), targets=torch.eye(3)[[0, 2]])
    >>> blend(pair, 0.25, torch.tensor([1, 0])).targets[0].tolist()
    [0.25, 0.0, 0.75]
    """
    return Inputs(
        clips=share * inputs.clips + (1 - share) * inputs.clips[order],
        targets=share * inputs.targets + (1 - share) * inputs.targets[order],
    )


@dataclass(frozen=True)
class Mixup:
    """An objective on blended pairs. alpha: of the Beta distribution; 1 is uniform, near 0 hardly blends.

    A blend is right by lambda where its best class is one of the first clip, and by 1 - lambda where it is one of the
    second (as in Zhang et al.'s code), so that `correct` need not be whole: it is the mean over the clips that were
    blended, and below what the network would have on the clips themselves.
    """

    objective: Objective
    alpha: float
    count: Callable[[Tensor, Tensor], Tensor] = count_correct  # clips that are right, of logits and targets

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        order = torch.randperm(len(inputs.clips)).to(inputs.clips.device)
        seen: list[Tensor] = []

        def watched(clips: Tensor) -> tuple[Tensor, Tensor]:
            logits, features = network(clips)
            seen.append(logits)
            return logits, features

        loss, _ = self.objective(blend(inputs, share, order), watched)
        first, second = self.count(seen[0], inputs.targets), self.count(seen[0], inputs.targets[order])
        return loss, share * first + (1 - share) * second


def with_mixup(objective: Objective, alpha: float) -> Objective:
    """The objective on blended pairs; itself where alpha is 0."""
    if alpha == 0:
        return objective
    return Mixup(objective, alpha, getattr(objective, "count_correct", count_correct))
