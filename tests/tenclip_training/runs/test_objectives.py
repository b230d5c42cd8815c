from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tenclip_training.data.tags import soft_target
from tenclip_training.heads import Heads
from tenclip_training.runs.mixup import with_mixup
from tenclip_training.runs.objectives import Classification, HeadsClassification, Inputs, MultiLabel, build_objective
from tenclip_training.runs.sections import ObjectiveConfig


def inputs(*labels: list[int], num_classes: int = 3) -> Inputs:
    targets = torch.stack([torch.from_numpy(soft_target(one, num_classes)) for one in labels])
    return Inputs(clips=torch.zeros(len(labels), 3, 2, 4, 4), targets=targets)


def test_the_loss_is_the_mean_cross_entropy_and_correct_is_a_count() -> None:
    scores = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    loss, correct = Classification()(inputs([0], [2]), lambda clips: (scores[..., None], clips))
    log_sum = math.log(math.exp(2) + 2)
    assert loss.item() == pytest.approx(((log_sum - 2) + log_sum) / 2)
    assert correct.item() == 1


def test_positions_are_averaged_before_the_softmax() -> None:
    scores = torch.tensor([[[3.0, -3.0], [1.0, 1.0], [0.0, 0.0]]])  # [B,K,P]
    loss, correct = Classification()(inputs([1]), lambda clips: (scores, clips))
    assert correct.item() == 1
    assert loss.item() == pytest.approx(-torch.tensor([0.0, 1.0, 0.0]).log_softmax(0)[1].item())


def test_any_of_several_labels_is_right() -> None:
    scores = torch.tensor([[0.0, 0.0, 5.0]])
    _, correct = Classification()(inputs([0, 2]), lambda clips: (scores[..., None], clips))
    assert correct.item() == 1


def test_several_labels_train_against_equal_shares() -> None:
    """Cross entropy with soft targets is the mean over the k labels of the usual one."""
    scores = torch.randn(1, 5)
    soft, _ = Classification()(inputs([1, 4], num_classes=5), lambda clips: (scores[..., None], clips))
    one, other = (nn.functional.cross_entropy(scores, torch.tensor([i])) for i in (1, 4))
    assert soft.item() == pytest.approx(((one + other) / 2).item(), rel=1e-6)


def test_label_smoothing_spreads_a_part_over_all_classes() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0]])
    smooth, _ = Classification(label_smoothing=0.3)(inputs([0]), lambda clips: (scores[..., None], clips))
    expected = -(torch.tensor([0.8, 0.1, 0.1]) * scores[0].log_softmax(0)).sum()
    assert smooth.item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradients_reach_the_network() -> None:
    layer = nn.Linear(3, 3)

    def network(clips: Tensor) -> tuple[Tensor, Tensor]:
        features = clips.mean((2, 3, 4))
        return layer(features)[..., None], features

    loss, _ = Classification()(inputs([0], [1]), network)
    loss.backward()  # type: ignore[no-untyped-call]
    assert layer.bias.grad is not None
    assert layer.bias.grad.abs().sum() > 0


def test_the_logistic_loss_is_the_mean_over_classes() -> None:
    """Logits 0 and 2, targets 1 and 0: (ln 2 + ln(1 + e^2)) / 2 = (0.6931 + 2.1269) / 2."""
    batch = Inputs(clips=torch.zeros(1, 3, 2, 4, 4), targets=torch.tensor([[1.0, 0.0]]))
    loss, correct = MultiLabel()(batch, lambda clips: (torch.tensor([[[0.0], [2.0]]]), clips))
    assert loss.item() == pytest.approx(1.4100, abs=5e-5)
    assert correct.item() == 0


