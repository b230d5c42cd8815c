"""The scorers that are compared: samplers that learn from the heavy network, and motion energy, which learns nothing.

Samplers are trained by the function of `tenclip train-sampler`, with its own settings.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tenclip_api.errors import TenclipError
from tenclip_data.manifest import read_manifest
from tenclip_training.sampler.fit import FitConfig
from tenclip_training.sampler.local_teacher import local_teacher
from tenclip_training.sampler.losses import LossName
from tenclip_training.sampler.results import SamplerResult, sampler_file
from tenclip_training.sampler.run import Report, SamplerConfig, train_sampler
from tenclip_training.sampler.teacher import WindowTeacher
from tenclip_training.sampler.videos import SamplerVideos, labelled_videos
from tenclip_video.bundle import Bundle
from tenclip_video.salience import ClipScorer, LearnedScorer, MotionEnergyScorer, SamplerKind, load_sampler

# (what, done, of how many)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class SamplerPlan:
    """A sampler to train. kind: what it looks at; loss: what it learns."""

    kind: SamplerKind
    loss: LossName

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.loss}"


# The first is the one that the claims are about, named before there was any result: of SCSampler's visual ones that
# which its authors find best.
SAMPLERS: tuple[SamplerPlan, ...] = (
    SamplerPlan(kind="compressed", loss="rank"),
    SamplerPlan(kind="compressed", loss="ac"),
    SamplerPlan(kind="rgb", loss="rank"),
)


@dataclass(frozen=True, kw_only=True)
class TrainedScorer:
    """A scorer by name. path: its graph; None: motion energy. metrics: on videos that it did not learn from."""

    name: str
    path: Path | None = None
    training_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The name for files."""
        return slug(self.name)

    def open(self) -> ClipScorer:
        """Raises BundleError."""
        return MotionEnergyScorer() if self.path is None else LearnedScorer(picture=load_sampler(self.path))


def slug(name: str) -> str:
    """A scorer's name as a part of a file's: "compressed, rank" is "compressed-rank"."""
    return name.replace(",", "").replace(" ", "-")


class SamplerTraining:
    """Samplers that learn from one bundle and one manifest, in folders of `out`; what is costly is computed once.

    labels: classes in order. Raises TenclipError.
    """

    def __init__(self, bundle: Bundle, manifest: Path, out: Path, *, labels: tuple[str, ...]) -> None:
        self._bundle, self._manifest, self._out, self._labels = bundle, manifest, out, labels

    def folder(self, plan: SamplerPlan) -> Path:
        return self._out / slug(plan.name)

    def path(self, plan: SamplerPlan) -> Path:
        return self.folder(plan) / sampler_file(plan.kind)

    def train(self, plan: SamplerPlan, *, seed: int, epochs: int, tolerance: float, progress: Progress) -> Report:
        """Train one. Scores and inputs that another one needed as well are not computed again."""
        teacher, videos = self._teacher()
        config = SamplerConfig(
            kind=plan.kind,
            name=slug(plan.name),
            fit=FitConfig(loss=plan.loss, epochs=epochs, tolerance=tolerance, seed=seed),
        )
        return train_sampler(videos, teacher, self.folder(plan), config, cache=self._cache, progress=progress)

    def is_trained(self, plan: SamplerPlan) -> bool:
        """Whether there is a sampler that loads."""
        try:
            load_sampler(self.path(plan))
            SamplerResult.read(self.folder(plan))
        except TenclipError:
            return False
        return True

    def remove_cache(self) -> None:
        """The inputs of all windows are a gigabyte, and no sampler needs them any more."""
        shutil.rmtree(self._cache, ignore_errors=True)

    @property
    def _cache(self) -> Path:
        return self._out / "cache"

    def _teacher(self) -> tuple[WindowTeacher, SamplerVideos]:
        teacher = local_teacher(str(self._bundle.path))
        manifest = read_manifest(self._manifest, labels=self._labels, leaks="allow")
        return teacher, labelled_videos(manifest, teacher.labels)
