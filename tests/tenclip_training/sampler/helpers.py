"""Windows whose worth can be seen, without videos."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_training.sampler.fit import FitVideo
from tenclip_video.salience import SamplerKind, SamplerSpec, default_spec
from tenclip_video.spec import ClipSpec

MODEL_SPEC = ClipSpec(num_frames=4)


def small_spec(kind: SamplerKind = "rgb", **values: Any) -> SamplerSpec:
    """As the default of its kind, but for smaller pictures."""
    sizes: dict[str, Any] = {} if kind == "audio" else {"samples": 3, "height": 16, "width": 16}
    return default_spec(kind, MODEL_SPEC, **{"loss": "rank", **sizes, **values})


def bright_video(spec: SamplerSpec, seed: int, *, windows: int = 8, label: int = 0) -> FitVideo:
    """The heavy network's score of a window is the brightness of its upper half. Of class 1 the left half is darker."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(np.linspace(0, 1, windows)).astype(np.float32)
    pixels = rng.uniform(0.2, 0.4, (windows, *spec.input_shape))
    pixels[:, :, : spec.height // 2] += 0.5 * scores[:, None, None, None, None]
    if label == 1:
        pixels[:, :, :, : spec.width // 2] -= 0.2
    return FitVideo(str(seed), as_inputs(spec, pixels), scores, label)


def as_inputs(spec: SamplerSpec, pixels: NDArray[np.float64]) -> NDArray[Any]:
    """Pixels from 0 to 1 as the cache has them."""
    if spec.kind in ("rgb", "keyframes"):
        return (255 * pixels).clip(0, 255).astype(np.uint8)
    return pixels.astype(np.float16)
