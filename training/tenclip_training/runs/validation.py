"""Validation within a run: each process scores its share of the videos, all of them count the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tenclip_data.samples import Manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.evaluate import EvaluationResult, find_protocol, score_videos, summarise
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.models import VideoModel
from tenclip_training.runs.distributed import World
from tenclip_video.cpus import usable_cpus
from tenclip_video.spec import ClipSpec


def validate(
    model: VideoModel,
    spec: ClipSpec,
    val: Manifest,
    *,
    protocol: str,
    scoring: Scoring,
    world: World,
    device: torch.device,
    record: Callable[[list[Failure]], None],
    progress: Callable[[int, int], None],
) -> EvaluationResult:
    """Score the videos of `val` with the first process's running statistics.

    scoring: how logits become scores, by the run's loss and heads.
    record: gets the videos of this process that could not be read, before anything is counted. progress: called with
    (videos done, videos of this process). Raises DatasetError when no video of any process could be read.
    """
    world.share_buffers(model)
    chosen = find_protocol(protocol)
    mine = range(world.rank, len(val.samples), world.size)
    # Half of the cores decode while the others compute.
    threads = max(1, usable_cpus() // world.size // 2)
    outcomes = []
    found = score_videos(model, spec, val, mine, chosen, scoring=scoring, device=device, decode_threads=threads)
    for outcome in found:
        outcomes.append(outcome)
        progress(len(outcomes), len(mine))
    record([o for o in outcomes if isinstance(o, Failure)])
    gathered = world.gather(outcomes)
    return summarise(gathered, val, split=val.samples[0].split, protocol=chosen.name, scoring=scoring)
