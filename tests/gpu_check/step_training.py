"""Training R(2+1)D-18: steps a second and memory by way, the loss of bfloat16 against float32, and the loader.

The loss of 50 steps on one list of batches is compared by its means over ten steps: bfloat16 may be off by `LOSS_BOUND`
of float32's mean.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, Collate
from tenclip_training.data.samplers import DrawSampler
from tenclip_training.models import VideoModel
from tenclip_training.preprocess import normalise
from tenclip_training.runs.optimization import Updater, autocast
from tenclip_training.runs.sections import OptimizerConfig
from tenclip_video.cpus import usable_cpus
from tests.gpu_check.context import Context, Network, channels_last, set_tf32
from tests.gpu_check.timing import median_ms, peak_mib, reset_peak

BATCH, CLASSES = 32, 8
LOSS_STEPS, LOSS_WINDOW, LOSS_BOUND = 50, 10, 0.05


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a step runs. layout: "contiguous", "channels-last" or "2D" (which is channels-last, too)."""

    precision: str
    layout: str
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.precision}, {self.layout}{', compiled' if self.compiled else ''}"


WAYS = (
    Way(precision="bf16", layout="channels-last"),
    Way(precision="bf16", layout="2D"),
    Way(precision="bf16", layout="contiguous"),
    Way(precision="fp32", layout="channels-last"),
    Way(precision="bf16", layout="channels-last", compiled=True),
)


def run(context: Context) -> dict[str, Any]:
    network = context.timed[1]
    found: dict[str, Any] = {"network": str(network), "batch": batch_size(context), "rows": []}
    set_tf32(False)
    for way in (w for w in WAYS if not w.compiled):
        found["rows"].append(time_way(context, network, way))
        context.report(found)
    found["loss"] = compare_losses(context, network)
    context.report(found)
    found["loader"] = loader(context, network, max(r["clips_per_second"] for r in found["rows"]))
    context.report(found)
    for way in (w for w in WAYS if w.compiled):
        if context.dry or context.seconds_left > 30:
            found["rows"].append(time_way(context, network, way))
    return found


def batch_size(context: Context) -> int:
    return 2 if context.dry else BATCH


class Learner:
    """A network with its optimiser, as `tenclip train` has them."""

    def __init__(self, model: VideoModel, way: Way, context: Context, network: Network) -> None:
        self.way, self.device, self.spec = way, context.device, network.spec
        self.model: VideoModel = copy.deepcopy(model).to(context.device).train()
        if way.layout != "contiguous":
            channels_last(self.model)
        self.model.set_execution("conv2d" if way.layout == "2D" else "conv3d")
        self.updater = Updater(self.model, OptimizerConfig(lr=0.02), device=self.device, precision=way.precision)
        self.forward: Callable[[Tensor], tuple[Tensor, Tensor]] = self.model
        if way.compiled:
            self.forward = torch.compile(self.model, backend="eager" if context.dry else "inductor")

    def step(self, clips: Tensor, targets: Tensor) -> Tensor:
        """One step down the loss of uint8 clips [B,T,H,W,3]; the loss, on the device."""
        inputs = normalise(clips, self.spec)
        inputs = inputs.contiguous() if self.way.layout == "contiguous" else inputs
        with autocast(self.device, self.way.precision):
            logits, _ = self.forward(inputs)
        loss = F.cross_entropy(logits.float().mean(2), targets)
        self.updater.add(loss)
        self.updater.step(learning_rate=0.02)
        return loss.detach()


