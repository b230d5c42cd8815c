"""Training: `train(config)` goes from a manifest to checkpoints in a folder; `run_folder.py` lists its files.

Resuming is exact: a run that was stopped after any step and resumed ends with the same bits as one that was not (on the
same machine, with the same number of threads). For that nothing random lives on from step to step: the order of an
epoch follows from (seed, epoch), a clip from (seed, epoch, index), dropout from (seed, step, micro-batch), the
rate from the step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from torch.utils.data import DataLoader

from tenclip_api.errors import CheckpointError, DatasetError
from tenclip_data.samples import Manifest
from tenclip_training.data.dataset import Batch
from tenclip_training.data.failures import unreadable_classes
from tenclip_training.data.shards.order import ShardSampler
from tenclip_training.evaluation.evaluate import EvaluationResult
from tenclip_training.runs.bad_batch import keep_batch, make_again, not_finite
from tenclip_training.runs.checkpoint import Checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import join_world, was_restarted
from tenclip_training.runs.epoch_meter import EpochMeter
from tenclip_training.runs.interrupts import stop_requests
from tenclip_training.runs.joint import method_of
from tenclip_training.runs.ledgers import Ledgers
from tenclip_training.runs.method import Beginning, Method
from tenclip_training.runs.monitor import Monitor, ReadStep
from tenclip_training.runs.readers import begin_reader, from_readers
from tenclip_training.runs.reports import Reports
from tenclip_training.runs.results import EpochResult, Progress, TrainResult
from tenclip_training.runs.run_folder import RunFolder, changes
from tenclip_training.runs.run_state import RunState
from tenclip_training.runs.setup import warn_of_repeats
from tenclip_training.runs.trainer import Trainer
from tenclip_training.runs.validation import validate
from tenclip_video.cpus import usable_cpus

__all__ = ["EpochResult", "Progress", "TrainResult", "train"]


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    stop_after_steps: int | None = None,
    method: Method | None = None,
) -> TrainResult:
    """Train until the last epoch, SIGINT or SIGTERM (a second one ends it at once), or `stop_after_steps` steps.

    resume: go on from `config.out`/last.pt, which must be of this very config; without one there, begin. A process that
    torchrun has started again (--max-restarts) resumes in any case.
    progress: called after every video and step; on_epoch: after every epoch; on_note: with lines for a person, before
    the first step. method: what is learned and from what; None: classes, from labelled videos and from the
    auxiliary sources of the config.
    Raises DatasetError (manifest, too many unreadable videos), CheckpointError (resume, init_from, a full disk),
    InvalidRequest (a model or precision that does not exist, plateau without validation), TrainingDiverged when the
    loss or a gradient is not finite, and TenclipError when another process of the run has died.

    ::

        result = train(TrainConfig(manifest="videos/manifest.csv", out="run", epochs=10))
        print(result.last, result.history[-1].val_video_top1)  # run/last.pt 0.92
    """
    folder = RunFolder(config.out, join_world(config.device))
    state = RunState()
    reports = Reports(config, folder, state, progress, on_epoch)
    run = _Run(config, folder, state, reports, resume or was_restarted(), method or method_of(config))
    with stop_requests() as stop, folder.world.explain_lost_processes(folder.path), run.reports.closing():
        run.start()
        if on_note is not None and run.world.is_first:
            for note in (*run.trainer.notes, *run.method.notes):
                on_note(note)
        for steps, batch in enumerate(run.monitor.timed(run.batches()), start=1):
            run.train_on(batch)
            run.end_step(stop=stop.is_set() or steps == stop_after_steps)
            if run.stopped:
                break
        return run.result()


class _Run:
    """The moving parts of a run. `config` is the one it was begun with, `trainer` what learns."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        state: RunState,
        reports: Reports,
        resume: bool,
        method: Method,
    ) -> None:
        self.config, self.folder, self.world = config, folder, folder.world
        self.state, self.reports, self.method = state, reports, method
        self.splits = method.read_splits(config)
        self.manifest = self.splits.train
        self.checkpoint = folder.find_together(config, self.manifest, resume=resume)
        micro_batches = self._micro_batches(self.checkpoint)
        self.sampler = method.build_sampler(config.changed(accumulate=micro_batches), self.manifest, self.world)
        if isinstance(self.sampler, ShardSampler):
            folder.require_same_processes(self.checkpoint)
        if self.world.is_first:
            warn_of_repeats(config, self.manifest)
        self.trainer = Trainer(config, self.splits, self.world, self.sampler.steps_per_epoch, micro_batches, method)
        self.dataset = method.build_dataset(config, self.manifest, self.trainer.spec)
        self.collate = method.collate(self.manifest, self.trainer.spec)
        self.monitor = Monitor(self.world, self.trainer.device)
        self.meter = EpochMeter()
        self.stopped = False
        self.evaluation: EvaluationResult | None = None
        self.ledgers = Ledgers(config, self.manifest, folder, method.bounded)
        self.saved_steps: int | None = None

    def _micro_batches(self, checkpoint: Checkpoint | None) -> int:
        """Of this process in a step. A run that goes on in other processes has as many as ever in all."""
        if checkpoint is None or checkpoint.training_state is None:
            return self.config.optimizer.accumulate
        in_all: int = checkpoint.training_state["micro_batches_per_step"]
        return in_all // self.world.size

    @property
    def steps_done(self) -> int:
        """Over all epochs."""
        return self.state.epoch * self.sampler.steps_per_epoch + self.state.step

    # -- beginning --

    def start(self) -> None:
        """Make or take up the folder of the run, and fill the cache."""
        self.folder.begin(self.config, anew=self.checkpoint is None)
        if self.checkpoint is None:
            self.ledgers.begin(None)
        else:
            self._restore(self.checkpoint)
        begun = self.checkpoint is not None
        self.checkpoint = None  # its weights take memory
        self.reports.open(steps_done=self.steps_done)
        keeps_videos = self.config.cache_gib > 0 or self.config.cache_dir is not None
        if keeps_videos and self.state.epoch < self.config.epochs:
            self._fill_cache()
        if self.state.epoch < self.config.epochs:
            progress, record = self.reports.progress, self.ledgers.record_failures
            self.method.begin(Beginning(self.folder, self.dataset, resumed=begun, progress=progress, record=record))
        self.meter.start_clock()
        self.saved_at = time.monotonic()

    def batches(self) -> Iterable[Batch]:
        """From the next step to the last one of the run."""
        loader: DataLoader[Any] = DataLoader(
            self.dataset,
            batch_sampler=dataclasses.replace(self.sampler, first_epoch=self.state.epoch, first_step=self.state.step),
            collate_fn=self.collate,
            num_workers=self.config.workers,
            worker_init_fn=begin_reader,
            pin_memory=self.trainer.device.type == "cuda",
        )
        return self.method.batches(from_readers(loader))

    def _fill_cache(self) -> None:
        failed = self.dataset.fill_cache(
            int(self.config.cache_gib * 2**30),
            threads=max(1, usable_cpus() // self.world.size),
            progress=lambda done, total: self.reports.progress("cache", done, total),
        )
        self.ledgers.record_failures(failed)

    # -- steps --

    def train_on(self, batch: Batch) -> None:
        """One step of the optimiser, and the report of it.

        A batch of which no video could be read is passed over, in every process.
        """
        self.ledgers.record(batch)
        rate = self.learning_rate = self.trainer.schedule.rate(self.steps_done, self.state.val_losses)
        numbers = self.trainer.step(batch, step=self.steps_done, learning_rate=rate)
        self.monitor.add(self.state.epoch + 1, self.steps_done + 1, rate, numbers)
        self.state.step += 1
        self.monitor.end_step()
        if self.monitor.is_full:
            self._read_steps()
        self.reports.step(
            self.meter,
            steps=self.sampler.steps_per_epoch,
            learning_rate=rate,
            pace=self.monitor.seconds_per_step,
            validates=self.splits.val is not None,
        )

    def end_step(self, *, stop: bool) -> None:
        """Close the epoch after its last step. Saves then, when any process is to stop, and every few minutes."""
        due = self.world.is_first and time.monotonic() - self.saved_at > 60 * self.config.save_every_minutes
        wish_to_stop, is_due = self.world.sums(stop, due)
        at_end = self.state.step == self.sampler.steps_per_epoch
        if at_end or wish_to_stop or is_due:
            self._read_steps()
            if at_end:
                self._end_epoch()
            self._save()
        self.stopped = wish_to_stop > 0 and self.state.epoch < self.config.epochs

    def _read_steps(self) -> None:
        steps = self.monitor.read()
        self.reports.steps([s.record for s in steps])
        for step in steps:
            if not step.finite:
                self._abort(step)
            self.meter.add(loss=step.loss, correct=step.correct, clips=step.record.clips)
        self.meter.add_time(step_seconds=self.monitor.step_seconds, wait_seconds=self.monitor.wait_seconds)

    def _abort(self, bad: ReadStep) -> None:
        record = bad.record
        facts = {
            "epoch": record.epoch,
            "step": record.step,
            "learning_rate": record.learning_rate,
            "loss": bad.own_loss,
            "process": self.world.rank,
        }
        made = make_again(self.sampler, self.dataset, self.collate, step=record.step)
        batch = next(iter(self.method.batches([made])))
        kept = keep_batch(self.folder.bad_batch, batch, facts)
        what = "loss" if record.loss is None else "gradient"
        raise not_finite(
            self.folder.path,
            epoch=record.epoch,
            step=record.step,
            what=what,
            kept=kept,
            saved=self.saved_steps,
            command=self.method.command,
        )

    # -- epochs --

    def _end_epoch(self) -> None:
        meter, state = self.meter, self.state
        if not meter.clips:
            raise DatasetError(f"{self.manifest.source}: no video of epoch {state.epoch + 1} could be read")
        failed = self.ledgers.train_failures()
        step_seconds, wait_seconds = self.world.sums(meter.step_seconds, meter.wait_seconds)
        result = EpochResult(
            epoch=state.epoch + 1,
            loss=meter.loss / meter.clips,
            learning_rate=self.learning_rate,
            train_clip_top1=meter.correct / meter.clips,
            train_clips=meter.clips,
            unreadable_classes=unreadable_classes(self.manifest, {f.video for f in failed}),
            seconds=meter.seconds(),
            clips_per_second=meter.clips * self.world.size / step_seconds,
            data_wait_share=wait_seconds / step_seconds,
            facts=self.method.end_epoch(self.world),
        )
        last = state.epoch + 1 == self.config.epochs
        if self.splits.val is not None and (last or (state.epoch + 1) % self.config.val_every == 0):
            result = self._validate(self.splits.val, result)
        state.history.append(result)
        state.epoch, state.step = state.epoch + 1, 0
        meter.reset()
        self.reports.epoch(result, step=self.steps_done)

    def _validate(self, val: Manifest, result: EpochResult) -> EpochResult:
        self.evaluation = found = validate(
            self.trainer.scored_model,
            self.trainer.spec,
            val,
            protocol=self.config.val_protocol,
            scoring=self.trainer.scoring,
            world=self.world,
            device=self.trainer.device,
            record=self.ledgers.record_failures,
            progress=lambda done, total: self.reports.progress("evaluate", done, total),
        )
        mean_precision = found.mean_average_precision.value if found.activation == "sigmoid" else None
        chosen_by = found.video_top1.value if mean_precision is None else mean_precision
        score = (chosen_by, -found.loss)
        if self.splits.selects_best and (self.state.best is None or score > self.state.best):
            self.state.best = score
            if self.world.is_first:
                facts = {"val_video_top1": found.video_top1.value}
                if mean_precision is not None:
                    facts["val_video_mAP"] = mean_precision
                self.trainer.save(self.folder.best, provenance=self._facts(epochs_done=result.epoch) | facts)
        seconds = self.meter.seconds()
        self.state.val_seconds = seconds - result.seconds
        return dataclasses.replace(
            result,
            seconds=seconds,
            val_video_top1=found.video_top1.value,
            val_video_map=mean_precision,
            val_clip_top1=found.clip_top1.value,
            val_loss=found.loss,
            val_videos_decoded=found.videos_decoded,
            val_videos_asked=found.videos_asked,
        )

    def result(self) -> TrainResult:
        """What the run has come to. Every process has to call it."""
        val = self.splits.val
        has_best = self.splits.selects_best and self.state.best is not None and self.folder.best.exists()
        return TrainResult(
            out=self.folder.path,
            last=self.folder.last,
            best=self.folder.best if has_best else None,
            best_note=self.splits.note,
            completed=self.state.epoch == self.config.epochs,
            epochs_done=self.state.epoch,
            labels=self.manifest.labels,
            history=tuple(self.state.history),
            evaluation=self.evaluation,
            failures=self.ledgers.failures(),
            damaged=self.ledgers.damaged(),
            steps_skipped=self.trainer.updater.skipped,
            train_split=self.ledgers.train_split,
            val_split=self.splits.val_split,
            train_videos=len(self.manifest.samples),
            val_videos=0 if val is None else len(val.samples),
        )

    # -- checkpoints --

    def _save(self) -> None:
        ledgers = self.ledgers.to_dict()
        method = self.method.state_dict(self.world)
        if self.world.is_first:
            state = {
                "config": self.config.to_dict(),
                "world_size": self.world.size,
                "micro_batches_per_step": self.trainer.micro_batches * self.world.size,
                **self.state.to_dict(),
                **self.meter.state_dict(),
                **ledgers,
                "method": method,
            }
            self.trainer.save(self.folder.last, provenance=self._facts(epochs_done=self.state.epoch), state=state)
        self.saved_at, self.saved_steps = time.monotonic(), self.steps_done

    def _facts(self, *, epochs_done: int) -> dict[str, Any]:
        return {
            "epochs_done": epochs_done,
            "train_videos_failed": self.ledgers.train_videos_failed,
            "changes": self.state.changes,
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        path, state = self.folder.last, checkpoint.training_state
        assert state is not None
        try:
            self.trainer.restore(checkpoint, state, source=str(path))
            self.meter.load_state_dict(state)
            self.method.load_state_dict(state.get("method", {}), self.world)
            self.state.restore(state)
            self.ledgers.begin(state)
        except (KeyError, ValueError, TypeError) as err:
            raise CheckpointError(f"{path}: its training state cannot be used: {err!r}") from err
        self.saved_steps = self.steps_done
        for setting, (was, now) in changes(state["config"], self.config).items():
            self.state.changes.append({"step": self.steps_done + 1, "setting": setting, "was": was, "now": now})
