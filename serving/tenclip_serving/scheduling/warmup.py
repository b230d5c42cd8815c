"""Runs every shape of clips that requests may ask for, before they do: the first run compiles and allocates."""

from __future__ import annotations

import logging

import numpy as np

from tenclip_serving.runtimes.base import Runtime
from tenclip_serving.telemetry.logs import log
from tenclip_video.spec import ClipSpec


def shapes_to_warm(spec: ClipSpec, batch_size: int) -> list[tuple[int, ...]]:
    """[B,T,H,W,3]: one clip and a full batch, at the pooled and the fully-convolutional crop."""
    sides = [side for side in (spec.crop, spec.fully_convolutional_crop) if side is not None]
    sizes = sorted({1, batch_size})
    return [(size, spec.num_frames, side, side, 3) for side in dict.fromkeys(sides) for size in sizes]


def warm_up(runtime: Runtime, spec: ClipSpec, *, model: str) -> None:
    """A shape that fails is logged, not raised: the others may be all that anyone asks for."""
    for shape in shapes_to_warm(spec, runtime.batch_size):
        try:
            runtime.run(np.zeros(shape, np.uint8))
        except Exception as err:  # a runtime's own kinds, MemoryError
            log(
                logging.WARNING,
                f"clips of this shape will fail: {err}",
                model=model,
                runtime=runtime.name,
                shape="x".join(map(str, shape)),
            )
