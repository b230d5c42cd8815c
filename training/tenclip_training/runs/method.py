"""What a training method brings to a run: its videos, its targets and its loss. The loop and the files are the run's.

`Method` itself learns classes from labelled videos. Others override what they do differently; `distill` is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tenclip_data.samples import Manifest
from tenclip_training.data.dataset import Batch, ClipDataset, Collate
from tenclip_training.data.failures import Failure
from tenclip_training.data.joint import JointDataset, JointSampler
from tenclip_training.data.samplers import EpochSampler
from tenclip_training.heads import Heads
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.mixup import with_mixup
from tenclip_training.runs.objectives import Objective, build_objective
from tenclip_training.runs.results import Stage
from tenclip_training.runs.run_folder import RunFolder
from tenclip_training.runs.setup import Splits, build_dataset, build_sampler, read_splits
from tenclip_video.spec import ClipSpec

RunSampler = EpochSampler | JointSampler
RunDataset = ClipDataset | JointDataset


@dataclass(frozen=True)
class Beginning:
    """What a method may use before the first step. resumed: a run goes on, which `begin` has seen before.

    progress: (stage, done, total); record: takes videos that cannot be read.
    """

    folder: RunFolder
    dataset: Any  # what `build_dataset` made
    resumed: bool
    progress: Callable[[Stage, int, int], None]
    record: Callable[[Iterable[Failure]], None]


class Method:
    """Supervised learning. command: of the checkpoint's provenance; notes: lines for a person, once `begin` is done.

    bounded: splits other than the training one of which too many unreadable files end the run, with their numbers of
    files; known once `read_splits` is done.
    """

    command = "tenclip train"
    notes: tuple[str, ...] = ()
    bounded: Mapping[str, int] = MappingProxyType({})

    def read_splits(self, config: TrainConfig) -> Splits:
        """The videos of the run; their label space is what the network's classifier is made for."""
        return read_splits(config)

    def build_sampler(self, config: TrainConfig, manifest: Manifest, world: World) -> RunSampler:
        """This process's order of the videos, from the first step of the run."""
        return build_sampler(config, manifest, world)

    def build_dataset(self, config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> RunDataset:
        """The clips of the run. They are made in worker processes where there are any."""
        return build_dataset(config, manifest, spec)

    def collate(self, manifest: Manifest, spec: ClipSpec) -> Callable[[Sequence[Any]], Batch]:
        """From clips to a batch, in worker processes, too."""
        return Collate(spec, len(manifest.labels))

    def build_objective(self, config: TrainConfig, heads: Heads | None) -> Objective:
        """The loss. heads: where the network has several."""
        return with_mixup(build_objective(config.objective, heads), config.objective.mixup)

    def begin(self, beginning: Beginning) -> None:
        """Called once, before the first step of a run or of its rest, in every process."""

    def batches(self, loader: Iterable[Batch]) -> Iterable[Batch]:
        """The loader's batches, each taken when the step before it is done; for work of the run's own process."""
        return loader

    def end_epoch(self, world: World) -> dict[str, float]:
        """`EpochResult.facts`, over all processes; counts begin anew."""
        return {}

    def state_dict(self, world: World) -> dict[str, Any]:
        """Plain values of the epoch so far, over all processes, for last.pt."""
        return {}

    def load_state_dict(self, state: dict[str, Any], world: World) -> None:
        """Raises KeyError or TypeError for a state of something else."""
