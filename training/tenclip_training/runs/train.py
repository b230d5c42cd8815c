"""Training: `train(config)` goes from a manifest to checkpoints.

    out/config.json      the run's TrainConfig
    out/last.pt          the newest state, from which `train(config, resume=True)` goes on; written atomically
    out/best.pt          the weights with the best video top-1 on the validation split
    out/history.jsonl    a line for each epoch
    out/failures.jsonl   a line for each video that could not be read

Resuming is exact: a run that was stopped after any step and resumed ends with the same bits as one that was not (on the
same machine, with the same number of threads). For that nothing random lives on from step to step: the order of an
epoch follows from (seed, epoch), a clip from (seed, epoch, index), dropout from (seed, step), the rate from the step.

B clips, T frames, K classes, P positions (1 in training).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest, TenclipError
from tenclip_data.manifest import Manifest, read_manifest
from tenclip_training.data.augment import flip_is_safe
from tenclip_training.data.dataset import Batch, ClipDataset, Collate, DrawSampler, Ledger
from tenclip_training.evaluation.evaluate import EvaluationResult, find_protocol, normalise, score_videos, summarise
from tenclip_training.loaders import load_any
from tenclip_training.models import VideoModel, create_model
from tenclip_training.runs.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World, join_world
from tenclip_training.runs.optimization import autocast, build_optimizer, learning_rate_at, resolve_precision
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run is: `done` of `total` videos (cache, evaluate) or steps of the epoch (train). Epochs count from 1."""

    stage: Literal["cache", "train", "evaluate"]
    done: int
    total: int
    epoch: int
    epochs: int
    loss: float = math.nan
    learning_rate: float = math.nan


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """A line of history.jsonl. Accuracies are fractions; each has its denominator beside it."""

    epoch: int
    loss: float
    learning_rate: float
    train_clip_top1: float
    train_clips: int
    seconds: float
    val_video_top1: float | None = None
    val_clip_top1: float | None = None
    val_loss: float | None = None
    val_videos_decoded: int = 0
    val_videos_asked: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainResult:
    """What a run left behind. `completed` is False when it was stopped and can be resumed.

    `best` is None where nothing was validated. `evaluation`: of the last validated epoch.
    """

    out: Path
    last: Path
    best: Path | None
    completed: bool
    epochs_done: int
    labels: tuple[str, ...]
    history: tuple[EpochResult, ...]
    evaluation: EvaluationResult | None
    videos_failed: int


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    stop_after_steps: int | None = None,
) -> TrainResult:
    """Train until the last epoch, SIGINT or SIGTERM (a second one ends it at once), or `stop_after_steps` steps.

    resume: go on from `config.out`/last.pt, which must be of this very config; without one there, begin.
    progress: called after every video and step; on_epoch: after every epoch.
    Raises DatasetError (manifest, too many unreadable videos), CheckpointError (resume, init_from), InvalidRequest
    (a model or precision that does not exist), TenclipError when the loss is no longer finite.
    """
    run = _Run(config, join_world(config.device), progress or (lambda _: None), on_epoch or (lambda _: None))
    run.start(resume=resume)
    with _stop_requests() as stop:
        for steps, batch in enumerate(run.loader(), start=1):
            run.step_with(batch)
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
        self.out = Path(config.out)
        self.device = world.device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        self.manifest, self.val = _read_splits(config)
        self.labels = self.manifest.labels
        torch.manual_seed(config.seed)
        self.model, self.spec = _build_model(config, self.labels)
        self._prepare_model()
        self.network = world.wrap(self.model, self.device)
        self.optimizer = build_optimizer(self.model, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.dataset = _build_dataset(config, self.manifest, self.spec)
        self.sampler = self._sampler()
        self.epoch = self.step = 0
        self.stopped = False
        self.history: list[EpochResult] = []
        self.best: tuple[float, float] | None = None
        self.evaluation: EvaluationResult | None = None
        self.totals = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right, clips
        self.seconds = 0.0
        self.ledger = Ledger(self._ledger_path(), len(self.manifest.samples), config.max_failures)

    # -- beginning --

    def start(self, *, resume: bool) -> None:
        last = self.out / "last.pt"
        if last.exists() and not resume:
            raise CheckpointError(f"{self.out}: holds a run already; resume it, or choose another folder")
        if self.world.is_first:
            self.out.mkdir(parents=True, exist_ok=True)
            _write_text(self.out / "config.json", json.dumps(self.config.to_dict(), indent=2) + "\n")
        self.world.wait()
        if last.exists():
            self._restore(load_checkpoint(last))
        else:
            self.ledger.restore([])
        self._write_history()
        if self.config.cache_gib > 0 and self.epoch < self.config.epochs:
            self._fill_cache()
        self.saved_at = self.clock = time.monotonic()

    def loader(self) -> DataLoader[Any]:
        sampler = dataclasses.replace(self.sampler, first_epoch=self.epoch, first_step=self.step)
        return DataLoader(
            self.dataset,
            batch_sampler=sampler,
            collate_fn=Collate(self.spec, len(self.labels)),
            num_workers=self.config.workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=self.device.type == "cuda",
        )

    def _prepare_model(self) -> None:
        self.model.to(self.device)
        if self.device.type == "cpu":
            self.model.set_execution("conv2d")
        elif self.config.channels_last:
            # On a CPU the layout of the clips decides, and that of the weights matters little.
            self.model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def _fill_cache(self) -> None:
        def report(done: int, total: int) -> None:
            self.progress(self._progress("cache", done, total))

        threads = max(1, usable_cpus() // self.world.size)
        self.ledger.record(
            self.dataset.fill_cache(int(self.config.cache_gib * 2**30), threads=threads, progress=report)
        )

    def _sampler(self) -> DrawSampler:
        return DrawSampler(
            num_samples=len(self.manifest.samples),
            batch_size=self.config.batch_size,
            epochs=self.config.epochs,
            seed=self.config.seed,
            clips_per_video=self.config.clips_per_video,
            rank=self.world.rank,
            world_size=self.world.size,
        )

    # -- steps --

    @property
    def steps_done(self) -> int:
        return self.epoch * self.sampler.steps_per_epoch + self.step

    def step_with(self, batch: Batch) -> None:
        """One step of the optimiser, and the report of it.

        A batch of which no video could be read is passed over, in every process.
        """
        config = self.config
        self.ledger.record(batch.failures)
        self.learning_rate = learning_rate_at(self.steps_done, self.sampler.steps_per_epoch, config)
        torch.manual_seed((config.seed * 1_000_003 + self.steps_done) * self.world.size + self.world.rank)
        if self.world.all_true(len(batch.clips) > 0, self.device):
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            loss, right = self._optimise(batch)
            count = len(batch.clips)
            self.totals += torch.stack([loss * count, right, torch.full_like(loss, count)]).double()
        self.step += 1
        self._report_step()

    def _optimise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(mean loss, number of clips that are right), float32 scalars on the device."""
        clips = normalise(batch.clips.to(self.device, non_blocking=True), self.spec)
        if not self.config.channels_last:
            clips = clips.contiguous()
        targets = batch.targets.to(self.device, non_blocking=True)
        with autocast(self.device, self.precision):
            logits, _ = self.network(clips)
        logits = logits.float().mean(2)  # [B,K,P] -> [B,K]
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config.max_gradient_norm > 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        right = targets.gather(1, logits.argmax(1, keepdim=True)).gt(0).sum().float()
        return loss.detach(), right

    def end_step(self, *, stop: bool) -> None:
        """Close the epoch after its last step. Saves then, when asked to stop, and every few minutes."""
        if self.step == self.sampler.steps_per_epoch:
            self._end_epoch()
            self._save()
        elif stop or time.monotonic() - self.saved_at > 60 * self.config.save_every_minutes:
            self._save()
        self.stopped = stop and self.epoch < self.config.epochs

    def _report_step(self) -> None:
        # Reading a number from a GPU waits until it has done all its work.
        total = self.totals.tolist() if self.device.type == "cpu" or self.step % 20 == 0 else None
        self.progress(
            self._progress(
                "train",
                self.step,
                self.sampler.steps_per_epoch,
                loss=total[0] / total[2] if total and total[2] else math.nan,
                learning_rate=self.learning_rate,
            )
        )

    def _end_epoch(self) -> None:
        self._tick()
        loss, right, clips = self.world.sum(self.totals).tolist()
        if not math.isfinite(loss):
            raise TenclipError(
                f"{self.out}: the loss of epoch {self.epoch + 1} is {loss}; last.pt holds the epoch before. Lower "
                "learning_rate, limit max_gradient_norm, or use precision fp32"
            )
        if not clips:
            raise DatasetError(f"{self.manifest.source}: no video of epoch {self.epoch + 1} could be read")
        result = EpochResult(
            epoch=self.epoch + 1,
            loss=loss / clips,
            learning_rate=self.learning_rate,
            train_clip_top1=right / clips,
            train_clips=int(clips),
            seconds=self.seconds,
        )
        last = self.epoch + 1 == self.config.epochs
        if self.val is not None and (last or (self.epoch + 1) % self.config.val_every == 0):
            result = self._validate(self.val, result)
        self.history.append(result)
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.totals.zero_()
        self._write_history()
        self.on_epoch(result)

    def _validate(self, val: Manifest, result: EpochResult) -> EpochResult:
        self.world.share_buffers(self.model)
        protocol = find_protocol(self.config.val_protocol)
        mine = range(self.world.rank, len(val.samples), self.world.size)
        outcomes = []
        # Half of the cores decode while the others compute.
        threads = max(1, usable_cpus() // self.world.size // 2)
        for outcome in score_videos(
            self.model, self.spec, val, mine, protocol, device=self.device, decode_threads=threads
        ):
            outcomes.append(outcome)
            self.progress(self._progress("evaluate", len(outcomes), len(mine)))
        found = summarise(self.world.gather(outcomes), val, split=val.samples[0].split, protocol=protocol.name)
        self.evaluation = found
        score = (found.video_top1.value, -found.loss)
        if self.best is None or score > self.best:
            self.best = score
            if self.world.is_first:
                self._checkpoint(self.out / "best.pt", {"val_video_top1": found.video_top1.value}, None)
        self._tick()
        return dataclasses.replace(
            result,
            seconds=self.seconds,
            val_video_top1=found.video_top1.value,
            val_clip_top1=found.clip_top1.value,
            val_loss=found.loss,
            val_videos_decoded=found.videos_decoded,
            val_videos_asked=found.videos_asked,
        )

    def _tick(self) -> None:
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def _progress(self, stage: Literal["cache", "train", "evaluate"], done: int, total: int, **more: float) -> Progress:
        epoch = min(self.epoch + 1, self.config.epochs)
        return Progress(stage=stage, done=done, total=total, epoch=epoch, epochs=self.config.epochs, **more)

    # -- files --

    def result(self) -> TrainResult:
        best = self.out / "best.pt"
        return TrainResult(
            out=self.out,
            last=self.out / "last.pt",
            best=best if self.best is not None and best.exists() else None,
            completed=self.epoch == self.config.epochs,
            epochs_done=self.epoch,
            labels=self.labels,
            history=tuple(self.history),
            evaluation=self.evaluation,
            videos_failed=len(self.ledger.failures),
        )

    def _save(self) -> None:
        self._tick()
        if self.world.is_first:
            state = {
                "config": self.config.to_dict(),
                "manifest_sha256": _manifest_sha256(self.manifest),
                "world_size": self.world.size,
                "epoch": self.epoch,
                "step": self.step,
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "totals": self.totals.cpu(),
                "seconds": self.seconds,
                "history": [asdict(h) for h in self.history],
                "best": None if self.best is None else list(self.best),
                "failures": [asdict(f) for f in self.ledger.failures.values()],
            }
            self._checkpoint(self.out / "last.pt", {}, state)
        self.saved_at = time.monotonic()

    def _checkpoint(self, path: Path, facts: dict[str, Any], state: dict[str, Any] | None) -> None:
        provenance = {
            "trained_by": "tenclip train",
            "torch": str(torch.__version__),
            "device": self.device.type,
            "precision": self.precision,
            "epochs_done": self.epoch + (state is None),
            "train_videos": len(self.manifest.samples),
            "train_videos_failed": len(self.ledger.failures),
            "config": self.config.to_dict(),
            **facts,
        }
        save_checkpoint(
            path, self.model, clip_spec=self.spec, labels=self.labels, provenance=provenance, training_state=state
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        path, state = self.out / "last.pt", checkpoint.training_state
        if state is None:
            raise CheckpointError(f"{path}: holds a model and no state to resume from")
        _check_resumable(path, state, self.config, self.manifest, self.world)
        load_weights(self.model, checkpoint.model.state_dict(), source=str(path))
        try:
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
            if self.world.is_first:  # sums are added up over processes at the end of the epoch
                self.totals.copy_(state["totals"])
            self.history = [EpochResult(**h) for h in state["history"]]
            self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
            self.ledger.restore(state["failures"])
        except (KeyError, ValueError, TypeError) as err:
            raise CheckpointError(f"{path}: its training state cannot be used: {err!r}") from err

    def _write_history(self) -> None:
        if self.world.is_first:
            lines = [json.dumps(asdict(h)) + "\n" for h in self.history]
            _write_text(self.out / "history.jsonl", "".join(lines))

    def _ledger_path(self) -> Path:
        suffix = "" if self.world.is_first else f".rank{self.world.rank}"
        return self.out / f"failures{suffix}.jsonl"


# -- helpers --


def _read_splits(config: TrainConfig) -> tuple[Manifest, Manifest | None]:
    manifest = read_manifest(
        config.manifest,
        labels=config.labels,
        videos=config.videos,
        label_column=config.label_column,
        whole_videos=config.whole_videos,
        missing=config.missing,
        held_out=config.held_out,
        seed=config.seed,
    )
    val_split = config.val_split or next((s for s in ("val", "test") if s in manifest.splits), None)
    return manifest.split(config.train_split), None if val_split is None else manifest.split(val_split)


def _build_model(config: TrainConfig, labels: tuple[str, ...]) -> tuple[VideoModel, ClipSpec]:
    if config.init_from is None:
        spec = config.clip_spec or ClipSpec()
        values = {"num_frames": spec.num_frames, "crop": spec.crop, **config.model, "num_classes": len(labels)}
        return _create(config.architecture, values), spec
    checkpoint = load_any(config.init_from, family=config.init_family)
    spec = config.clip_spec or checkpoint.clip_spec
    values = {**checkpoint.model.config, "num_frames": spec.num_frames, "crop": spec.crop, **config.model}
    model = _create(checkpoint.model.architecture, {**values, "num_classes": len(labels)})
    weights = checkpoint.model.state_dict()
    if checkpoint.labels != labels:  # another task: its classifier begins anew
        weights.update({name: tensor for name, tensor in model.state_dict().items() if name.startswith("fc.")})
    load_weights(model, weights, source=config.init_from)
    return model, spec


def _create(architecture: str, values: dict[str, Any]) -> VideoModel:
    try:
        return create_model(architecture, **values)
    except (ValueError, TypeError) as err:
        raise InvalidRequest(str(err)) from err


def _build_dataset(config: TrainConfig, manifest: Manifest, spec: ClipSpec) -> ClipDataset:
    augmentation = config.augmentation
    if augmentation.flip is None:
        augmentation = dataclasses.replace(augmentation, flip=flip_is_safe(manifest.labels))
    return ClipDataset(manifest, spec, augmentation, seed=config.seed)


def _check_resumable(path: Path, state: dict[str, Any], config: TrainConfig, manifest: Manifest, world: World) -> None:
    """Raises CheckpointError that names what differs: the rest of the run would not be what was begun."""
    # Through JSON, so that a tuple equals the list that it becomes in a file.
    before, now = (json.loads(json.dumps(c)) for c in (state.get("config", {}), config.to_dict()))
    # Where the run lies and how it is fed does not change what it computes.
    free = {"out", "workers", "cache_gib", "save_every_minutes", "manifest", "videos", "max_failures"}
    changed = [k for k in now if k not in free and before.get(k) != now[k]]
    if changed:
        details = ", ".join(f"{k} (was {before.get(k)!r}, now {now[k]!r})" for k in changed)
        raise CheckpointError(f"{path}: cannot be resumed with other settings: {details}")
    if state.get("manifest_sha256") != _manifest_sha256(manifest):
        raise CheckpointError(f"{path}: cannot be resumed: the training videos or labels in {manifest.source} changed")
    if state.get("world_size") != world.size:
        raise CheckpointError(f"{path}: was trained by {state.get('world_size')} processes, now there are {world.size}")


def _manifest_sha256(manifest: Manifest) -> str:
    rows = [[s.key, list(s.labels)] for s in manifest.samples]
    return hashlib.sha256(json.dumps([list(manifest.labels), rows]).encode()).hexdigest()


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; the main one decides when workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """The event is set by the first SIGINT or SIGTERM; a second one does what it always did."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, frame: FrameType | None) -> None:
        stop.set()
        for s, handler in before.items():
            signal.signal(s, handler)

    for s in before:
        signal.signal(s, request)
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