def batches(context: Context, network: Network, count: int) -> list[tuple[Tensor, Tensor]]:
    """Noise with a ramp that drifts at the speed of its class: it can be learnt, and no two clips are alike."""
    device = context.device
    generator = torch.Generator(device).manual_seed(0)
    size, t, s = batch_size(context), network.frames, network.crop
    frames, columns = torch.arange(t, device=device), torch.arange(s, device=device)
    made = []
    for _ in range(count):
        targets = torch.randint(0, CLASSES, (size,), generator=generator, device=device)
        phase = columns[None, None, :] + (targets[:, None, None] - CLASSES // 2) * frames[None, :, None]  # [B,T,W]
        ramp = (phase % 32) * 4
        shape = (size, t, s, s, 3)
        noise = torch.randint(0, 128, shape, generator=generator, device=device, dtype=torch.uint8)
        clips = noise + ramp[:, :, None, :, None].to(torch.uint8)
        made.append((clips, targets))
    return made


def time_way(context: Context, network: Network, way: Way) -> dict[str, Any]:
    """One row. What fails is a row with its error."""
    reset_peak(context.device)
    try:
        learner = Learner(network.make(), way, context, network)
        ((clips, targets),) = batches(context, network, 1)
        start = time.perf_counter()
        learner.step(clips, targets)
        first = time.perf_counter() - start
        ms = median_ms(
            lambda: learner.step(clips, targets), context.device, seconds=1.5, warm_up=1 if context.dry else 3
        )
    except Exception as err:  # out of memory, or what a compiler raises
        return {"way": str(way), "error": f"{type(err).__name__}: {str(err)[:300]}", "clips_per_second": 0.0}
    return {
        "way": str(way),
        "ms": ms,
        "steps_per_second": 1e3 / ms,
        "clips_per_second": 1e3 * len(clips) / ms,
        "peak_mib": peak_mib(context.device),
        "first_step_seconds": first,
    }


def compare_losses(context: Context, network: Network) -> dict[str, Any]:
    """The same weights, the same batches, in float32 and in bfloat16."""
    steps = 4 if context.dry else LOSS_STEPS
    data = batches(context, network, steps)
    losses: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        learner = Learner(network.make(), Way(precision=precision, layout="channels-last"), context, network)
        losses[precision] = torch.stack([learner.step(clips, targets) for clips, targets in data]).tolist()
    apart = largest_difference(losses["bf16"], losses["fp32"], window=min(LOSS_WINDOW, steps))
    return {
        "steps": steps,
        "losses": losses,
        "relative_difference": apart,
        "bound": LOSS_BOUND,
        "passed": apart <= LOSS_BOUND,
    }


def largest_difference(values: Sequence[float], reference: Sequence[float], *, window: int) -> float:
    """The largest relative difference of means over `window` values in turn; NaN where a value is.

    >>> largest_difference([1.0, 3.0, 2.0, 2.2], [2.0, 2.0, 2.0, 2.0], window=2)
    0.05
    """
    worst = 0.0
    for start in range(0, len(reference) - window + 1, window):
        a = sum(values[start : start + window]) / window
        e = sum(reference[start : start + window]) / window
        apart = abs(a - e) / e
        worst = apart if apart > worst or apart != apart else worst
    return round(worst, 6)


def loader(context: Context, network: Network, clips_per_second: float) -> dict[str, Any]:
    """Clips a second of the training loader on the CPU's cores, and which of the two would wait."""
    videos = sorted(context.wait_for("videos").glob("*.mp4"))
    workers = 0 if context.dry else max(1, usable_cpus() - 1)
    rate = loader_rate(videos, network, workers, batch_size(context), num_batches=2 if context.dry else 40)
    return {
        "workers": workers,
        "clips_per_second": rate,
        "network_clips_per_second": clips_per_second,
        "bound_by": "the loader" if rate < clips_per_second else "computing",
    }


def loader_rate(videos: Sequence[Path], network: Network, workers: int, batch: int, *, num_batches: int) -> float:
    samples = tuple(
        Sample(path=path, name=path.name, labels=("ab"[i % 2],), split="train") for i, path in enumerate(videos)
    )
    manifest = Manifest(source=videos[0].parent, samples=samples, labels=("a", "b"))
    dataset = ClipDataset(manifest, network.spec, Augmentation(), seed=0)
    sampler = DrawSampler(num_samples=len(samples), batch_size=batch, epochs=1000, seed=0)
    reader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=Collate(network.spec, 2),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # forked, they would share a CUDA context
    )
    read = iter(reader)
    next(read)
    start = time.perf_counter()
    clips = sum(len(found.clips) for found in islice(read, num_batches))
    return clips / (time.perf_counter() - start)
