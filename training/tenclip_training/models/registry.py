"""Architectures by name: `create_model("r2plus1d_18", num_classes=400)`.

A factory is a plain keyword-only function; `@register_architecture` gives it a name and the values that make this
architecture of it. Tests parametrise over `ARCHITECTURES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, TypeVar

from tenclip_training.models.blocks import Execution
from tenclip_training.models.video_model import VideoModel

Factory = TypeVar("Factory", bound=Callable[..., VideoModel])


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A registered architecture and its published figures.

    `parameters` is the count at `num_classes` classes; `gmacs` the billions of multiply-adds of one clip of
    `num_frames` x `crop` x `crop`. None where nobody published a figure.
    """

    name: str
    family: str
    factory: Callable[..., VideoModel]
    defaults: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 400
    parameters: int | None = None
    gmacs: float | None = None
    gmacs_at: tuple[int, int] = (32, 112)


ARCHITECTURES: dict[str, Architecture] = {}


def register_architecture(
    name: str,
    *,
    family: str,
    num_classes: int = 400,
    parameters: int | None = None,
    gmacs: float | None = None,
    gmacs_at: tuple[int, int] = (32, 112),
    **defaults: Any,
) -> Callable[[Factory], Factory]:
    """Registers a factory under `name` with `defaults` for its arguments. One factory may have many names."""

    def register(factory: Factory) -> Factory:
        assert name not in ARCHITECTURES, f"architecture {name} is registered twice"
        ARCHITECTURES[name] = Architecture(
            name=name,
            family=family,
            factory=factory,
            defaults=defaults,
            num_classes=num_classes,
            parameters=parameters,
            gmacs=gmacs,
            gmacs_at=gmacs_at,
        )
        return factory

    return register


def create_model(
    architecture: str, *, num_classes: int | None, execution: Execution = "conv3d", **config: Any
) -> VideoModel:
    """A new model with random weights, in training mode. `num_classes` None makes a backbone without a classifier.

    `config` are plain JSON values, arguments of the architecture's factory; `num_frames` and `crop` say for which clips
    the head pools to one position. `model.config` holds all of them, so that `create_model(architecture, **config)`
    rebuilds the model. `in_channels` 2 makes a network of optical flow, which looks at the first two of three channels.
    Raises ValueError for an unknown architecture or argument.

    >>> model = create_model("r2plus1d_10", num_classes=8, width=16, num_frames=8, crop=56)
    >>> logits, features = model(torch.zeros(2, 3, 8, 56, 56))  # [2,8,1], [2,128]
    """
    found = ARCHITECTURES.get(architecture)
    if found is None:
        near = get_close_matches(architecture, ARCHITECTURES, n=3) or sorted(ARCHITECTURES)
        raise ValueError(f"no architecture {architecture!r}; did you mean {', '.join(near)}?")
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    channels = config.pop("in_channels", 3)
    accepted = config_defaults(found)
    unknown = sorted(set(config) - set(accepted))
    if unknown:
        raise ValueError(f"{architecture} takes no {', '.join(unknown)}; it takes {', '.join(sorted(accepted))}")
    full = {**accepted, **config}
    model = found.factory(num_classes=num_classes, **full)
    model.architecture = architecture
    model.config = {"num_classes": num_classes, **full}
    if channels != 3:
        model.take_channels(channels)
        model.config["in_channels"] = channels
    model.averages_positions = full.get("head") == "mean"
    model.set_execution(execution)
    return model


def config_defaults(architecture: Architecture) -> dict[str, Any]:
    """Every config value that the architecture takes, with its default."""
    parameters = inspect.signature(architecture.factory).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.name != "num_classes"}
    return {**defaults, **architecture.defaults}
