"""One step of a run: a batch, in micro-batches, through the network and back, and the optimiser's update."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tenclip_api.errors import InvalidRequest
from tenclip_training.data.dataset import Batch
from tenclip_training.data.joint import JointBatch
from tenclip_training.data.random_streams import torch_seed
from tenclip_training.preprocess import normalise
from tenclip_training.runs.distributed import World
from tenclip_training.runs.monitor import StepNumbers
from tenclip_training.runs.objectives import Inputs, Objective
from tenclip_training.runs.optimization import Updater, autocast
from tenclip_video.spec import ClipSpec


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepper:
    """Takes steps. network: the model as it is trained, see `World.wrap`.

    The micro-batches of all processes are numbered through, and each has random numbers of its own. So two processes
    compute what one computes with twice the micro-batches, but for the running statistics of batch norms: those are the
    first process's.
    """

    network: nn.Module
    objective: Objective
    updater: Updater
    spec: ClipSpec
    world: World
    device: torch.device
    precision: str
    channels_last: bool
    micro_batches: int
    seed: int

    def take(self, batch: Batch, *, step: int, learning_rate: float) -> StepNumbers | None:
        """One step down the mean loss of the clips of all processes. step: counts from 0 over the run.

        None, and no step, where no video could be read in one of the processes.
        """
        empty, clips = self.world.sums(float(not len(batch.clips)), float(len(batch.clips)))
        if empty:
            return None
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        total_loss, total_correct = zero.clone(), zero.clone()
        parts = batch.split(self.micro_batches)
        for number, part in enumerate(parts):
            self._seed(step, number)
            # Gradients are averaged over processes once a step.
            with contextlib.nullcontext() if part is parts[-1] else self.world.unsynchronised(self.network):
                loss, correct = self.objective(self._inputs(part), self._forward)
                self.updater.add(loss * (len(part.clips) / clips * self.world.size))
            total_loss += loss.detach().double() * len(part.clips)
            total_correct += correct
        norm = self.updater.step(learning_rate=learning_rate)
        return StepNumbers(loss=total_loss, correct=total_correct, gradient_norm=norm, clips=len(batch.clips))

    def _seed(self, step: int, number: int) -> None:
        """Dropout and the like follow from (seed, step, number of the micro-batch among those of all processes)."""
        in_all = self.micro_batches * self.world.size
        place = (self.seed * 1_000_003 + step) * in_all + self.world.rank * self.micro_batches + number
        torch.manual_seed(torch_seed(place))

    def _inputs(self, batch: Batch) -> Inputs:
        clips = normalise(batch.clips.to(self.device, non_blocking=True), self.spec)
        if not self.channels_last:
            clips = clips.contiguous()
        targets = batch.targets.to(self.device, non_blocking=True)
        sources = batch.sources if isinstance(batch, JointBatch) else None
        return Inputs(clips=clips, targets=targets, sources=sources)

    def _forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        try:
            with autocast(self.device, self.precision):
                logits, features = self.network(clips)
        except ValueError as err:  # torch's, of batch norms
            if "more than 1 value per channel" not in str(err):
                raise
            raise InvalidRequest(
                f"{len(clips)} clip of {tuple(clips.shape[2:])} leaves one value a channel, of which a batch norm has "
                "no statistics: use a larger batch_size or crop, or batch_norm frozen"
            ) from err
        return logits, features
