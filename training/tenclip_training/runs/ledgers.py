"""The videos of a run that could not be read, and those with damaged frames: each process lists what it meets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tenclip_data.samples import Manifest, split_name
from tenclip_training.data.damage import Damage, DamageLog
from tenclip_training.data.dataset import Batch
from tenclip_training.data.failures import Failure, FailureLog
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.run_folder import RunFolder


class Ledgers:
    """failures.jsonl and damaged.jsonl. What asks all processes has to be called by each of them.

    train_videos_failed: as many training videos were unreadable when all processes were asked last. others: further
    splits of which too many failures end the run, with their numbers of videos.
    """

    def __init__(
        self, config: TrainConfig, train: Manifest, folder: RunFolder, others: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._world = folder.world
        self._failures = FailureLog(
            folder.failures, split_name(config.train_split), len(train.samples), config.max_failures, others
        )
        self._damage = DamageLog(folder.damaged)
        self.train_split, self.train_videos_failed = self._failures.train_split, 0
        self.record_failures = self._failures.record

    def begin(self, state: dict[str, Any] | None) -> None:
        """Begin the files, or go on from what a checkpoint remembers, which stays with the first process.

        Raises KeyError or TypeError for a state of something else.
        """
        goes_on = state is not None and self._world.is_first
        self._failures.restore(state["failures"] if state is not None and goes_on else [])
        self._damage.restore(state["damaged"] if state is not None and goes_on else [])

    def record(self, batch: Batch) -> None:
        """List what is new. Raises DatasetError when too many training videos have failed in this process."""
        self._failures.record(batch.failures)
        self._damage.record(batch.damaged)

    def failures(self) -> tuple[Failure, ...]:
        """Of all processes, each video once."""
        met = {(f.split, f.video): f for f in self._world.gather(list(self._failures.failures.values()))}
        self.train_videos_failed = sum(split == self.train_split for split, _ in met)
        return tuple(met.values())

    def train_failures(self) -> list[Failure]:
        """Those of training videos in all processes. Raises DatasetError when they are too many."""
        failed = self.failures()
        self._failures.check(failed)
        return [f for f in failed if f.split == self.train_split]

    def damaged(self) -> tuple[Damage, ...]:
        """Of all processes, each video once."""
        return tuple({d.video: d for d in self._world.gather(list(self._damage.found.values()))}.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all processes, from which `begin` goes on."""
        return {
            "failures": [dataclasses.asdict(f) for f in self.failures()],
            "damaged": [dataclasses.asdict(d) for d in self.damaged()],
        }
