"""Golden replay: a runtime must give what the reference framework gave."""

from __future__ import annotations

from tenclip_api.errors import ParityError
from tenclip_serving.runtimes.base import Runtime
from tenclip_video.bundle import Bundle, Tolerance
from tenclip_video.parity import Distance, distance


def replay(bundle: Bundle, runtime: Runtime, tolerance: Tolerance | None = None) -> Distance:
    """Run the golden clips, and measure how far logits and features are from the golden ones.

    tolerance: the bundle's own by default. Raises ParityError for logits or features beyond it, or of another shape.
    """
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
    drift = distance(outputs, (golden.logits, golden.features))
    if not drift.within(tolerance):
        raise ParityError(
            f"{bundle.path}: {runtime.name} drifts from golden.npz: relative L2 of logits {drift.logits:.2e} (allowed "
            f"{tolerance.logits:.0e}), of features {drift.features:.2e} (allowed {tolerance.features:.0e})"
        )
    return drift
