"""The objective of distillation: the student's heads come near the teachers' outputs (DistInit, equations 2 and 3).

B clips; K_i classes of teacher i, one linear head each. The heads are the rows of one linear layer, in the order of the
teachers: a layer of K_1 + K_2 rows is two layers of K_1 and K_2 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tenclip_training.distill.choices import DistillLoss, Normaliser
from tenclip_training.runs.objectives import Inputs, Network


@dataclass(frozen=True, kw_only=True)
class HeadLoss:
    """The loss of one head.

    classes: K_i. weight: of this teacher in the sum (eq. 3 has 1 for all). kind: soft cross entropy (eq. 2), or the
    mean squared error of logits, whose mean is over classes; the paper trains that with a tenth of the rate.
    temperature: of the teacher's softmax. The student's has none, as in eq. 2; `student_temperature` gives it one.
    threshold: of the teacher's entropy in nats, from which on a clip weighs nothing; None keeps all.
    normaliser: the mean is over the clips that are kept, or over all, which halves the rate where half are dropped.
    """

    classes: int
    weight: float = 1.0
    kind: DistillLoss = "cross-entropy"
    temperature: float = 1.0
    student_temperature: float = 1.0
    threshold: float | None = None
    normaliser: Normaliser = "kept"

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Logits of the head and mean logits of the teacher, float32 [B,K_i] each -> the loss, without `weight`.

        It is 0 where no clip is kept.
        """
        kept = self.kept(teacher)
        losses = self.items(student, teacher) * kept
        return losses.sum() / (kept.sum().clamp(min=1.0) if self.normaliser == "kept" else len(losses))

    def items(self, student: Tensor, teacher: Tensor) -> Tensor:
        """[B,K_i], [B,K_i] -> [B]: the loss of each clip, kept or not."""
        if self.kind == "mse":
            return F.mse_loss(student, teacher, reduction="none").mean(1)
        soft = (teacher / self.temperature).softmax(1)
        return F.cross_entropy(student / self.student_temperature, soft, reduction="none")

    def kept(self, teacher: Tensor) -> Tensor:
        """[B,K_i] -> float32 [B]: 1 where the teacher is sure enough, else 0."""
        if self.threshold is None:
            return torch.ones_like(teacher[:, 0])
        logs = (teacher.double() / self.temperature).log_softmax(1)
        return (-(logs.exp() * logs).sum(1) < self.threshold).float()


@dataclass(frozen=True)
class Distillation:
    """The weighted sum of the heads' losses (eq. 3). `Inputs.targets` are the teachers' mean logits [B, K_1 + ...].

    A clip counts as right by the share of the teachers whose best class is that of their head.
    """

    heads: tuple[HeadLoss, ...]

    def __call__(self, inputs: Inputs, network: Network) -> tuple[Tensor, Tensor]:
        logits, _ = network(inputs.clips)
        scores = logits.float().mean(2)  # [B,K,P] -> [B,K]
        sizes = [head.classes for head in self.heads]
        pairs = list(zip(self.heads, torch.split(scores, sizes, 1), torch.split(inputs.targets, sizes, 1), strict=True))
        loss = torch.stack([head.weight * head(student, teacher) for head, student, teacher in pairs]).sum()
        return loss, agreement([(student, teacher) for _, student, teacher in pairs])


def agreement(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Pairs of logits [B,K_i] -> float32 scalar: clips whose best class is the same, a mean over the pairs."""
    same = [(student.argmax(1) == teacher.argmax(1)).sum() for student, teacher in pairs]
    return torch.stack(same).float().mean()
