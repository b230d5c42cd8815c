from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tenclip_training.data.tags import soft_target
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.mixup import Mixup, blend, with_mixup
from tenclip_training.runs.objectives import Classification, Inputs
from tenclip_training.runs.train import train


def batch(*labels: list[int], num_classes: int = 3) -> Inputs:
    """Clip i is i everywhere."""
    targets = torch.stack([torch.from_numpy(soft_target(one, num_classes)) for one in labels])
    clips = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1, 1).expand(-1, 3, 2, 4, 4)
    return Inputs(clips=clips, targets=targets)


def test_a_share_of_three_tenths_of_classes_0_and_2() -> None:
    blended = blend(batch([0], [2]), 0.3, torch.tensor([1, 0]))
    torch.testing.assert_close(blended.targets, torch.tensor([[0.3, 0.0, 0.7], [0.7, 0.0, 0.3]]))
    torch.testing.assert_close(blended.clips[:, 0, 0, 0, 0], torch.tensor([0.7, 0.3]))


@settings(max_examples=30)
@given(share=st.floats(0, 1), seed=st.integers(0, 99), size=st.integers(1, 6))
def test_blends_stay_between_the_clips_and_targets_sum_to_one(share: float, seed: int, size: int) -> None:
    inputs = batch(*[[i % 3] if i % 2 else [i % 3, (i + 1) % 3] for i in range(size)])
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    blended = blend(inputs, share, order)
    torch.testing.assert_close(blended.targets.sum(1), torch.ones(size))
    torch.testing.assert_close(blended.clips.mean(), inputs.clips.mean())  # a permutation: nothing comes or goes
    other = blend(Inputs(inputs.clips[order], inputs.targets[order]), 1 - share, torch.argsort(order))
    torch.testing.assert_close(other.clips, blended.clips, atol=1e-5, rtol=1e-5)  # symmetric in lambda


class Recorder:
    """A network with fixed scores, and what it was given."""

    def __init__(self, *scores: list[float]) -> None:
        self.scores, self.clips = torch.tensor(scores), torch.empty(0)

    def __call__(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        self.clips = clips
        return self.scores[..., None], clips


def test_the_loss_is_that_of_blended_targets_and_a_blend_is_right_by_its_share() -> None:
    inputs = batch([0], [2], [1])
    network = Recorder([2.0, 0.0, 0.0], [0.0, 0.0, 2.0], [5.0, 0.0, 0.0])
    torch.manual_seed(11)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    order = torch.randperm(3)
    torch.manual_seed(11)
    loss, correct = Mixup(Classification(), 0.4)(inputs, network)
    blended = blend(inputs, share, order)
    assert torch.equal(network.clips, blended.clips)
    assert loss.item() == pytest.approx(F.cross_entropy(network.scores, blended.targets).item())
    own = [1, 1, 0]  # the third clip's best class is 0, its own 1
    best, classes = [0, 2, 0], [0, 2, 1]
    partner = [float(best[i] == classes[int(order[i])]) for i in range(3)]
    expected = sum(share * a + (1 - share) * b for a, b in zip(own, partner, strict=True))
    assert correct.item() == pytest.approx(expected, rel=1e-6)


def test_the_step_decides_lambda_and_pairs() -> None:
    inputs = batch([0], [1], [2], [0])
    network = Recorder(*[[0.0, 0.0, 0.0]] * 4)
    seen = []
    for seed in (3, 4, 3):
        torch.manual_seed(seed)
        Mixup(Classification(), 1.0)(inputs, network)
        seen.append(network.clips[:, 0, 0, 0, 0].tolist())
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]


def test_alpha_0_is_no_mixup() -> None:
    plain = Classification()
    assert with_mixup(plain, 0.0) is plain
    assert with_mixup(plain, 0.2) == Mixup(plain, 0.2)


def test_lambda_is_beta_distributed() -> None:
    """Of Beta(a,a): mean 1/2, variance 1/(4(2a+1))."""
    torch.manual_seed(0)
    inputs, network = batch([0], [1]), Recorder([0.0] * 3, [0.0] * 3)
    shares: list[float] = []
    while len(shares) < 2000:
        Mixup(Classification(), 0.2)(inputs, network)
        first = network.clips[0, 0, 0, 0, 0].item()
        shares.append(first)  # 1 - lambda where the two change places, 0 where they do not
    swapped = torch.tensor([s for s in shares if s > 0])
    assert swapped.mean().item() == pytest.approx(0.5, abs=0.05)
    assert swapped.var().item() == pytest.approx(1 / (4 * 1.4), abs=0.02)


def test_a_run_with_mixup_learns_from_blends(train_config: TrainConfig) -> None:
    result = train(train_config.changed(mixup=1.0, epochs=1, warmup_epochs=0))
    top1 = result.history[-1].train_clip_top1
    assert 0 <= top1 <= 1
    plain = train(train_config.changed(epochs=1, warmup_epochs=0, out=f"{train_config.out}-plain"))
    assert plain.history[-1].loss != result.history[-1].loss
