"""The scorers that are compared: motion energy, which learns nothing, and samplers trained on the network's scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenclip_video.salience import ClipScorer, MotionEnergyScorer

MOTION_ENERGY = "motion energy"


@dataclass(frozen=True, kw_only=True)
class SamplerPlan:
    """A sampler to train. kind: what it looks at; loss: what it learns."""

    kind: str
    loss: str

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.loss}"


# The first is the one that the verdicts are about, chosen before any result: SCSampler's own for pictures.
SAMPLERS: tuple[SamplerPlan, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainedSampler:
    """A scorer by name. path: its graph; None: motion energy."""

    name: str
    path: Path | None

    @property
    def slug(self) -> str:
        """The name for files."""
        return self.name.replace(",", "").replace(" ", "-")

    def open(self) -> ClipScorer:
        return MotionEnergyScorer()
