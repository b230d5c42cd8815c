"""The folder of a run: what it holds, and whether the run in it can go on.

    config.json      the run's TrainConfig
    last.pt          the newest state, from which the run is resumed
    best.pt          the weights with the best video top-1 on the validation split (mAP with a sigmoid for each class)
    history.jsonl    a line for each epoch
    failures.jsonl   a line for each video that could not be read

Every file but failures.jsonl, to which lines are added, is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tenclip_api.errors import CheckpointError
from tenclip_data.atomic import write_text
from tenclip_data.manifest import Manifest
from tenclip_training.runs.checkpoint import Checkpoint, load_checkpoint
from tenclip_training.runs.config import RESUMABLE_FIELDS, SECTIONS, TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.results import EpochResult


class RunFolder:
    """The files of one run. Of several processes that train together the first one writes."""

    def __init__(self, path: Path | str, world: World) -> None:
        self.path, self.world = Path(path), world
        self.last, self.best = self.path / "last.pt", self.path / "best.pt"
        suffix = "" if world.is_first else f".rank{world.rank}"
        self.failures = self.path / f"failures{suffix}.jsonl"

    def open(self, config: TrainConfig, manifest: Manifest, *, resume: bool) -> Checkpoint | None:
        """Make the folder, or take up the run in it: the checkpoint to go on from, None to begin.

        Raises CheckpointError when there is a run and `resume` is not set, or when it is another run than `config`
        describes; nothing is written then.
        """
        checkpoint = None
        if self.last.exists():
            if not resume:
                raise CheckpointError(f"{self.path}: holds a run already; resume it, or choose another folder")
            checkpoint = load_checkpoint(self.last)
            self._check_resumable(checkpoint.training_state, config, manifest)
        if self.world.is_first:
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
        self.world.wait()
        return checkpoint

    def write_history(self, history: Iterable[EpochResult]) -> None:
        """Write history.jsonl anew."""
        if self.world.is_first:
            lines = [json.dumps(dataclasses.asdict(h)) + "\n" for h in history]
            write_text(self.path / "history.jsonl", "".join(lines))

    def _check_resumable(self, state: dict[str, Any] | None, config: TrainConfig, manifest: Manifest) -> None:
        """Raises CheckpointError that names what differs: the rest of the run would not be what was begun."""
        if state is None:
            raise CheckpointError(f"{self.last}: holds a model and no state to resume from")
        changed = changes(state.get("config", {}), config)
        if changed:
            details = ", ".join(f"{k} (was {was!r}, now {now!r})" for k, (was, now) in changed.items())
            raise CheckpointError(f"{self.last}: cannot be resumed with other settings: {details}")
        if state.get("manifest_sha256") != manifest_sha256(manifest):
            raise CheckpointError(
                f"{self.last}: cannot be resumed: the training videos or labels in {manifest.source} changed"
            )
        if state.get("world_size") != self.world.size:
            raise CheckpointError(
                f"{self.last}: was trained by {state.get('world_size')} processes, now there are {self.world.size}"
            )


def changes(before: dict[str, Any], config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """The settings that differ and decide about results: {"optimizer.lr": (was, is)}. before: of a checkpoint."""
    was, now = _comparable(before), _comparable(config.to_dict())
    return {
        name: (was.get(name), value)
        for name, value in now.items()
        if name.split(".")[0] not in RESUMABLE_FIELDS and was.get(name) != value
    }


def manifest_sha256(manifest: Manifest) -> str:
    """Hex SHA-256 over the labels and over the videos with their classes: what a run learns from."""
    rows = [[s.key, list(s.labels)] for s in manifest.samples]
    return hashlib.sha256(json.dumps([list(manifest.labels), rows]).encode()).hexdigest()


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A config as this version writes it, flat: {"epochs": 3, "optimizer.lr": 0.1, ...}.

    Fields that an earlier version did not have get their defaults.
    """
    with contextlib.suppress(ValueError, TypeError):  # of another version: what differs is named
        config = TrainConfig.from_dict(config).to_dict()
    values: dict[str, Any] = json.loads(json.dumps(config))  # a tuple equals the list that it becomes in a file
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if name in SECTIONS else {name: value}
    return flat
