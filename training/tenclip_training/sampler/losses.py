"""The two losses of SCSampler: AC learns the classes, SAL-RANK the order that a heavy network gives the windows.

phi is the salience of a window; z is 1 where the heavy network scores the video's class higher in window i than in
window j, else -1.

`margin`: max(0, eta - z (phi_i - phi_j)). `literal`, as the paper prints it: max(0, -z (phi_i - phi_j + eta)). That one
is lopsided: where z = 1, eta is slack and not a margin. With phi .6 and .5 and eta .2, z = 1 costs .1 by `margin` and
nothing by `literal`; z = -1 costs .3 by both.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

LossName = Literal["rank", "ac"]
RankForm = Literal["margin", "literal"]


class RankLoss(NamedTuple):
    """loss: the mean over pairs, 0 where there are none. pairs: how many were compared."""

    loss: Tensor
    pairs: Tensor


def pair_loss(difference: Tensor, z: Tensor, eta: float, form: RankForm) -> Tensor:
    """The loss of pairs. difference: phi_i - phi_j; z: 1 or -1; both of the same shape, which the result has.

    >>> pair_loss(torch.tensor([0.1]), torch.tensor([1.0]), 0.2, "literal").tolist()
    [0.0]
    """
    if form == "margin":
        return (eta - z * difference).relu()
    return (-z * (difference + eta)).relu()


def rank_loss(
    phi: Tensor, teacher: Tensor, valid: Tensor, *, eta: float, form: RankForm = "margin", tolerance: float = 0.0
) -> RankLoss:
    """SAL-RANK over all ordered pairs of windows of the same video.

    phi, teacher: [V,P], salience and the heavy network's score of the video's class, of P windows of V videos. valid:
    bool [V,P], where there is a window. Pairs whose scores differ by no more than `tolerance` are skipped.
    """
    differences = phi[:, :, None] - phi[:, None, :]  # (V,P,P)
    gaps = teacher[:, :, None] - teacher[:, None, :]
    counts = valid[:, :, None] & valid[:, None, :] & (gaps.abs() > tolerance)
    pairs = counts.sum()
    losses = pair_loss(differences, gaps.sign(), eta, form)
    return RankLoss(torch.where(counts, losses, 0.0).sum() / pairs.clamp(min=1), pairs)
