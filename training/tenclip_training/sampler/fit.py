"""Fitting a light network: batches of videos, some windows of each at a visit; the best epoch is kept.

A few thousand windows are an epoch of seconds, so a fit is not resumed: what takes long, the scores of the heavy
network and the inputs, is kept in files.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tenclip_api.errors import DatasetError, TrainingDiverged
from tenclip_training.data.random_streams import torch_seed
from tenclip_training.sampler.losses import LossName, RankForm, rank_loss
from tenclip_training.sampler.networks import Salience, SamplerNet, channel_statistics
from tenclip_training.sampler.ranks import mean_agreement
from tenclip_video.salience.sampler_spec import SamplerSpec

_WINDOWS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How a light network is fitted.

    loss: "rank" (SAL-RANK) or "ac". rank_form, eta, tolerance: see `losses`. windows: of each video at a visit, drawn
    anew each time. batch_size: videos. lr falls to nothing on a cosine; the optimiser is AdamW.
    """

    loss: LossName = "rank"
    rank_form: RankForm = "margin"
    eta: float = 0.2
    tolerance: float = 0.1
    epochs: int = 20
    batch_size: int = 16
    windows: int = 8
    lr: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, eq=False)
class FitVideo:
    """A video: inputs [M,T,H,W,C], the heavy network's scores [M] of its class, and that class."""

    name: str
    inputs: NDArray[Any]
    teacher: NDArray[np.float32]
    label: int


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """epoch: from 1. loss: mean over batches. agreement: with the heavy network's order (`ranks.agreement`), on the
    videos that choose; None where none of them can be ranked.
    """

    epoch: int
    loss: float
    agreement: float | None


@dataclass(frozen=True, eq=False)
class Fitted:
    """salience: the network of the best epoch, in eval mode. unpaired: training videos that have no two windows which
    the heavy network tells apart, such as those of a single window; they are left out.
    """

    salience: Salience
    best_epoch: int
    history: tuple[Epoch, ...] = field(default=())
    unpaired: int = 0


def fit(
    spec: SamplerSpec,
    train: Sequence[FitVideo],
    select: Sequence[FitVideo],
    config: FitConfig,
    *,
    num_classes: int,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Fit a network on `train`, and keep the epoch whose order agrees best with the heavy network's on `select`.

    Epoch 0, which has learned nothing and orders windows by how much moves in them, is one of them where the network
    sees that (`SamplerNet`). Of equal ones the last is kept, and the last of all where `select` has no video to rank.
    The same arguments give the same network.
    Raises DatasetError where there is nothing to learn from, TrainingDiverged.
    """
    unpaired = 0
    if config.loss == "rank":
        learnable = [v for v in train if _num_pairs(v.teacher, config.tolerance)]
        unpaired, train = len(train) - len(learnable), learnable
    if not train:
        raise DatasetError(
            f"there is nothing to learn from: of none of {unpaired} training videos do two windows have scores that "
            f"differ by more than {config.tolerance:g}; a smaller tolerance lets closer ones count"
        )
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(config.seed))
        network = SamplerNet(
            spec, num_classes if config.loss == "ac" else 1, *channel_statistics([v.inputs for v in train])
        )
    salience = Salience(network, config.loss)
    steps = config.epochs * math.ceil(len(train) / config.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    history: list[Epoch] = []

    def judge() -> float | None:
        scores = [salience_of(salience, v.inputs) for v in select]
        return mean_agreement(scores, [v.teacher for v in select])

    at_first = judge() if network.movement is not None and config.loss == "rank" else None
    best = -math.inf if at_first is None else at_first, 0, copy.deepcopy(network.state_dict())
    for epoch in range(1, config.epochs + 1):
        salience.train()
        losses = []
        for batch in _batches(train, config, rng):
            loss = _loss(network, batch, config)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if not np.isfinite(losses).all():
            raise TrainingDiverged(f"the loss is {losses[-1]} in epoch {epoch}; a smaller learning rate may help")
        agreement = judge()
        history.append(Epoch(epoch=epoch, loss=float(np.mean(losses)), agreement=agreement))
        on_epoch(history[-1])
        if agreement is None or agreement >= best[0]:
            best = -math.inf if agreement is None else agreement, epoch, copy.deepcopy(network.state_dict())
    network.load_state_dict(best[2])
    return Fitted(salience.eval(), best[1], tuple(history), unpaired)


def salience_of(salience: Salience, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Salience float32 [M] of inputs [M,T,H,W,C]. The network is in eval mode afterwards."""
    salience.eval()
    with torch.inference_mode():
        parts = [
            salience(torch.from_numpy(inputs[i : i + _WINDOWS_AT_ONCE].copy())).numpy()
            for i in range(0, len(inputs), _WINDOWS_AT_ONCE)
        ]
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Batch:
    """windows [N,T,H,W,C] of V videos; place: int64 [N,2], (video, number) of each; teacher [V,P], labels [V]."""

    windows: Tensor
    place: Tensor
    teacher: Tensor
    labels: Tensor


def _batches(videos: Sequence[FitVideo], config: FitConfig, rng: np.random.Generator) -> Any:
    for chosen in _parts([videos[i] for i in rng.permutation(len(videos))], config):
        drawn = [np.sort(rng.permutation(len(v.inputs))[: config.windows]) for v in chosen]
        teacher = np.zeros((len(chosen), config.windows), np.float32)
        for row, (video, windows) in enumerate(zip(chosen, drawn, strict=True)):
            teacher[row, : len(windows)] = video.teacher[windows]
        place = [(row, number) for row, windows in enumerate(drawn) for number in range(len(windows))]
        inputs = np.concatenate([v.inputs[w] for v, w in zip(chosen, drawn, strict=True)])
        yield _Batch(
            torch.from_numpy(inputs),
            torch.tensor(place),
            torch.from_numpy(teacher),
            torch.tensor([v.label for v in chosen]),
        )


def _parts(videos: Sequence[FitVideo], config: FitConfig) -> list[list[FitVideo]]:
    """The videos of each batch. One window has no statistics for a batch norm, so such a batch joins its neighbour."""

    def windows(part: Sequence[FitVideo]) -> int:
        return sum(min(len(v.inputs), config.windows) for v in part)

    parts: list[list[FitVideo]] = []
    for start in range(0, len(videos), config.batch_size):
        part = list(videos[start : start + config.batch_size])
        if parts and 1 in (windows(part), windows(parts[-1])):
            parts[-1] += part
        else:
            parts.append(part)
    if windows(parts[0]) == 1:
        raise DatasetError(f"{parts[0][0].name}: one window of one video is all that there is to learn from")
    return parts


def _loss(network: SamplerNet, batch: _Batch, config: FitConfig) -> Tensor:
    outputs: Tensor = network(batch.windows)
    video, number = batch.place.unbind(dim=1)
    if config.loss == "ac":
        return F.cross_entropy(outputs, batch.labels[video])
    phi = outputs.new_zeros(batch.teacher.shape).index_put((video, number), outputs[:, 0])
    valid = torch.zeros(batch.teacher.shape, dtype=torch.bool).index_put((video, number), torch.tensor(True))
    return rank_loss(phi, batch.teacher, valid, eta=config.eta, form=config.rank_form, tolerance=config.tolerance).loss


def _num_pairs(teacher: NDArray[np.float32], tolerance: float) -> int:
    """Pairs of windows that are told apart."""
    return int((np.abs(teacher[:, None] - teacher[None, :]) > tolerance).sum() // 2)
