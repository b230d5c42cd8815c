"""Which form of a bundle is in use, and which faster one is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Below this a variant is not worth a line: two runs of one measurement differ by as much.
_WORTH_SAYING = 1.1


@dataclass(frozen=True, kw_only=True)
class FasterVariant:
    """A variant that its bundle says is faster. times: how much. drift: of its features, the relative L2 distance."""

    name: str
    runtime: str
    times: float
    drift: float | None


def faster_variant(bundle: Mapping[str, Any], variant: str, runtime: str) -> FasterVariant | None:
    """The fastest variant that passed its parity check and was measured to be faster than the one in use.

    bundle: the content of `bundle.json`. None where there is none, or the speed of the one in use was not measured.
    """
    speeds = [s for s in bundle.get("speed", []) if s.get("clips_per_second")]
    own = [s["clips_per_second"] for s in speeds if (s["variant"], s["runtime"]) == (variant, runtime)]
    if not own:
        return None
    checks = {(p["variant"], p["runtime"]): p for p in bundle.get("parity", [])}
    others = [
        s
        for s in speeds
        if s["variant"] != variant and checks.get((s["variant"], s["runtime"]), {"passed": True})["passed"]
    ]
    best = max(others, key=lambda s: s["clips_per_second"], default=None)
    if best is None or best["clips_per_second"] < _WORTH_SAYING * max(own):
        return None
    drift = checks.get((best["variant"], best["runtime"]), {}).get("features_relative_l2")
    return FasterVariant(
        name=best["variant"], runtime=best["runtime"], times=best["clips_per_second"] / max(own), drift=drift
    )


def variant_note(bundle: Mapping[str, Any], variant: str, runtime: str, *, how: str) -> str:
    """One line: what is in use, and the faster variant that is there. how: what takes it, such as an option.

    >>> variant_note({}, "fp32", "openvino", how="--variant NAME takes another")
    'variant fp32 on openvino'
    """
    used = f"variant {variant} on {runtime}"
    faster = faster_variant(bundle, variant, runtime)
    if faster is None:
        return used
    drift = "" if faster.drift is None else f", features off by {faster.drift:.2g} of their length"
    return (
        f"{used}; {faster.name} on {faster.runtime} is there and was {faster.times:.1f} times as fast when it was "
        f"exported{drift}: {how.replace('NAME', faster.name)}"
    )
