"""The plan for a checkpoint (architecture, names, possible inputs), and helpers that the layouts share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tenclip_training.loaders.presets import Preset
from tenclip_training.models.resnet import STAGES

Tensors = Mapping[str, Tensor]
# (pattern, replacement): the first that matches a whole name gives ours.
Rules = list[tuple[str, str]]


class UnknownLayoutError(Exception):
    """Names of a family that is known, in a form that is not."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which architecture a set of weights is.

    `names`: the authors' names -> ours. `candidates`: the inputs it may have been trained on. `ignored`: names of
    tensors that are no part of the video network, with the reason. `assumed`: what was taken for granted in choosing
    the first candidate.

    Some settings leave no trace in names and shapes. `unseen` are config values of the architecture with a sentence for
    people on each. `alternatives` are other networks with the same names and shapes. `backbones` are the types by which
    MMAction2's configs call this network, `fixed` the settings of theirs that it needs; `settings` maps names in a
    configuration to config values.
    """

    layout: str
    architecture: str
    config: dict[str, Any]
    names: dict[str, str]
    candidates: tuple[Preset, ...]
    ignored: dict[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    unseen: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple[Plan, ...] = ()
    backbones: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def rename(names: Iterable[str], rules: Rules) -> dict[str, str]:
    """Names that fit no rule are left out."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    found: dict[str, str] = {}
    for name in names:
        for pattern, replacement in compiled:
            if match := pattern.fullmatch(name):
                found[name] = match.expand(replacement)
                break
    return found


def stages_in(tensors: Tensors, third_conv: str, *, prefix: str = "") -> tuple[list[int], bool]:
    """(blocks in each layer, whether they are bottlenecks)."""
    return count_blocks(tensors, re.escape(prefix) + r"layer(\d+)\.(\d+)\..+"), third_conv in tensors


def count_blocks(tensors: Tensors, pattern: str) -> list[int]:
    """Blocks in layers 1 to 4; `pattern` has the layer and the block as groups."""
    last: dict[int, int] = {}
    for name in tensors:
        if match := re.fullmatch(pattern, name):
            layer, block = int(match[1]), int(match[2])
            last[layer] = max(last.get(layer, 0), block)
    if sorted(last) != [1, 2, 3, 4]:
        raise UnknownLayoutError(f"layers {sorted(last) or 'none'} of blocks, not 1 to 4")
    return [last[layer] + 1 for layer in range(1, 5)]


def sized(
    pattern: str, depths: Iterable[int], stages: list[int], bottleneck: bool, width: int
) -> tuple[str, dict[str, Any]]:
    """The architecture of that many blocks, and what differs from it in `config`. Where none has as many (VMZ's
    converter has an ip-CSN-50 of 3, 8, 6, 3), one of its kind with its own stages."""
    config: dict[str, Any] = {"width": width, "stages": stages, "bottleneck": bottleneck}
    fitting = [d for d in depths if (d >= 50) == bottleneck]
    if not fitting:
        raise UnknownLayoutError(f"{pattern.format('N')} with {'bottlenecks' if bottleneck else 'basic blocks'}")
    exact = [d for d in fitting if list(STAGES[d]) == stages]
    return pattern.format(exact[0] if exact else fitting[0]), config


def side(tensors: Tensors, name: str, dim: int) -> int:
    """The size of one dimension; 0 where the tensor or the dimension is not there."""
    tensor = tensors.get(name)
    return tensor.shape[dim] if tensor is not None and dim < tensor.dim() else 0


def kernels_in_time(tensors: Tensors, name: str, stages: list[int]) -> list[list[int]]:
    """Kernels in time of one convolution in every block of every layer. `name` has {layer} and {block}."""
    return [
        [side(tensors, name.format(layer=layer, block=block), 2) for block in range(blocks)]
        for layer, blocks in enumerate(stages, 1)
    ]
