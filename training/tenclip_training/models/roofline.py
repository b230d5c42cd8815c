"""How fast a network could run on a device, layer by layer: the roofline of Williams et al. (CACM 52(4), 2009).

A convolution multiplies no faster than the device does, and moves its bytes no faster than the memory does; the longer
of the two times is its floor, and says which of them holds it. Nothing here runs a network or needs the device.

It counts the traffic of convolutions with what follows them fused: each input, output and residual touched once, the
weights once a batch. Batch norms, ReLUs and additions that run by themselves are above this floor, not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tenclip_training.models.video_model import VideoModel, eval_mode

Sizes = tuple[int, int, int, int]  # C, T, H, W
Bound = Literal["arithmetic", "memory"]


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What a device reaches, best measured on it. rate: FLOP/s of its matrix product; bandwidth: bytes/s, read and
    written bytes added."""

    rate: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """FLOP per byte below which work is memory-bound."""
        return self.rate / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class ConvLayer:
    """One convolution of a network, with the sizes of one clip's maps. adds_residual: it reads a residual as well."""

    name: str
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    groups: int
    input: Sizes
    output: Sizes
    adds_residual: bool = False

    @property
    def num_weights(self) -> int:
        return self.output[0] * (self.input[0] // self.groups) * math.prod(self.kernel)

    def flop(self, batch: int = 1) -> int:
        """A multiplication and an addition are two."""
        return 2 * batch * math.prod(self.output[1:]) * self.num_weights

    def bytes(self, batch: int = 1, *, value_bytes: int = 2) -> int:
        """Input, output and residual once, the weights once a batch."""
        values = math.prod(self.input) + math.prod(self.output) * (2 if self.adds_residual else 1)
        return value_bytes * (batch * values + self.num_weights)

    def floor_seconds(self, ceilings: Ceilings, batch: int = 1, *, value_bytes: int = 2) -> float:
        """The time that this layer takes at least."""
        return max(self.flop(batch) / ceilings.rate, self.bytes(batch, value_bytes=value_bytes) / ceilings.bandwidth)

    def bound(self, ceilings: Ceilings, batch: int = 1, *, value_bytes: int = 2) -> Bound:
        """Which of the two holds it at its floor."""
        enough = self.flop(batch) >= ceilings.ridge * self.bytes(batch, value_bytes=value_bytes)
        return "arithmetic" if enough else "memory"


@dataclass(frozen=True, kw_only=True)
class Floor:
    """The floor of a whole network: the sum of those of its layers, one after the other.

    share: of the device's rate that the network reaches at its floor. memory_share: of the time, spent in layers that
    memory holds.
    """

    flop: int
    bytes: int
    seconds: float
    clips_per_second: float
    share: float
    memory_share: float


def conv_layers(model: VideoModel, *, num_frames: int, crop: int) -> list[ConvLayer]:
    """The convolutions of a network in the order in which they run, for clips of `num_frames` x `crop` x `crop`.

    Best of a model made on torch's meta device, where nothing is computed. The last convolution of a residual block
    counts the residual that it adds.
    """
    found: list[tuple[nn.Conv3d, Sizes, Sizes]] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv3d)
        found.append((module, _sizes(inputs[0]), _sizes(output)))

    convolutions = {m: name for name, m in model.named_modules() if isinstance(m, nn.Conv3d)}
    handles = [module.register_forward_hook(note) for module in convolutions]
    parameter = next(model.parameters())
    try:
        with torch.no_grad(), eval_mode(model):
            model(torch.zeros(1, 3, num_frames, crop, crop, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    adding = _adding(model)
    return [
        ConvLayer(
            name=convolutions[module],
            kernel=_three(module.kernel_size),
            stride=_three(module.stride),
            groups=module.groups,
            input=before,
            output=after,
            adds_residual=module in adding,
        )
        for module, before, after in found
    ]


def network_floor(
    layers: Sequence[ConvLayer], ceilings: Ceilings, batch: int = 1, *, value_bytes: int = 2, residuals: bool = True
) -> Floor:
    """The floor of a batch. residuals False leaves out that residuals are read."""
    if not residuals:
        layers = [ConvLayer(**{**vars(layer), "adds_residual": False}) for layer in layers]
    each = [layer.floor_seconds(ceilings, batch, value_bytes=value_bytes) for layer in layers]
    held = sum(
        seconds
        for layer, seconds in zip(layers, each, strict=True)
        if layer.bound(ceilings, batch, value_bytes=value_bytes) == "memory"
    )
    flop, total = sum(layer.flop(batch) for layer in layers), sum(each)
    return Floor(
        flop=flop,
        bytes=sum(layer.bytes(batch, value_bytes=value_bytes) for layer in layers),
        seconds=total,
        clips_per_second=batch / total,
        share=flop / total / ceilings.rate,
        memory_share=held / total,
    )


def _adding(model: nn.Module) -> set[nn.Module]:
    """The last convolution of each residual block."""
    found: set[nn.Module] = set()
    for part in model.modules():
        if hasattr(part, "downsample") and hasattr(part, "conv2"):
            last = part.conv3 if hasattr(part, "conv3") else part.conv2
            assert isinstance(last, nn.Module)
            found.add([m for m in last.modules() if isinstance(m, nn.Conv3d)][-1])
    return found


def _sizes(map: Tensor) -> Sizes:
    channels, frames, height, width = map.shape[1:]
    return (channels, frames, height, width)


def _three(values: Any) -> tuple[int, int, int]:
    first, second, third = values
    return (first, second, third)
