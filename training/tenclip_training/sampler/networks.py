"""The light networks: 17,000 to 75,000 weights, normalisation included in the graph.

M windows of T moments, H x W pixels, C channels, F features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tenclip_training.sampler.losses import LossName
from tenclip_video.salience.compressed import CHANNELS
from tenclip_video.salience.sampler_spec import SamplerSpec

_SMALLEST_STD = 1e-3


class SamplerNet(nn.Module):
    """Windows [M,T,H,W,C] -> outputs [M,N]: the salience alone (N = 1), or N classes.

    What convolutions make of a window is joined by statistics of how much moves in it (`_Movement`). Of one output, the
    network begins with the order that these give, which is about that of motion energy: it is refined, and need not be
    learned from pixels. mean, std: float32 [C], of the inputs.
    """

    def __init__(
        self, spec: SamplerSpec, num_outputs: int, mean: NDArray[np.float32], std: NDArray[np.float32]
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(np.maximum(std, _SMALLEST_STD)))
        self.mean: Tensor
        self.std: Tensor
        self.body: nn.Module = _Listening() if spec.kind == "audio" else _Looking(spec)
        self.movement = _Movement(spec) if _Movement.is_seen_by(spec) else None
        features = 2 * _WIDTH + (_Movement.FEATURES if self.movement is not None else 0)
        self.head = nn.Linear(features, num_outputs)
        if self.movement is not None and num_outputs == 1:
            with torch.no_grad():
                self.head.weight.zero_()
                self.head.weight[0, 2 * _WIDTH + _Movement.BEGIN] = 1

    def forward(self, windows: Tensor) -> Tensor:
        x = windows.float()
        features = self.body((x - self.mean) / self.std)
        if self.movement is not None:
            features = torch.cat([features, self.movement(x)], dim=1)
        outputs: Tensor = self.head(features)
        return outputs


_WIDTH = 64  # F of the last layer; its mean and its highest value over time are 2F


class _Movement(nn.Module):
    """How much moves: logarithms of the mean, the highest and the lowest of two quantities over time, normalised.

    Both are of the absolute differences of luma from one moment to the next (of red, green and blue, of kind rgb), as
    shares of the full range: their mean over the picture, and their standard deviation, which a flash or a wandering
    camera raises less. As of motion energy, the moment of the highest is left out of the mean, for a cut.
    """

    FEATURES = 6
    BEGIN = 3  # the mean over time of the standard deviation
    _LEAST = 1e-3  # a quarter of a grey level: less is noise

    def __init__(self, spec: SamplerSpec) -> None:
        super().__init__()
        self.is_rgb = spec.kind == "rgb"
        self.normalise = nn.BatchNorm1d(self.FEATURES)

    @staticmethod
    def is_seen_by(spec: SamplerSpec) -> bool:
        """Whether there are moments of which one follows another."""
        return spec.kind == "compressed" or (spec.kind == "rgb" and spec.samples > 1)

    def forward(self, x: Tensor) -> Tensor:
        """[M,T,H,W,C], not normalised -> [M,6]."""
        if self.is_rgb:
            change = (x[:, 1:] - x[:, :-1]).abs().mean(dim=4).flatten(2) / 255  # (M,T-1,H*W)
        else:
            change = x[..., CHANNELS.index("difference")].flatten(2)  # (M,T,H*W)
        level = change.mean(dim=2)
        spread = (change.square().mean(dim=2) - level.square()).clamp(min=0).sqrt()
        over_time = [f for q in (level, spread) for f in (_without_highest(q), q.amax(dim=1), q.amin(dim=1))]
        features: Tensor = self.normalise((torch.stack(over_time, dim=1) + self._LEAST).log())
        return features


def _without_highest(x: Tensor) -> Tensor:
    """[M,T] -> [M]: the mean of all but the highest."""
    return (x.sum(dim=1) - x.amax(dim=1)) / max(1, x.shape[1] - 1)


class _Looking(nn.Module):
    """Convolutions of each moment by itself, shared over time; then one over time.

    Of pictures (kind rgb) the difference to the moment before is looked at beside each: motion without a kernel over
    time at full resolution. The other kinds have their motion in channels of their own, or none.
    """

    def __init__(self, spec: SamplerSpec) -> None:
        super().__init__()
        self.differences = spec.kind == "rgb" and spec.samples > 1
        channels = spec.channels * (2 if self.differences else 1)
        self.frame = nn.Sequential(
            *_conv(channels, 8, stride=2), *_conv(8, 16, stride=2), *_conv(16, 32, stride=2), *_conv(32, 64, kernel=1)
        )
        self.time = nn.Sequential(nn.Conv1d(64, _WIDTH, 3, padding=1), nn.ReLU())
        self.moments = spec.samples

    def forward(self, windows: Tensor) -> Tensor:
        x = windows.permute(0, 1, 4, 2, 3)  # (M,T,C,H,W)
        if self.differences:
            before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
            x = torch.cat([x, x - before], dim=2)
        x = self.frame(x.flatten(0, 1)).mean(dim=(2, 3))  # (M*T,F)
        x = x.unflatten(0, (-1, self.moments)).transpose(1, 2)  # (M,F,T)
        return _pooled(self.time(x))


class _Listening(nn.Module):
    """Convolutions over a log-mel spectrogram: [M,T,mel,1,1]."""

    def __init__(self) -> None:
        super().__init__()
        self.sound = nn.Sequential(
            *_conv(1, 16, stride=2), *_conv(16, 32, stride=2), *_conv(32, 64, stride=2), *_conv(64, _WIDTH, stride=1)
        )

    def forward(self, windows: Tensor) -> Tensor:
        x = self.sound(windows[..., 0].permute(0, 3, 1, 2))  # (M,F,T/8,mel/8)
        return _pooled(x.mean(dim=3))


def _conv(inside: int, outside: int, *, stride: int = 1, kernel: int = 3) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def _pooled(x: Tensor) -> Tensor:
    """(M,F,T) -> (M,2F): mean and highest value over time."""
    return torch.cat([x.mean(dim=2), x.amax(dim=2)], dim=1)


class Salience(nn.Module):
    """Windows -> salience [M]: what is exported. The one output, or the highest class probability (loss "ac")."""

    def __init__(self, network: nn.Module, loss: LossName) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, windows: Tensor) -> Tensor:
        outputs: Tensor = self.network(windows)
        return outputs.softmax(dim=1).amax(dim=1) if self.loss == "ac" else outputs[:, 0]


def channel_statistics(inputs: list[NDArray[Any]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(mean, std) float32 [C] over all windows, moments and pixels of inputs [M,T,H,W,C]."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for array in inputs:
        flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
        count += len(flat)
        total = total + flat.sum(axis=0)
        squares = squares + (flat**2).sum(axis=0)
    mean = total / count
    return mean.astype(np.float32), np.sqrt(np.maximum(squares / count - mean**2, 0)).astype(np.float32)
