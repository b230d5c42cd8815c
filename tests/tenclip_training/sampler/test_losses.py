from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.sampler.losses import RankForm, pair_loss, rank_loss


def of_pair(form: RankForm, z: float) -> float:
    """phi .6 and .5, eta .2: the worked numbers of the specification."""
    return float(pair_loss(torch.tensor(0.6) - torch.tensor(0.5), torch.tensor(z), 0.2, form))


def test_the_worked_numbers() -> None:
    assert of_pair("margin", 1.0) == pytest.approx(0.1, abs=1e-6)
    assert of_pair("margin", -1.0) == pytest.approx(0.3, abs=1e-6)
    assert of_pair("literal", 1.0) == pytest.approx(0.0, abs=1e-6)
    assert of_pair("literal", -1.0) == pytest.approx(0.3, abs=1e-6)


def test_the_margin_form_does_not_depend_on_the_order_of_a_pair_and_the_literal_one_does() -> None:
    difference, z = torch.tensor([0.1, -0.7, 0.4]), torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(pair_loss(difference, z, 0.2, "margin"), pair_loss(-difference, -z, 0.2, "margin"))
    assert not torch.allclose(pair_loss(difference, z, 0.2, "literal"), pair_loss(-difference, -z, 0.2, "literal"))


def by_hand(
    phi: list[list[float]], teacher: list[list[float]], counts: list[int], eta: float, form: RankForm, tolerance: float
) -> tuple[float, int]:
    total, pairs = 0.0, 0
    for values, scores, count in zip(phi, teacher, counts, strict=True):
        for i in range(count):
            for j in range(count):
                gap = scores[i] - scores[j]
                if abs(gap) <= tolerance:
                    continue
                z = 1 if gap > 0 else -1
                d = values[i] - values[j]
                total += max(0, eta - z * d) if form == "margin" else max(0, -z * (d + eta))
                pairs += 1
    return total / max(pairs, 1), pairs


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["margin", "literal"]), st.floats(0, 0.5), st.sampled_from([0.0, 0.15]))
def test_the_loss_is_the_mean_over_pairs_of_one_video(seed: int, form: RankForm, eta: float, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    phi = torch.rand((3, 4), generator=generator, dtype=torch.float64)
    # Multiples of a quarter: ties, and no difference next to the tolerance.
    teacher = torch.randint(0, 4, (3, 4), generator=generator).double() / 4
    counts = torch.randint(0, 5, (3,), generator=generator)
    valid = torch.arange(4) < counts[:, None]
    found = rank_loss(phi, teacher, valid, eta=eta, form=form, tolerance=tolerance)
    loss, pairs = by_hand(phi.tolist(), teacher.tolist(), counts.tolist(), eta, form, tolerance)
    assert float(found.loss) == pytest.approx(loss)
    assert int(found.pairs) == pairs


def test_without_pairs_there_is_nothing_to_learn_and_no_nan() -> None:
    phi = torch.rand((2, 3), requires_grad=True)
    found = rank_loss(phi, torch.full((2, 3), 0.5), torch.ones((2, 3), dtype=torch.bool), eta=0.2)
    assert (float(found.loss.detach()), int(found.pairs)) == (0.0, 0)
    found.loss.backward()  # type: ignore[no-untyped-call]
    assert phi.grad is not None
    assert not phi.grad.any()


@pytest.mark.parametrize("form", ["margin", "literal"])
def test_the_gradient_raises_the_better_window(form: RankForm) -> None:
    phi = torch.tensor([[0.5, 0.9]], requires_grad=True)
    loss = rank_loss(phi, torch.tensor([[0.8, 0.1]]), torch.ones((1, 2), dtype=torch.bool), eta=0.2, form=form).loss
    (gradient,) = torch.autograd.grad(loss, phi)
    assert gradient[0, 0] < 0 < gradient[0, 1]
