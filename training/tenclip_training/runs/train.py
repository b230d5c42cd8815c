"""Training: `train(config)` goes from a manifest to checkpoints in a folder; `run_folder.py` lists its files.

Resuming is exact: a run that was stopped after any step and resumed ends with the same bits as one that was not (on the
same machine, with the same number of threads). For that nothing random lives on from step to step: the order of an
epoch follows from (seed, epoch), a clip from (seed, epoch, index), dropout from (seed, step), the rate from the step.

B clips, T frames, K classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tenclip_api.errors import CheckpointError, DatasetError, TrainingDiverged
from tenclip_data.samples import Manifest, split_name
from tenclip_training.data.dataset import Batch, Collate
from tenclip_training.data.failures import FailureLog, unreadable_classes
from tenclip_training.evaluation.evaluate import EvaluationResult, find_protocol
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import Checkpoint, load_weights, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World, join_world
from tenclip_training.runs.epoch_meter import EpochMeter
from tenclip_training.runs.interrupts import ignore_interrupts, stop_requests
from tenclip_training.runs.mixup import with_mixup
from tenclip_training.runs.objectives import Inputs, build_objective
from tenclip_training.runs.optimization import Updater, autocast, resolve_precision
from tenclip_training.runs.results import EpochResult, Progress, Stage, TrainResult
from tenclip_training.runs.run_folder import RunFolder, manifest_sha256
from tenclip_training.runs.schedules import build_schedule
from tenclip_training.runs.setup import (
    build_dataset,
    build_model,
    build_sampler,
    place_model,
    read_splits,
    run_notes,
    warn_of_repeats,
)
from tenclip_training.runs.transfer import prepare_transfer
from tenclip_training.runs.validation import validate
from tenclip_video.cpus import usable_cpus

__all__ = ["EpochResult", "Progress", "TrainResult", "train"]

# Reading the loss from a GPU waits until it has done all its work, so it is read after every so many steps only.
GPU_STEPS_PER_REPORT = 20


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop_after_steps: int | None = None,
) -> TrainResult:
    """Train until the last epoch, SIGINT or SIGTERM (a second one ends it at once), or `stop_after_steps` steps.

    resume: go on from `config.out`/last.pt, which must be of this very config; without one there, begin.
    progress: called after every video and step; on_epoch: after every epoch; on_note: with lines for a person, before
    the first step.
    Raises DatasetError (manifest, too many unreadable videos), CheckpointError (resume, init_from), InvalidRequest
    (a model or precision that does not exist), TrainingDiverged when the loss is no longer finite.

    ::

        result = train(TrainConfig(manifest="videos/manifest.csv", out="run", epochs=10))
        print(result.last, result.history[-1].val_video_top1)  # run/last.pt 0.92
    """
    run = _Run(config, join_world(config.device), progress or (lambda _: None), on_epoch or (lambda _: None))
    run.start(resume=resume)
    if on_note is not None and run.world.is_first:
        for note in run.notes:
            on_note(note)
    with stop_requests() as stop:
        for steps, batch in enumerate(run.loader(), start=1):
            run.train_on(batch)
            wanted = stop.is_set() or steps == stop_after_steps
            run.end_step(stop=not run.world.all_true(not wanted, run.device))
            if run.stopped:
                break
    return run.result()


class _Run:
    """The moving parts of a run. `epoch` and `step` (within it) count what is done."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        progress: Callable[[Progress], None],
        on_epoch: Callable[[EpochResult], None],
    ) -> None:
        self.config, self.world = config, world
        self.progress = progress if world.is_first else lambda _: None
        self.on_epoch = on_epoch if world.is_first else lambda _: None
        self.folder = RunFolder(config.out, world)
        self.device = world.device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.splits = read_splits(config)
        self.manifest = self.splits.train
        torch.manual_seed(config.seed)
        start = build_model(config, self.manifest.labels)
        self.model, self.spec = start.model, start.clip_spec
        place_model(self.model, self.device, channels_last=config.channels_last)
        prepare_transfer(self.model, config.transfer, self.device)
        self.notes = (*start.notes, *run_notes(self.model, config))
        self.network = world.wrap(self.model, self.device)
        self.scoring = Scoring.of_checkpoint(self.manifest.labels, {"config": config.to_dict()}, source=config.out)
        if self.splits.val is not None:
            self.scoring.check(find_protocol(config.val_protocol))
        self.objective = with_mixup(build_objective(config.objective, self.scoring.heads), config.objective.mixup)
        self.updater = Updater(self.model, config.optimizer, device=self.device, precision=self.precision)
        self.dataset = build_dataset(config, self.manifest, self.spec)
        self.sampler = build_sampler(config, self.manifest, world)
        if world.is_first:
            warn_of_repeats(config, self.manifest)
        self.schedule = build_schedule(
            config.schedule,
            config.optimizer,
            epochs=config.epochs,
            steps_per_epoch=self.sampler.steps_per_epoch,
            world_size=world.size,
        )
        self.epoch = self.step = 0
        self.stopped = False
        self.history: list[EpochResult] = []
        self.best: tuple[float, float] | None = None  # (video top-1 or mAP, -loss) of best.pt
        self.evaluation: EvaluationResult | None = None
        self.meter = EpochMeter(self.device)
        self.failures = FailureLog(
            self.folder.failures, split_name(config.train_split), len(self.manifest.samples), config.max_failures
        )

    # -- beginning --

    def start(self, *, resume: bool) -> None:
        checkpoint = self.folder.open(self.config, self.manifest, resume=resume)
        if checkpoint is None:
            self.failures.restore([])
        else:
            self._restore(checkpoint)
        self.folder.write_history(self.history)
        if self.config.cache_gib > 0 and self.epoch < self.config.epochs:
            self._fill_cache()
        self.meter.start_clock()
        self.saved_at = time.monotonic()

    def loader(self) -> DataLoader[Any]:
        """Batches from the next step to the last one of the run."""
        return DataLoader(
            self.dataset,
            batch_sampler=dataclasses.replace(self.sampler, first_epoch=self.epoch, first_step=self.step),
            collate_fn=Collate(self.spec, len(self.manifest.labels)),
            num_workers=self.config.workers,
            worker_init_fn=ignore_interrupts,
            pin_memory=self.device.type == "cuda",
        )

    def _fill_cache(self) -> None:
        failed = self.dataset.fill_cache(
            int(self.config.cache_gib * 2**30),
            threads=max(1, usable_cpus() // self.world.size),
            progress=lambda done, total: self._report("cache", done, total),
        )
        self.failures.record(failed)

    # -- steps --

    def train_on(self, batch: Batch) -> None:
        """One step of the optimiser, and the report of it.

        A batch of which no video could be read is passed over, in every process.
        """
        steps_done = self.epoch * self.sampler.steps_per_epoch + self.step
        self.failures.record(batch.failures)
        self.learning_rate = self.schedule.rate(
            steps_done, [h.val_loss for h in self.history if h.val_loss is not None]
        )
        torch.manual_seed((self.config.seed * 1_000_003 + steps_done) * self.world.size + self.world.rank)
        micro_batches = batch.split(self.config.optimizer.accumulate)
        if self.world.all_true(len(micro_batches[-1].clips) > 0, self.device):
            self._descend(batch, micro_batches)
        self.step += 1
        self._report_step()

    def _descend(self, batch: Batch, micro_batches: list[Batch]) -> None:
        for part in micro_batches:
            is_last = part is micro_batches[-1]
            # Gradients are averaged over processes once a step.
            with contextlib.nullcontext() if is_last else self.world.unsynchronised(self.network):
                loss, correct = self.objective(self._inputs(part), self._forward)
                self.updater.add(loss * (len(part.clips) / len(batch.clips)))
            self.meter.add(loss.detach(), correct, len(part.clips))
        self.updater.step(learning_rate=self.learning_rate)

    def _inputs(self, batch: Batch) -> Inputs:
        clips = normalise(batch.clips.to(self.device, non_blocking=True), self.spec)
        if not self.config.channels_last:
            clips = clips.contiguous()
        return Inputs(clips=clips, targets=batch.targets.to(self.device, non_blocking=True))

    def _forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.device, self.precision):
            logits, features = self.network(clips)
        return logits, features

    def end_step(self, *, stop: bool) -> None:
        """Close the epoch after its last step. Saves then, when asked to stop, and every few minutes."""
        if self.step == self.sampler.steps_per_epoch:
            self._end_epoch()
            self._save()
        elif stop or time.monotonic() - self.saved_at > 60 * self.config.save_every_minutes:
            self._save()
        self.stopped = stop and self.epoch < self.config.epochs

    # -- epochs --

    def _end_epoch(self) -> None:
        loss, correct, clips = self.meter.sums(self.world)
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"{self.folder.path}: the loss of epoch {self.epoch + 1} is {loss}; last.pt holds the epoch before. "
                "Lower optimizer.lr, limit max_gradient_norm, or use precision fp32"
            )
        if not clips:
            raise DatasetError(f"{self.manifest.source}: no video of epoch {self.epoch + 1} could be read")
        result = EpochResult(
            epoch=self.epoch + 1,
            loss=loss / clips,
            learning_rate=self.learning_rate,
            train_clip_top1=correct / clips,
            train_clips=clips,
            unreadable_classes=self._unreadable_classes(),
            seconds=self.meter.seconds(),
        )
        last = self.epoch + 1 == self.config.epochs
        if self.splits.val is not None and (last or (self.epoch + 1) % self.config.val_every == 0):
            result = self._validate(self.splits.val, result)
        self.history.append(result)
        self.epoch, self.step = self.epoch + 1, 0
        self.meter.reset()
        self.folder.write_history(self.history)
        self.on_epoch(result)

    def _unreadable_classes(self) -> tuple[str, ...]:
        failed = self.failures.of_split(self.failures.train_split)
        return unreadable_classes(self.manifest, {f.video for f in self.world.gather(failed)})

    def _validate(self, val: Manifest, result: EpochResult) -> EpochResult:
        self.evaluation = found = validate(
            self.model,
            self.spec,
            val,
            protocol=self.config.val_protocol,
            scoring=self.scoring,
            world=self.world,
            device=self.device,
            record=self.failures.record,
            progress=lambda done, total: self._report("evaluate", done, total),
        )
        mean_precision = found.mean_average_precision.value if found.activation == "sigmoid" else None
        chosen_by = found.video_top1.value if mean_precision is None else mean_precision
        score = (chosen_by, -found.loss)
        if self.splits.selects_best and (self.best is None or score > self.best):
            self.best = score
            if self.world.is_first:
                facts = {} if mean_precision is None else {"val_video_mAP": mean_precision}
                self._checkpoint(self.folder.best, {"val_video_top1": found.video_top1.value, **facts}, None)
        return dataclasses.replace(
            result,
            seconds=self.meter.seconds(),
            val_video_top1=found.video_top1.value,
            val_video_map=mean_precision,
            val_clip_top1=found.clip_top1.value,
            val_loss=found.loss,
            val_videos_decoded=found.videos_decoded,
            val_videos_asked=found.videos_asked,
        )

    # -- reports --

    def _report_step(self) -> None:
        read = self.device.type == "cpu" or self.step % GPU_STEPS_PER_REPORT == 0
        self._report(
            "train",
            self.step,
            self.sampler.steps_per_epoch,
            loss=self.meter.mean_loss() if read else math.nan,
            learning_rate=self.learning_rate,
        )

    def _report(self, stage: Stage, done: int, total: int, **more: float) -> None:
        epoch = min(self.epoch + 1, self.config.epochs)
        self.progress(Progress(stage=stage, done=done, total=total, epoch=epoch, epochs=self.config.epochs, **more))

    def result(self) -> TrainResult:
        failures = {(f.split, f.video): f for f in self.world.gather(list(self.failures.failures.values()))}
        val = self.splits.val
        has_best = self.splits.selects_best and self.best is not None and self.folder.best.exists()
        return TrainResult(
            out=self.folder.path,
            last=self.folder.last,
            best=self.folder.best if has_best else None,
            best_note=self.splits.note,
            completed=self.epoch == self.config.epochs,
            epochs_done=self.epoch,
            labels=self.manifest.labels,
            history=tuple(self.history),
            evaluation=self.evaluation,
            failures=tuple(failures.values()),
            train_split=self.failures.train_split,
            val_split=self.splits.val_split,
            train_videos=len(self.manifest.samples),
            val_videos=0 if val is None else len(val.samples),
        )

    # -- checkpoints --

    def _save(self) -> None:
        if self.world.is_first:
            self._checkpoint(self.folder.last, {}, self._state())
        self.saved_at = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.to_dict(),
            "manifest_sha256": manifest_sha256(self.manifest),
            "world_size": self.world.size,
            "epoch": self.epoch,
            "step": self.step,
            **self.updater.state_dict(),
            **self.meter.state_dict(),
            "history": [asdict(h) for h in self.history],
            "best": None if self.best is None else list(self.best),
            "failures": [asdict(f) for f in self.failures.failures.values()],
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        path, state = self.folder.last, checkpoint.training_state
        assert state is not None
        load_weights(self.model, checkpoint.model.state_dict(), source=str(path))
        try:
            self.updater.load_state_dict(state)
            self.meter.load_state_dict(state, self.world)
            self.epoch, self.step = state["epoch"], state["step"]
            self.history = [EpochResult(**h) for h in state["history"]]
            self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
            self.failures.restore(state["failures"])
        except (KeyError, ValueError, TypeError) as err:
            raise CheckpointError(f"{path}: its training state cannot be used: {err!r}") from err

    def _checkpoint(self, path: Path, facts: dict[str, Any], state: dict[str, Any] | None) -> None:
        provenance = {
            "trained_by": "tenclip train",
            "torch": str(torch.__version__),
            "device": self.device.type,
            "precision": self.precision,
            "epochs_done": self.epoch + (state is None),
            "train_videos": len(self.manifest.samples),
            "train_videos_failed": len(self.failures.of_split(self.failures.train_split)),
            "config": self.config.to_dict(),
            **facts,
        }
        save_checkpoint(
            path,
            self.model,
            clip_spec=self.spec,
            labels=self.manifest.labels,
            provenance=provenance,
            training_state=state,
        )
