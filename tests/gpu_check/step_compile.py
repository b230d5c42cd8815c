"""torch.compile of the padded network in 2D, with its default kernels and with max-autotune, for one batch.

Compiling R(2+1)D-34 takes about a minute, and with max-autotune nobody knows how long: so the smaller network is first,
and what has not finished when the step's time is over is given up.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

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
TUNED: dict[str, Any] = {"mode": "max-autotune"}
CASES: tuple[tuple[int, dict[str, Any]], ...] = ((1, {}), (0, {}), (1, TUNED), (0, TUNED))
# Seconds that must be left for a case to begin, and that are left at its end to report it.
LEAST_SECONDS, SPARE_SECONDS = 20.0, 5.0


class OutOfTime(BaseException):
    """No `Exception`: the compiler catches those of the kernels that it tries, and goes on."""


def run(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": []}
    set_tf32(False)
    # In a dry run nothing is tuned: the first and the last case are all there is.
    for index, options in CASES[:: len(CASES) - 1] if context.dry else CASES:
        if context.seconds_left < LEAST_SECONDS:
            found["stopped"] = "time was over"
            break
        seconds = context.seconds_left - SPARE_SECONDS
        found["rows"].append(compile_one(context, context.timed[index], options, seconds))
        context.report(found)
        torch.compiler.reset()
    return found


def compile_one(context: Context, network: Network, options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """One row, within so many seconds. What the compiler raises is a row with its error."""
    row: dict[str, Any] = {"network": str(network), "mode": options.get("mode", "default")}
    batch = 2 if context.dry else BATCH
    backend: dict[str, Any] = {"backend": "eager"} if context.dry else options
    try:
        with torch.inference_mode(), time_limit(seconds):
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
    except OutOfTime:
        row["error"] = f"not finished within {seconds:.0f} s"
    except Exception as err:  # the compiler's own kinds
        row["error"] = f"{type(err).__name__}: {str(err)[-600:]}"
    return row


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime inside of the block once it has taken so long, and again each second. In the main thread."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, min(seconds, 1e6), 1.0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
