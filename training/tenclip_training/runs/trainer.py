"""What learns: the network with its objective, optimiser, schedule and average, and how they are saved and restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tenclip_training.data.dataset import Batch
from tenclip_training.data.random_streams import torch_seed
from tenclip_training.evaluation.evaluate import find_protocol
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.models import VideoModel
from tenclip_training.omni.stills import motion_sha256
from tenclip_training.preprocess import normalise
from tenclip_training.runs.checkpoint import Checkpoint, load_weights, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World
from tenclip_training.runs.method import Method
from tenclip_training.runs.monitor import StepNumbers
from tenclip_training.runs.optimization import Updater, autocast, resolve_precision
from tenclip_training.runs.run_folder import manifest_sha256
from tenclip_training.runs.schedules import build_schedule
from tenclip_training.runs.setup import Splits, build_model, place_model, run_notes
from tenclip_training.runs.step import Stepper
from tenclip_training.runs.transfer import prepare_transfer
from tenclip_training.runs.weight_average import WeightAverage


class Trainer:
    """The state of learning. micro_batches: of this process, in each step. notes: lines for a person, of its start."""

    def __init__(
        self,
        config: TrainConfig,
        splits: Splits,
        world: World,
        steps_per_epoch: int,
        micro_batches: int,
        method: Method,
    ) -> None:
        self.config, self.manifest, self.micro_batches = config, splits.train, micro_batches
        self.method = method
        self._motion_sha256 = motion_sha256(config.stills)
        self.device = world.device(config.device)
        self.precision = resolve_precision(config.precision, self.device)
        torch.manual_seed(torch_seed(config.seed))
        start = build_model(config, self.manifest.labels)
        self.model, self.spec = start.model, start.clip_spec
        place_model(self.model, self.device, channels_last=config.channels_last)
        prepare_transfer(self.model, config.transfer, self.device)
        self.notes = (*start.notes, *run_notes(self.model, config))
        self.scoring = Scoring.of_checkpoint(self.manifest.labels, {"config": config.to_dict()}, source=config.out)
        if splits.val is not None:
            self.scoring.check(find_protocol(config.val_protocol))
        ema = config.optimizer.ema
        self.average = WeightAverage(self.model, ema) if ema > 0 else None
        self.updater = Updater(self.model, config.optimizer, device=self.device, precision=self.precision)
        self.schedule = build_schedule(
            config.schedule,
            config.changed(accumulate=micro_batches).optimizer,
            epochs=config.epochs,
            steps_per_epoch=steps_per_epoch,
            world_size=world.size,
        )
        network = world.wrap(self.model, self.device)
        world.settle(network, self._take_blank)
        self._stepper = Stepper(
            network=network,
            objective=method.build_objective(config, self.scoring.heads),
            updater=self.updater,
            spec=self.spec,
            world=world,
            device=self.device,
            precision=self.precision,
            channels_last=config.channels_last,
            micro_batches=micro_batches,
            seed=config.seed,
        )

    def _take_blank(self, network: nn.Module) -> Tensor:
        """Nothing, times what the network makes of two black clips."""
        frames = self.config.sampling.segments or self.spec.num_frames
        clips = torch.zeros(2, frames, self.spec.crop, self.spec.crop, 3, dtype=torch.uint8, device=self.device)
        with autocast(self.device, self.precision):
            logits, features = network(normalise(clips, self.spec))
        total: Tensor = logits.float().sum() + features.float().sum()
        return 0 * total

    @property
    def scored_model(self) -> VideoModel:
        """What is validated and saved: the average of the weights where there is one, else the model."""
        return self.model if self.average is None else self.average.model

    def step(self, batch: Batch, *, step: int, learning_rate: float) -> StepNumbers | None:
        """See `Stepper.take`."""
        numbers = self._stepper.take(batch, step=step, learning_rate=learning_rate)
        if self.average is not None and numbers is not None and numbers.gradient_norm is not None:
            self.average.update(self.model)
        return numbers

    def save(self, path: Path, *, provenance: dict[str, Any], state: dict[str, Any] | None = None) -> None:
        """Write a checkpoint of the scored model. state: of the rest of the run, in last.pt. Raises CheckpointError."""
        if state is not None:
            weights = {} if self.average is None else {name: t.cpu() for name, t in self.model.state_dict().items()}
            state = {
                **state,
                "manifest_sha256": manifest_sha256(self.manifest),
                "motion_sha256": self._motion_sha256,
                **self.updater.state_dict(),
                "weights": weights,  # the model's own, beside their average
                "ema_updates": 0 if self.average is None else self.average.updates,
            }
        save_checkpoint(
            path,
            self.scored_model,
            clip_spec=self.spec,
            labels=self.manifest.labels,
            provenance={
                "trained_by": self.method.command,
                "torch": str(torch.__version__),
                "device": self.device.type,
                "precision": self.precision,
                "train_videos": len(self.manifest.samples),
                "config": self.config.to_dict(),
                **provenance,
            },
            training_state=state,
        )

    def restore(self, checkpoint: Checkpoint, state: dict[str, Any], *, source: str) -> None:
        """Go on from a checkpoint. Raises CheckpointError; KeyError, ValueError or TypeError for a state that lacks
        something or is of another model."""
        saved = checkpoint.model.state_dict()
        if self.average is None:
            load_weights(self.model, saved, source=source)
        else:
            load_weights(self.model, state["weights"], source=source)
            self.average.restore(saved, state["ema_updates"], source=source)
        self.updater.load_state_dict(state)
