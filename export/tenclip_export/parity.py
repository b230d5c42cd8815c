"""Do the runtimes compute what torch computes? Measured on golden clips, in units of the model's own rounding noise.

The yardstick is the same network in float64: what float32 torch differs from it is rounding, and no runtime can be held
to less. It ranges from 3e-7 (mc3_18) to 1e-4 (r3d-200) in relative L2, so that one constant for all models would be
either blind or false. A runtime may differ from float32 torch by `NOISE_MULTIPLE` times that, or by `FLOOR` if that is
more. For comparison: a wrong BN eps moves logits by 0.3, a wrong channel order by about as much, TF32 by 1e-3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tenclip_api.errors import ParityError
from tenclip_export.onnx_graph import ServedModel
from tenclip_video.bundle import Parity, Tolerance
from tenclip_video.parity import Floats, distance, top1_agreement
from tenclip_video.spec import ClipSpec

# Other summation orders (blocking, Winograd, fused BN) give a few times the noise of float32 torch.
NOISE_MULTIPLE = 30.0
# Room for kernels of other machines where a small model's noise is tiny.
FLOOR = 1e-4
BATCH = 4

Run = Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]


class Outputs(NamedTuple):
    """Outputs for B clips, float32 or float64. logits: [B,K,P]; features: [B,D]."""

    logits: Floats
    features: Floats


@dataclass(frozen=True, eq=False)
class Reference:
    """Golden clips of one crop, what float32 torch makes of them, and its distance from float64."""

    crop: int
    clips: NDArray[np.uint8]
    outputs: Outputs
    logits_noise: float
    features_noise: float

    def save(self, path: Path) -> None:
        """As a bundle's `golden.npz`."""
        np.savez_compressed(
            path,
            clips=self.clips,
            logits=self.outputs.logits.astype(np.float32),
            features=self.outputs.features.astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the parity table: a variant on a runtime at one crop."""

    variant: str
    runtime: str
    crop: int
    max_abs: float
    relative_l2: float
    features_relative_l2: float
    top1_agreement: float
    num_clips: int
    passed: bool


def run_batched(run: Run, clips: NDArray[np.uint8], batch: int = BATCH) -> Outputs:
    """`run` over [N,T,H,W,3] in batches; the last may be smaller, so that the free batch dimension is exercised too."""
    parts = [run(clips[i : i + batch]) for i in range(0, len(clips), batch)]
    return Outputs(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))


def torch_run(model: nn.Module, spec: ClipSpec, *, double: bool = False) -> Run:
    """Eager torch on the CPU, float32 or float64. `model` itself stays as it is."""
    served = ServedModel(copy.deepcopy(model) if double else model, spec).eval()
    if double:
        served = served.double()

    def run(clips: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            logits, features = served(torch.from_numpy(np.ascontiguousarray(clips)))
        return logits.numpy(), features.numpy()

    return run


def make_reference(model: nn.Module, spec: ClipSpec, clips: NDArray[np.uint8]) -> Reference:
    """Run torch on golden clips, uint8 [B,T,H,W,3], in float32 and in float64; their distance is the noise.

    Raises ParityError where torch itself gives NaN or infinity: nothing can be compared with those.
    """
    single = run_batched(torch_run(model, spec), clips)
    broken = [name for name, values in single._asdict().items() if not np.isfinite(values).all()]
    if broken:
        raise ParityError(
            f"the network gives NaN or infinity in its {' and '.join(broken)} for clips of {clips.shape[2]} pixels, in "
            "torch itself: its weights overflow float32, or the normalisation of its input does not fit them"
        )
    exact = run_batched(torch_run(model, spec, double=True), clips)
    noise = distance(single, exact)
    return Reference(clips.shape[2], clips, single, noise.logits, noise.features)


def tolerance_for(references: Sequence[Reference]) -> Tolerance:
    """`NOISE_MULTIPLE` times the largest noise seen, at least `FLOOR`."""
    return Tolerance(
        logits=max(FLOOR, NOISE_MULTIPLE * max(r.logits_noise for r in references)),
        features=max(FLOOR, NOISE_MULTIPLE * max(r.features_noise for r in references)),
    )


def compare(reference: Reference, run: Run, tolerance: Tolerance, *, variant: str, runtime: str) -> Row:
    """One row of the table. It passes when logits and features both lie within the tolerance.

    Top-1 agreement is reported and does not decide: two classes closer than the noise may change places harmlessly.
    """
    actual = run_batched(run, reference.clips)
    expected = reference.outputs
    drift = distance(actual, expected)
    return Row(
        variant=variant,
        runtime=runtime,
        crop=reference.crop,
        max_abs=_max_abs(actual, expected),
        relative_l2=drift.logits,
        features_relative_l2=drift.features,
        top1_agreement=top1_agreement(actual.logits, expected.logits),
        num_clips=len(reference.clips),
        passed=drift.within(tolerance),
    )


def _max_abs(actual: Outputs, expected: Outputs) -> float:
    """Largest difference of a logit; of a feature where the model has no classifier."""
    pairs = ((actual.features, expected.features), (actual.logits, expected.logits))
    got, wanted = pairs[expected.logits.shape[1] > 0]
    return float(np.abs(got - wanted).max()) if got.shape == wanted.shape else float("inf")


def summarise(rows: Sequence[Row]) -> tuple[Parity, ...]:
    """One `Parity` for each variant and runtime: the worst of its crops."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.runtime), []).append(row)
    return tuple(
        Parity(
            variant=variant,
            runtime=runtime,
            max_abs=max(r.max_abs for r in group),
            relative_l2=max(r.relative_l2 for r in group),
            features_relative_l2=max(r.features_relative_l2 for r in group),
            top1_agreement=sum(r.top1_agreement * r.num_clips for r in group) / sum(r.num_clips for r in group),
            num_clips=sum(r.num_clips for r in group),
            passed=all(r.passed for r in group),
        )
        for (variant, runtime), group in groups.items()
    )
