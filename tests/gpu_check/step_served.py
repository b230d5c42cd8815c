"""From file to answer: decoding on the CPU's cores, the bundle's bfloat16 program on the GPU, in the server's engine.

Decoding alone (a runtime that costs nothing) and the GPU alone (clips that are ready) say which of the two limits.
Two instances copy beside each other's kernels; what batches the scheduler chose comes from its metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.models.repository import Repository, ServedModel, load_model
from tenclip_serving.requests import RecognitionRequest
from tenclip_serving.runtimes.fake import FakeRuntime
from tenclip_video.cpus import usable_cpus
from tests.gpu_check.context import Context

CLIPS_OF_A_VIDEO = 10
BATCHES = (1, 8, 16, 32, 64)


# Instances and the largest batch of a run of the engine.
CASES = ((1, 8), (2, 8), (2, 32))


def run(context: Context) -> dict[str, Any]:
    videos = sorted(context.wait_for("videos").glob("*.mp4"))
    path = next(context.wait_for("bundle").glob("*/*/bundle.json")).parent
    found: dict[str, Any] = {"videos": len(videos), "cores": usable_cpus(), "gpu_clips_per_second": {}, "rows": []}
    start = time.perf_counter()
    both = load(path, 2)
    found["load_seconds"] = time.perf_counter() - start
    one = replace(both, more_instances=())
    found["gpu_clips_per_second"] = {batch: gpu_alone(one, batch) for batch in ((2,) if context.dry else BATCHES)}
    for instances, batch in CASES[1:] if context.dry else CASES:
        for runtime in both.instances:
            inner_of(runtime).batch_size = batch
        what = f"{instances} of the bundle's program, batches of up to {batch}"
        found["rows"].append(measure(context, one if instances == 1 else both, videos, what))
        context.report(found)
    free = replace(one, runtime=FakeRuntime(num_classes=400, feature_dim=512, batch_size=8))
    found["decoding_alone"] = measure(context, free, videos, "a runtime that costs nothing")
    best = max(row["videos_per_second"] for row in found["rows"])
    gpu = max(found["gpu_clips_per_second"].values()) / CLIPS_OF_A_VIDEO
    decode = found["decoding_alone"]["videos_per_second"]
    found["videos_per_second"], found["gpu_alone_videos_per_second"] = best, gpu
    found["limited_by"] = "decoding" if decode < gpu else "the GPU"
    found["share_of_limit"] = best / min(decode, gpu)
    context.report(found)
    if context.dry or context.seconds_left > 20:
        found["gpu_clips_per_second_searched"] = searched(path, 2 if context.dry else 32)
    return found


def searched(path: Path, batch: int) -> float:
    """As `gpu_alone`, with kernels that cuDNN found by trying (`benchmark`) instead of by its rules."""
    torch.backends.cudnn.benchmark = True
    try:
        return gpu_alone(load(path, 1), batch)
    finally:
        torch.backends.cudnn.benchmark = False


def inner_of(runtime: Any) -> Any:
    """The torch runtime itself, where batches are split on a full GPU."""
    return getattr(runtime, "inner", runtime)


def load(path: Path, instances: int) -> ServedModel:
    """The bundle, proven on its golden clips on this device."""
    return load_model(path, runtime="torch", variant="bf16", instances={"": instances})


def gpu_alone(model: ServedModel, batch: int) -> float:
    """Clips a second of one instance, from pixels in memory to outputs in memory."""
    spec = model.bundle.info.clip_spec
    shape = (batch, spec.num_frames, spec.crop, spec.crop, 3)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    model.runtime.run(clips)
    start, runs = time.perf_counter(), 0
    while not runs or time.perf_counter() - start < 0.5:
        model.runtime.run(clips)
        runs += 1
    return runs * batch / (time.perf_counter() - start)


def measure(context: Context, model: ServedModel, videos: Sequence[Path], what: str) -> dict[str, Any]:
    """Videos a second, many at once, for a few seconds after a round that warms up."""
    return asyncio.run(_measure(context, model, videos, what))


async def _measure(context: Context, model: ServedModel, videos: Sequence[Path], what: str) -> dict[str, Any]:
    workers = 2 if context.dry else usable_cpus()
    config = ServerConfig(
        directory=model.bundle.path,
        allow_roots=(videos[0].parent,),
        decode_workers=workers,
        max_active=2 * workers,
        max_queue=4096,
    )
    engine = Engine(config, Repository({model.name: {model.version: model}}))
    await engine.start()
    try:
        ask = [RecognitionRequest(path=path.name) for path in videos]
        await asyncio.gather(*(engine.recognize(request) for request in ask))
        before = batches(engine, model.name)
        seconds = 0.0 if context.dry else min(6.0, max(2.0, context.seconds_left / 5))
        start, count = time.perf_counter(), 0
        stages: dict[str, float] = {}

        async def caller(first: int) -> None:
            nonlocal count
            number = first
            while number == first or time.perf_counter() - start < seconds:
                answer = await engine.recognize(ask[number % len(ask)])
                count += 1
                for stage, taken in answer.timings.items():
                    stages[stage] = stages.get(stage, 0.0) + taken
                number += 1

        await asyncio.gather(*(caller(i) for i in range(2 * workers)))
        elapsed = time.perf_counter() - start
        after = batches(engine, model.name)
    finally:
        await engine.close()
    calls = after[0] - before[0]
    return {
        "what": what,
        "videos_per_second": count / elapsed,
        "clips_per_second": (after[1] - before[1]) / elapsed,
        "mean_batch": (after[1] - before[1]) / max(1.0, calls),
        "stage_ms": {stage: 1e3 * taken / count for stage, taken in stages.items()},
    }


def batches(engine: Engine, name: str) -> tuple[float, float]:
    """(calls of the runtime, clips in them) so far."""
    read = engine.metrics.registry.get_sample_value
    labels = {"model": name}
    calls = read("tenclip_batch_clips_count", labels) or 0.0
    return calls, read("tenclip_batch_clips_sum", labels) or 0.0
