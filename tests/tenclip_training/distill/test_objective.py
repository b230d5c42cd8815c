"""Worked numbers of DistInit's equations 2 and 3, and of the gate's weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tenclip_training.distill.objective import Distillation, HeadLoss
from tenclip_training.runs.objectives import Inputs

TEACHER = torch.tensor([[3.0, 0.5, 0.5]])
STUDENT = torch.tensor([[1.0, 0.0, -1.0]])


def test_soft_cross_entropy() -> None:
    loss = HeadLoss(classes=3)(STUDENT, TEACHER)
    assert loss.item() == pytest.approx(0.61913, abs=1e-5)
    divergence = F.kl_div(STUDENT.log_softmax(1), TEACHER.softmax(1), reduction="batchmean")
    assert loss.item() - 0.50456 == pytest.approx(divergence.item(), abs=1e-5)
    assert divergence.item() == pytest.approx(0.11458, abs=1e-5)


def test_temperature_is_the_teachers_unless_the_student_gets_one() -> None:
    assert HeadLoss(classes=3, temperature=2.0)(STUDENT, TEACHER).item() == pytest.approx(0.95402, abs=1e-5)
    both = HeadLoss(classes=3, temperature=2.0, student_temperature=2.0)
    assert both(STUDENT, TEACHER).item() == pytest.approx(0.95348, abs=1e-5)
    assert 4 * both(STUDENT, TEACHER).item() == pytest.approx(3.81391, abs=2e-5)


def test_squared_error_of_logits_is_a_mean() -> None:
    loss = HeadLoss(classes=3, kind="mse")(STUDENT, TEACHER).item()
    assert loss == pytest.approx(2.16667, abs=1e-5)
    assert 3 * loss == pytest.approx(6.5, abs=1e-5)


def test_hard_targets_give_plain_cross_entropy() -> None:
    sure = torch.tensor([[100.0, 0.0, 0.0]])
    assert HeadLoss(classes=3)(STUDENT, sure).item() == pytest.approx(
        F.cross_entropy(STUDENT, torch.tensor([0])).item(), abs=1e-6
    )


class Fixed(HeadLoss):
    """With the losses of the worked example: 1, 2, 3 and 4."""

    def items(self, student: Tensor, teacher: Tensor) -> Tensor:
        return torch.arange(1.0, len(student) + 1)


def logits_of_entropy(wanted: float, classes: int = 1000) -> Tensor:
    """Logits (x, 0, ..., 0) of that entropy in nats, by halving."""
    low, high = 0.0, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        row = torch.zeros(classes, dtype=torch.float64)
        row[0] = middle
        p = row.softmax(0)
        low, high = (middle, high) if float(-(p * p.log()).sum()) > wanted else (low, middle)
    return row.float()


def test_the_gate_weighs_what_the_teacher_is_unsure_of_with_nothing() -> None:
    teacher = torch.stack([logits_of_entropy(e) for e in (1.0, 2.6, 2.8, 5.0)])
    student = torch.zeros(4, 1000)
    kept = Fixed(classes=1000, threshold=2.7)
    assert kept.kept(teacher).tolist() == [1, 1, 0, 0]
    assert kept(student, teacher).item() == pytest.approx(1.5)
    assert Fixed(classes=1000, threshold=2.7, normaliser="all")(student, teacher).item() == pytest.approx(0.75)
    assert Fixed(classes=1000)(student, teacher).item() == pytest.approx(2.5)


def test_a_batch_of_which_nothing_is_kept_teaches_nothing() -> None:
    student = torch.zeros(2, 3, requires_grad=True)
    loss = HeadLoss(classes=3, threshold=0.1)(student, torch.zeros(2, 3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def inputs(teacher: Tensor) -> Inputs:
    return Inputs(clips=torch.zeros(len(teacher), 3, 1, 1, 1), targets=teacher)


def test_teachers_are_added_each_with_a_head_and_a_gate_of_its_own() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7, requires_grad=True), torch.randn(5, 7)
    heads = (HeadLoss(classes=3, weight=2.0, threshold=0.9), HeadLoss(classes=4, kind="mse"))
    loss, _ = Distillation(heads)(inputs(teacher), lambda clips: (student[:, :, None], clips))
    one = HeadLoss(classes=3, threshold=0.9)(student[:, :3], teacher[:, :3])
    two = F.mse_loss(student[:, 3:], teacher[:, 3:])
    assert loss.item() == pytest.approx((2 * one + two).item())
    assert 0 < float(heads[0].kept(teacher[:, :3]).sum()) < 5


def test_the_rows_of_one_layer_are_separate_heads() -> None:
    """Gradients of a teacher's loss reach the rows of its own head alone, as with a layer for each."""
    torch.manual_seed(0)
    layer, features, teacher = torch.nn.Linear(6, 7), torch.randn(4, 6), torch.randn(4, 7)
    heads = (HeadLoss(classes=3), HeadLoss(classes=4, weight=1e-30))
    loss, _ = Distillation(heads)(inputs(teacher), lambda clips: (layer(features)[:, :, None], clips))
    loss.backward()  # type: ignore[no-untyped-call]
    alone = torch.nn.Linear(6, 3)
    with torch.no_grad():
        alone.weight.copy_(layer.weight[:3])
        alone.bias.copy_(layer.bias[:3])
    HeadLoss(classes=3)(alone(features), teacher[:, :3]).backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    assert alone.weight.grad is not None
    assert torch.allclose(layer.weight.grad[:3], alone.weight.grad, atol=1e-7)
    assert layer.weight.grad[3:].abs().max() < 1e-20


def test_agreement_is_a_share_of_clips_and_teachers() -> None:
    student = torch.tensor([[1.0, 0, 0, 1], [1, 0, 1, 0]])
    teacher = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]])
    _, correct = Distillation((HeadLoss(classes=2), HeadLoss(classes=2)))(
        inputs(teacher), lambda clips: (student[:, :, None], clips)
    )
    assert correct.item() == 1.5
