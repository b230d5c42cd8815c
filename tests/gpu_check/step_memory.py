"""A GPU that is full: batches are split, every request is answered, and nothing is left worse than before.

On a GPU memory really runs out, at the server's own ceiling (`gpu_memory_mb`), which is lowered until a batch of 64
does not fit. In a dry run a stand-in for the device refuses more than two clips.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_serving.runtimes import Outputs, Runtime, create_runtime
from tenclip_serving.runtimes.out_of_memory import SplittingRuntime
from tenclip_serving.runtimes.torch import TorchRuntime
from tenclip_serving.scheduling.scheduler import ClipScheduler
from tenclip_video.bundle import read_bundle
from tests.gpu_check.context import Context

CLIPS = 64
# MiB beyond what the process holds: ever less, until the batch does not fit.
ROOMS = (2048, 1024, 512, 256, 128, 64)


class TwoClips:
    """A device with room for two clips."""

    name, batch_size = "torch", CLIPS

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner

    def run(self, clips: NDArray[np.uint8]) -> Outputs:
        if len(clips) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (a stand-in for the device)")
        return self.inner.run(clips)


def run(context: Context) -> dict[str, Any]:
    path = next(context.wait_for("bundle").glob("*/*/bundle.json")).parent
    bundle = read_bundle(path)
    program = path / next(v.path for v in bundle.info.variants if v.format == "torch" and v.name == "bf16")
    spec, count = bundle.info.clip_spec, 6 if context.dry else CLIPS
    clips = np.random.default_rng(0).integers(0, 256, (count, spec.num_frames, spec.crop, spec.crop, 3), np.uint8)
    plain = TorchRuntime(program)
    expected = plain.run(clips)
    if context.dry:
        found = check(SplittingRuntime(TwoClips(plain)), clips, expected)
        return found | {"device": "a stand-in"}
    del plain
    gc.collect()
    return lower_the_ceiling(program, clips, expected)


def lower_the_ceiling(program: Path, clips: NDArray[np.uint8], expected: Outputs) -> dict[str, Any]:
    held = held_mib(program)
    found: dict[str, Any] = {"split": False}
    try:
        for room in ROOMS:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0)
            runtime = create_runtime("torch", program, gpu_memory_mb=held + room)
            assert isinstance(runtime, SplittingRuntime)
            found = check(runtime, clips, expected) | {"device": "the GPU", "room_mib": room}
            if found["split"]:
                break
            del runtime
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return found


def held_mib(program: Path) -> int:
    """MiB that the process holds of the GPU when the program is loaded, rounded up."""
    runtime = TorchRuntime(program)
    torch.cuda.empty_cache()
    held = -(-torch.cuda.memory_reserved() >> 20)
    del runtime
    return held


def check(runtime: SplittingRuntime, clips: NDArray[np.uint8], expected: Outputs) -> dict[str, Any]:
    """Two videos at once, twice, through the scheduler."""

    async def run_all() -> list[Outputs]:
        scheduler = ClipScheduler()
        half = len(clips) // 2
        found: list[Outputs] = []
        for _ in range(2):
            parts = (clips[:half], clips[half:], clips)
            results = await asyncio.gather(*(scheduler.run(runtime, part) for part in parts))
            found.append(_together(results[2].outputs))
        scheduler.close()
        return found

    # As a whole first: the scheduler asks for as many clips at once as the runtime finds worth it.
    whole = runtime.run(clips)
    answers = [whole, *asyncio.run(run_all())]
    distance = max(float(np.linalg.norm(a.logits - expected.logits) / np.linalg.norm(expected.logits)) for a in answers)
    return {
        "split": runtime.num_splits > 0,
        "num_splits": runtime.num_splits,
        "answered": all(len(a.logits) == len(clips) for a in answers),
        "relative_l2": distance,
        "lives": bool(np.isfinite(runtime.run(clips[:1]).logits).all()),
    }


def _together(outputs: tuple[Outputs, ...]) -> Outputs:
    return Outputs(np.concatenate([o.logits for o in outputs]), np.concatenate([o.features for o in outputs]))
