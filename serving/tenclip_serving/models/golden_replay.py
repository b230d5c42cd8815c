"""Golden replay: a runtime must give what the reference framework gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import ParityError
from tenclip_serving.runtimes.base import Runtime
from tenclip_video.bundle import Bundle, Tolerance


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Relative L2 distance of a runtime's outputs from the golden ones, over all golden clips."""

    logits: float
    features: float


def relative_l2(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """||actual - expected|| / ||expected|| in float64; infinite for other shapes or values that are not finite."""
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    difference = np.linalg.norm(actual.astype(np.float64) - expected)
    return float(difference / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-12))


def replay(bundle: Bundle, runtime: Runtime, tolerance: Tolerance | None = None) -> Drift:
    """Run the golden clips. Raises ParityError when logits or features drift beyond `tolerance`, by default the
    bundle's own."""
    golden, tolerance = bundle.golden, tolerance or bundle.info.tolerance
    outputs = runtime.run(golden.clips)
    for name, actual, expected in (
        ("logits", outputs.logits, golden.logits),
        ("features", outputs.features, golden.features),
    ):
        if actual.shape != expected.shape:
            raise ParityError(
                f"{bundle.path}: {runtime.name} gives {name} of shape {actual.shape}, golden.npz has {expected.shape}"
            )
    drift = Drift(
        logits=relative_l2(outputs.logits, golden.logits), features=relative_l2(outputs.features, golden.features)
    )
    if not (drift.logits <= tolerance.logits and drift.features <= tolerance.features):
        raise ParityError(
            f"{bundle.path}: {runtime.name} drifts from golden.npz: relative L2 of logits {drift.logits:.2e} (allowed "
            f"{tolerance.logits:.0e}), of features {drift.features:.2e} (allowed {tolerance.features:.0e})"
        )
    return drift
