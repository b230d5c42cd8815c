"""VideoModel, the base class of all architectures, with the head that they share.

Shapes: B clips, K classes, D features, P positions of the classifier, T frames, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tenclip_training.models.blocks import Execution, set_execution

# fixed: an average pool whose kernel is the final map at the pooled size, so a larger crop gives more positions.
# global: an average over the whole map, whatever its size: always one position.
# mean: the positions of "fixed", averaged before the classifier: their mean logits, as one position.
Head = Literal["fixed", "global", "mean"]
PoolSize = tuple[int, int, int]


class NoClassifier(nn.Module):
    """Stands where a backbone has no classifier: float [...,D] -> float [...,0]. It has no weights."""

    out_features = 0

    def __init__(self, in_features: int) -> None:
        super().__init__()
        self.in_features = in_features

    def forward(self, features: Tensor) -> Tensor:
        return features[..., :0]


def classifier(in_features: int, num_classes: int | None) -> nn.Linear:
    """The last layer of a network; a `NoClassifier` where `num_classes` is None.

    The type is that of all but those: code that needs `weight` asks for `num_classes` first.
    """
    if num_classes is None:
        return cast(nn.Linear, NoClassifier(in_features))
    return nn.Linear(in_features, num_classes)


class VideoModel(nn.Module):
    """A network from clips to classes. Made by `create_model`, which sets `architecture` and `config`.

    Sub-classes implement `feature_map` and have `fc`, the classifier. A backbone without one (`create_model(...,
    num_classes=None)`) has a `NoClassifier` there: `num_classes` is 0, logits are float [B,0,P], features are as
    always.
    """

    architecture: str = ""
    config: dict[str, Any]
    fc: nn.Linear

    def __init__(self, *, pool_size: PoolSize | None) -> None:
        """`pool_size`: kernel (T', H', W') of the average pool in the head; None averages over the whole map."""
        super().__init__()
        self.config = {}
        self.pool_size = pool_size
        self.averages_positions = False  # head "mean"; set by `create_model`
        self.in_channels = 3

    @property
    def num_classes(self) -> int:
        """Classes of the classifier; 0 for a backbone without one."""
        return self.fc.out_features

    @property
    def feature_dim(self) -> int:
        return self.fc.in_features

    def feature_map(self, clips: Tensor) -> Tensor:
        """float [B,3,T,H,W] -> float [B,C,T',H',W'], the final map, which the head pools."""
        raise NotImplementedError

    def stages(self) -> dict[str, tuple[nn.Module, ...]]:
        """The parts of the network that have weights, by name, as a clip passes them; the classifier `fc` is the last.

        Residual networks have stem, layer1 to layer4. These are the names of `--freeze-to` and `--layer-lr`.
        """
        return {name: (part,) for name, part in self.named_children() if any(True for _ in part.parameters())}

    def project(self, pooled: Tensor) -> Tensor:
        """float [B,P,C] -> float [B,P,D]: layers between the pool and the classifier. Most networks have none."""
        return pooled

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """float [B,3,T,H,W], normalised -> logits [B,K,P], features [B,D].

        P is 1 at the size the model was made for. Above it the classifier slides over the map with the same weights
        (IG-65M, section 4.4) and each position has its own logits; features are the classifier's input, averaged over
        positions. Raises ValueError for clips smaller than the head's pool.
        """
        fmap = self.feature_map(clips if self.in_channels == 3 else clips[:, : self.in_channels])  # [B,C,T',H',W']
        pooled = fmap if self.pool_size is None else self._slide(fmap, self.pool_size)
        if self.pool_size is None or self.averages_positions:
            pooled = pooled.mean((2, 3, 4), keepdim=True)
        features = self.project(pooled.flatten(2).transpose(1, 2))  # [B,P,D]
        logits = self.fc(features).transpose(1, 2)  # [B,K,P]
        return logits, features.mean(1)

    def _slide(self, fmap: Tensor, kernel: PoolSize) -> Tensor:
        # Under an exporter sizes are symbols, and comparing them would fix them.
        if not torch.compiler.is_compiling() and any(n < k for n, k in zip(fmap.shape[2:], kernel, strict=True)):
            raise ValueError(
                f"the clips are too small: the final map is {tuple(fmap.shape[2:])} (time, height, width) and the head "
                f"pools {kernel}; the model was made for {self.config.get('num_frames')} frames of "
                f"{self.config.get('crop')} pixels"
            )
        return F.avg_pool3d(fmap, kernel, stride=1)

    def stem_name(self) -> str:
        """The name of the convolution that sees the input. Raises ValueError where several do."""
        if hasattr(self, "fast"):
            raise ValueError(f"{self.architecture} has two pathways, each with an input of its own")
        names: list[str] = [name for name, part in self.named_modules() if isinstance(part, nn.Conv3d)]
        return names[0]

    def take_channels(self, channels: int) -> None:
        """Look at the first so many channels of a clip alone: the first kernels lose the others, in place.

        They grow by the root of 3 / channels, so that what comes out of random ones is as large as before. Raises
        ValueError for other numbers than 1 to 3, and for a network of two pathways.
        """
        if channels not in (1, 2, 3):
            raise ValueError(f"in_channels must be 1, 2 or 3, got {channels!r}")
        stem = self.get_submodule(self.stem_name())
        assert isinstance(stem, nn.Conv3d)
        stem.weight = nn.Parameter(stem.weight.detach()[:, :channels] * (3 / channels) ** 0.5)
        stem.in_channels = self.in_channels = channels

    def set_execution(self, execution: Execution) -> None:
        """How factorised convolutions run: "conv3d" or "conv2d" (faster in training on a CPU); not part of `config`."""
        set_execution(self, execution)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """In it, the model is in eval mode; afterwards each part is in the mode that it had."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def check_head(head: Head, *, num_frames: int, crop: int) -> None:
    """Raises ValueError for a head of another name, or one made for no frames or no pixels."""
    if head not in get_args(Head):
        raise ValueError(f"head must be one of {get_args(Head)}, got {head!r}")
    if num_frames < 1 or crop < 1:
        raise ValueError(f"a model needs at least 1 frame of 1 pixel, got {num_frames = }, {crop = }")


def pool_size(head: Head, *, num_frames: int, crop: int, strides: tuple[int, int]) -> PoolSize | None:
    """Kernel of the head for clips of `num_frames` x `crop` x `crop` in a network that strides (time, space) in all.

    Every layer here turns a side of n into ceil(n / stride), so the final map is ceil(n / product).

    >>> pool_size("fixed", num_frames=16, crop=112, strides=(8, 16))
    (2, 7, 7)
    """
    check_head(head, num_frames=num_frames, crop=crop)
    side = -(-crop // strides[1])
    return None if head == "global" else (-(-num_frames // strides[0]), side, side)
