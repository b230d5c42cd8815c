"""How the logits of a model become scores: what its training loss decides, and no checkpoint's weights show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tenclip_api.errors import InvalidRequest
from tenclip_training.heads import Heads, heads_of
from tenclip_video.aggregate import Aggregate, Outputs, aggregate
from tenclip_video.protocols import Activation, Averaging, Protocol


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """activation: one softmax over the classes, or a sigmoid for each. heads: a softmax over each of them instead."""

    activation: Activation = "softmax"
    heads: Heads | None = None

    @classmethod
    def of_checkpoint(cls, labels: Sequence[str] | None, provenance: Mapping[str, Any], *, source: str) -> Scoring:
        """What the run's config says; a softmax where there is none, as in public checkpoints. Raises CheckpointError.

        A loss that has a sigmoid for each class makes scores by sigmoids, also where a softmax was added to it.
        """
        config = provenance.get("config")
        objective = config.get("objective") if isinstance(config, Mapping) else None
        loss = str(objective.get("loss", "")) if isinstance(objective, Mapping) else ""
        heads = heads_of(labels, provenance, source=source)
        return cls(activation="sigmoid" if "sigmoid" in loss and heads is None else "softmax", heads=heads)

    def check(self, protocol: Protocol) -> None:
        """Raises InvalidRequest for a protocol that averages what this model does not have."""
        if self.activation == "sigmoid" and protocol.averaging == "vmz_joint":
            raise InvalidRequest(
                f"protocol {protocol.name} is one softmax over classes and positions, and this model was trained with "
                "a sigmoid for each class; use fully-convolutional, which averages positions"
            )

    def aggregate(self, outputs: Sequence[Outputs], averaging: Averaging, *, views: int) -> Aggregate:
        """`tenclip_video.aggregate.aggregate` as this model needs it: with heads, the scores of each sum to 1."""
        if self.heads is None:
            return aggregate(outputs, averaging, views=views, activation=self.activation)
        parts = [
            aggregate([Outputs(o.logits[:, head.outputs], o.features) for o in outputs], averaging, views=views)
            for head in self.heads.heads
        ]
        return parts[0]._replace(
            probabilities=np.concatenate([p.probabilities for p in parts]),
            clip_probabilities=np.concatenate([p.clip_probabilities for p in parts], axis=1),
        )
