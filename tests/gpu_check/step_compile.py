"""torch.compile of the padded network in 2D, with its default kernels and with max-autotune, for one batch.

Compiling R(2+1)D-34 takes about a minute, so the smaller network is first, and what does not finish is not waited for.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from tenclip_export.variants.program import HalfTrunk
from tenclip_training.models.fusion import as_2d
from tenclip_training.models.padding import padded
from tests.gpu_check.context import Context, Network, set_tf32
from tests.gpu_check.step_speed import BOUND
from tests.gpu_check.timing import median_ms, relative_l2
from tests.gpu_check.ways import random_clips

BATCH = 16
# Network of `Context.timed`, and what is given to torch.compile.
CASES: tuple[tuple[int, dict[str, Any]], ...] = ((1, {}), (0, {}), (1, {"mode": "max-autotune"}))


def run(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": []}
    set_tf32(False)
    for index, options in CASES:
        if not context.dry and context.seconds_left < 20:
            found["stopped"] = "time was over"
            break
        found["rows"].append(compile_one(context, context.timed[index], options))
        context.report(found)
        torch.compiler.reset()
    return found


def compile_one(context: Context, network: Network, options: dict[str, Any]) -> dict[str, Any]:
    """One row. What the compiler raises is a row with its error."""
    row: dict[str, Any] = {"network": str(network), "mode": options.get("mode", "default")}
    batch = 2 if context.dry else BATCH
    backend: dict[str, Any] = {"backend": "eager"} if context.dry else options
    try:
        with torch.inference_mode():
            model = HalfTrunk(as_2d(padded(network.make())), torch.bfloat16).to(context.device)
            compiled = torch.compile(model, dynamic=False, **backend)
            clips = random_clips(batch, network.frames, network.crop, torch.bfloat16, context.device)
            start = time.perf_counter()
            compiled(clips)
            row["compile_seconds"] = time.perf_counter() - start
            ms = median_ms(lambda: compiled(clips), context.device, warm_up=1 if context.dry else 3)
            row |= {"ms": ms, "batch": batch, "clips_per_second": 1e3 * batch / ms}
            row["tflops"] = batch * network.flop / ms / 1e9
            row["share"] = None if context.rate is None else 1e12 * row["tflops"] / context.rate
            distance = relative_l2(compiled(clips)[0], model(clips)[0])
            row |= {"relative_l2": distance, "right": distance < BOUND}
    except Exception as err:  # the compiler's own kinds
        row["error"] = f"{type(err).__name__}: {str(err)[-600:]}"
    return row