def test_softmax_and_sigmoids_add_up() -> None:
    scores, targets = torch.randn(4, 5), torch.zeros(4, 5)
    targets[:, 1] = targets[2:, 4] = 1
    batch = Inputs(clips=torch.zeros(4, 3, 2, 4, 4), targets=targets)
    loss, _ = MultiLabel(with_softmax=True)(batch, lambda clips: (scores[..., None], clips))
    one, _ = MultiLabel()(batch, lambda clips: (scores[..., None], clips))
    other, _ = Classification()(
        inputs([1], [1], [1, 4], [1, 4], num_classes=5), lambda clips: (scores[..., None], clips)
    )
    assert loss.item() == pytest.approx(one.item() + other.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ObjectiveConfig(label_smoothing=0.1), Classification(label_smoothing=0.1)),
        (ObjectiveConfig(loss="sigmoid"), MultiLabel()),
        (
            ObjectiveConfig(loss="softmax+sigmoid", label_smoothing=0.1),
            MultiLabel(with_softmax=True, label_smoothing=0.1),
        ),
    ],
)
def test_objectives_by_name(config: ObjectiveConfig, expected: object) -> None:
    assert build_objective(config) == expected


# -- heads --

HEADS = Heads.of(["verb:a", "verb:b", "noun:x", "noun:y", "noun:z"])
assert HEADS is not None


def of_heads(targets: Tensor, scores: Tensor, *, label_smoothing: float = 0.0) -> tuple[float, float]:
    assert HEADS is not None
    objective = HeadsClassification(HEADS, label_smoothing=label_smoothing)
    clips = torch.zeros(len(targets), 3, 2, 4, 4)
    loss, correct = objective(Inputs(clips=clips, targets=targets), lambda clips: (scores[..., None], clips))
    return loss.item(), correct.item()


def test_the_loss_of_heads_is_the_sum_of_theirs() -> None:
    """Logits 1 and 0 of two verbs, the first right; 0 of three nouns: log(1 + e) - 1 + log 3."""
    targets = torch.from_numpy(soft_target((0, 3), 5))[None]
    loss, correct = of_heads(targets, torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]))
    assert loss == pytest.approx(math.log(1 + math.e) - 1 + math.log(3), rel=1e-6)
    assert correct == 0, "the first noun is taken, the second is right"


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_heads_are_as_two_classifiers(label_smoothing: float) -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, 5)
    verbs, nouns = torch.tensor([0, 1, 1, 0, 1, 0]), torch.tensor([2, 1, 0, 0, 1, 2])
    targets = torch.stack(
        [torch.from_numpy(soft_target((int(v), 2 + int(n)), 5)) for v, n in zip(verbs, nouns, strict=True)]
    )
    loss, correct = of_heads(targets, scores, label_smoothing=label_smoothing)
    expected = [
        nn.functional.cross_entropy(part, classes, label_smoothing=label_smoothing)
        for part, classes in ((scores[:, :2], verbs), (scores[:, 2:], nouns))
    ]
    assert loss == pytest.approx(sum(e.item() for e in expected), rel=1e-6)
    right = (scores[:, :2].argmax(1) == verbs) & (scores[:, 2:].argmax(1) == nouns)
    assert correct == right.sum().item()


def test_blends_of_heads_count_by_their_shares() -> None:
    """Two clips whose heads are right for the first alone: half of the blend, whatever the order, where they differ."""
    assert HEADS is not None
    mixed = with_mixup(HeadsClassification(HEADS), 1.0)
    targets = torch.stack([torch.from_numpy(soft_target(two, 5)) for two in ((0, 2), (1, 2))])
    scores = torch.tensor([[5.0, 0, 5.0, 0, 0]] * 2)  # verb a, noun x
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(1.0, 1.0).sample())
    order = torch.randperm(2)
    torch.manual_seed(3)
    clips = torch.zeros(2, 3, 2, 4, 4)
    loss, correct = mixed(Inputs(clips=clips, targets=targets), lambda clips: (scores[..., None], clips))
    assert correct.item() == pytest.approx(1.0), "of each clip one, of its partner one"
    blended = share * targets + (1 - share) * targets[order]
    assert loss.item() == pytest.approx(of_heads(blended, scores)[0], rel=1e-6)
