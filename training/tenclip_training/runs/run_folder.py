"""The folder of a run: what it holds, and whether the run in it can go on.

    config.json      the run's TrainConfig
    last.pt          the newest state, from which the run is resumed
    best.pt          the weights with the best video top-1 on the validation split (mAP with a sigmoid for each class)
    history.jsonl    a line for each epoch
    steps.jsonl      a line for each step
    failures.jsonl   a line for each video that could not be read
    damaged.jsonl    a line for each training video with damaged frames, which was used
    nan-batch.pt     the batch whose loss or gradient was not finite, where there was one
    tensorboard/     the numbers of steps and epochs for TensorBoard, where asked for

Lines are added to steps.jsonl, failures.jsonl and damaged.jsonl; every other file is written whole or not at all.
Failures, damage and bad batches of further processes are in files of their own: failures.rank1.jsonl, ...
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
from tenclip_data.atomic import remove_drafts, write_text
from tenclip_data.manifest import Manifest
from tenclip_training.omni.stills import motion_sha256
from tenclip_training.runs.bad_batch import forget_bad_batches
from tenclip_training.runs.checkpoint import Checkpoint, load_checkpoint
from tenclip_training.runs.config import RESCUE_FIELDS, RESUMABLE_FIELDS, SECTIONS, TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.results import EpochResult


class RunFolder:
    """The files of one run. Of several processes that train together the first one writes."""

    def __init__(self, path: Path | str, world: World) -> None:
        self.path, self.world = Path(path), world
        self.last, self.best = self.path / "last.pt", self.path / "best.pt"
        self.steps, self.tensorboard = self.path / "steps.jsonl", self.path / "tensorboard"
        suffix = "" if world.is_first else f".rank{world.rank}"
        self.failures = self.path / f"failures{suffix}.jsonl"
        self.damaged = self.path / f"damaged{suffix}.jsonl"
        self.bad_batch = self.path / f"nan-batch{suffix}.pt"

    def find(self, config: TrainConfig, manifest: Manifest, *, resume: bool) -> Checkpoint | None:
        """The checkpoint to go on from, None to begin. Writes nothing.

        Raises CheckpointError when there is a run and `resume` is not set, or when it is another run than `config`
        describes.
        """
        if not self.last.exists():
            return None
        if not resume:
            raise CheckpointError(f"{self.path}: holds a run already; resume it, or choose another folder")
        checkpoint = load_checkpoint(self.last)
        self._check_resumable(checkpoint.training_state, config, manifest)
        return checkpoint

    def find_together(self, config: TrainConfig, manifest: Manifest, *, resume: bool) -> Checkpoint | None:
        """What `find` finds, which must be the same in all processes: an --out that machines do not share is not.

        Raises CheckpointError in all of them where it is not, or where one of them has an error.
        """
        checkpoint, error = None, None
        try:
            checkpoint = self.find(config, manifest, resume=resume)
            found = _place_of(checkpoint)
        except CheckpointError as err:
            error, found = err, err.message
        of_all = self.world.gather([found])
        if error is not None:
            raise error
        other = next((rank for rank, theirs in enumerate(of_all) if theirs != found), None)
        if other is not None:
            raise CheckpointError(
                f"{self.last}: the processes of a run go on from the same checkpoint, and process {self.world.rank} "
                f"finds {found}, process {other} {of_all[other]}; --out has to be a folder that all machines share"
            )
        return checkpoint

    def require_same_processes(self, checkpoint: Checkpoint | None) -> None:
        """For shards, whose order within an epoch follows from the number of processes.

        Raises CheckpointError in mid-epoch, where another order would leave out some videos and take others twice.
        """
        state = None if checkpoint is None else checkpoint.training_state
        if state is not None and state["step"] and state["world_size"] != self.world.size:
            raise CheckpointError(
                f"{self.last}: is in the midst of epoch {state['epoch'] + 1}, in which {state['world_size']} processes "
                f"share the shards; start as many, and {self.world.size} only after the end of an epoch"
            )

    def begin(self, config: TrainConfig, *, anew: bool) -> None:
        """Make the folder, and write the config. anew: what an earlier run has left there is not this one's."""
        if self.world.is_first:
            self.write(self.path / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")
            remove_drafts(self.path)  # of a process that was killed while it wrote
            if anew:
                forget_bad_batches(self.path)
        self.world.wait()

    def write(self, path: Path, text: str) -> None:
        """Write a file of the run. Raises CheckpointError when it cannot be written, and leaves the one before."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as err:
            raise CheckpointError(f"{path}: cannot be written: {err}") from err

    def write_history(self, history: Iterable[EpochResult]) -> None:
        """Write history.jsonl anew."""
        if self.world.is_first:
            lines = [json.dumps(dataclasses.asdict(h)) + "\n" for h in history]
            self.write(self.path / "history.jsonl", "".join(lines))

    def _check_resumable(self, state: dict[str, Any] | None, config: TrainConfig, manifest: Manifest) -> None:
        """Raises CheckpointError that names what differs: the rest of the run would not be what was begun."""
        if state is None:
            raise CheckpointError(f"{self.last}: holds a model and no state to resume from")
        if "micro_batches_per_step" not in state:
            raise CheckpointError(
                f"{self.last}: was begun by an earlier version of tenclip, whose runs this one cannot go on with; "
                "its weights are a start for a new run: --init-from"
            )
        changed = changes(state.get("config", {}), config)
        if any(self.path.glob("nan-batch*.pt")):
            changed = {name: values for name, values in changed.items() if name not in RESCUE_FIELDS}
        if changed:
            details = ", ".join(f"{k} (was {was!r}, now {now!r})" for k, (was, now) in changed.items())
            raise CheckpointError(f"{self.last}: cannot be resumed with other settings: {details}")
        if state.get("manifest_sha256") != manifest_sha256(manifest):
            raise CheckpointError(
                f"{self.last}: cannot be resumed: the training videos or labels in {manifest.source} changed"
            )
        if state.get("motion_sha256") != motion_sha256(config.stills):
            raise CheckpointError(f"{self.last}: cannot be resumed: the motion file {config.stills.motion} changed")
        micro_batches = state["micro_batches_per_step"]
        if micro_batches % self.world.size:
            possible = [str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0]
            raise CheckpointError(
                f"{self.last}: each step is of {micro_batches} micro-batches of {config.batch_size} clips, which "
                f"{self.world.size} processes cannot share evenly; start {' or '.join(possible)} "
                f"(it has had {state['world_size']})"
            )


def _place_of(checkpoint: Checkpoint | None) -> str:
    """Where a run goes on, in words."""
    if checkpoint is None or checkpoint.training_state is None:
        return "none"
    state = checkpoint.training_state
    return f"epoch {state['epoch'] + 1} after {state['step']} steps"


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
    rows = [[s.key, list(s.labels), *([s.fingerprint] if s.fingerprint else [])] for s in manifest.samples]
    return hashlib.sha256(json.dumps([list(manifest.labels), rows]).encode()).hexdigest()


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A config as this version writes it, flat: {"epochs": 3, "optimizer.lr": 0.1, ...}.

    Fields that an earlier version did not have get their defaults.
    """
    with contextlib.suppress(ValueError, TypeError):  # of another version: what differs is named
        config = TrainConfig.from_dict(config).to_dict()
    values: dict[str, Any] = json.loads(json.dumps(config))  # a tuple equals the list that it becomes in a file
    sections = (*SECTIONS, "teaching")
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if name in sections else {name: value}
    return flat
