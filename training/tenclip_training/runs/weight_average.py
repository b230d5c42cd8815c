"""Exponential moving average of the weights of a run (OptimizerConfig.ema)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from tenclip_training.models import VideoModel
from tenclip_training.runs.checkpoint import load_weights

_Tensors = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """average <- d * average + (1 - d) * weights after each step, with d = min(decay, (1 + n) / (10 + n)) at step n+1.

    So the first steps, whose weights are little better than random, are forgotten soon, and `decay` holds from about
    step 9 / (1 - decay) on (as tf.train.ExponentialMovingAverage has it). It begins as the weights after the first
    step. Running statistics of batch norms are averaged like weights, for they belong to them; counters are copied.
    """

    def __init__(self, model: VideoModel, decay: float) -> None:
        self.decay = decay
        self._average = AveragedModel(model, multi_avg_fn=self._blend, use_buffers=True)
        self._average.requires_grad_(False)

    @property
    def model(self) -> VideoModel:
        """The model with the averaged weights; those that the run began with before its first step."""
        model = self._average.module
        assert isinstance(model, VideoModel)
        return model

    @property
    def updates(self) -> int:
        """Steps that were averaged."""
        return int(self._average.n_averaged)

    def update(self, model: VideoModel) -> None:
        """Take in the weights after a step."""
        self._average.update_parameters(model)

    def restore(self, weights: Mapping[str, Tensor], updates: int, *, source: str) -> None:
        """Go on from the average that a checkpoint holds. Raises CheckpointError."""
        load_weights(self.model, weights, source=source)
        self._average.n_averaged.fill_(updates)

    def _blend(self, averages: _Tensors, weights: _Tensors, _: Tensor | int) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            if averages[0].is_floating_point():
                torch._foreach_lerp_(averages, weights, 1 - decay)
            else:
                torch._foreach_copy_(averages, weights)
