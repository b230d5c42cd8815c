"""Other forms of a model than the float32 ONNX graph, each with the bound that it must keep to.

`half` (float16 and bfloat16 graphs), `int8` (OpenVINO), `program` (torch); TensorRT engines are in
`tenclip_export.tensorrt_engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import BundleError, InvalidRequest
from tenclip_export.parity import Row
from tenclip_export.tensorrt_engine import write_engine
from tenclip_export.variants.half import HALVES, write_half
from tenclip_export.variants.int8 import BOUND as INT8_BOUND
from tenclip_export.variants.int8 import compare_held_out, quantise, split_clips
from tenclip_export.variants.program import write_program
from tenclip_serving.runtimes import create_runtime
from tenclip_training.models import VideoModel
from tenclip_video.bundle import Tolerance, Variant, sha256
from tenclip_video.spec import ClipSpec

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
FORMATS = ("onnx", "torch", "tensorrt")
# Relative L2 allowed on golden clips. A number has 11 bits in float16 and 8 in bfloat16, and some tens of layers add up
# to 1e-3 and 1e-2. int8 is decided on footage, see `int8`; noise and drawn shapes, which calibration has not seen, lie
# further off, so that it is held to what was measured here (`with_measured_tolerance`), below a ceiling.
BOUNDS = {
    "fp16": Tolerance(logits=1e-2, features=1e-2),
    "bf16": Tolerance(logits=5e-2, features=5e-2),
    "int8": Tolerance(logits=0.5, features=0.5),
}
INT8_ROOM = 1.3


class Refused(Exception):
    """A variant that cannot be made of this model or does not keep to its bound; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A precision in a format. The format of int8 is OpenVINO's own."""

    precision: str
    format: str

    @property
    def name(self) -> str:
        return self.precision if self.format in ("onnx", "openvino") else f"{self.precision} ({self.format})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """The model that variants are made from.

    graph: its float32 ONNX graph, in the directory `stage`. calibration: clips for int8, uint8 [N,T,H,W,3].
    """

    model: VideoModel
    spec: ClipSpec
    stage: Path
    graph: Path
    calibration: NDArray[np.uint8] | None = None


def wanted_variants(precisions: Sequence[str], formats: Sequence[str]) -> list[Wanted]:
    """Everything beside the float32 ONNX graph, which is always there. Raises InvalidRequest for an unknown name."""
    for names, known, what in ((precisions, PRECISIONS, "variant"), (formats, FORMATS, "format")):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InvalidRequest(f"no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    precisions = list(dict.fromkeys(("fp32", *precisions)))
    found = [Wanted(precision=p, format="onnx") for p in precisions if p in HALVES]
    found += [Wanted(precision="int8", format="openvino")] if "int8" in precisions else []
    for format in ("torch", "tensorrt"):
        if format in formats:
            found += [Wanted(precision=p, format=format) for p in precisions if p != "int8"]
    return found


def check_calibration(wanted: Sequence[Wanted], clips: NDArray[np.uint8] | None) -> None:
    """Raises InvalidRequest where int8 is wanted and there are not enough clips for it."""
    if any(one.precision == "int8" for one in wanted):
        if clips is None:
            raise InvalidRequest(
                "int8 needs clips of real videos to calibrate on: give videos or folders with --calibration"
            )
        split_clips(clips)


def make_variant(wanted: Wanted, source: Source) -> Variant:
    """Write one into `source.stage`. Raises Refused, MissingDependency or InvalidRequest."""
    try:
        files = _write(wanted, source)
    except BundleError as reason:
        raise Refused(reason.message) from reason
    return Variant(
        name=wanted.precision,
        format=wanted.format,
        path=str(files[0].relative_to(source.stage)),
        files={str(f.relative_to(source.stage)): sha256(f) for f in files},
        tolerance=BOUNDS.get(wanted.precision),
    )


def with_measured_tolerance(variant: Variant, rows: Sequence[Row]) -> Variant:
    """int8 with the tolerance that a server must keep on golden clips: the distance measured here, times `INT8_ROOM`.

    The room is for kernels of other machines (those without VNNI instructions saturate). Other variants stay as they
    are.
    """
    if variant.name != "int8":
        return variant
    return replace(
        variant,
        tolerance=Tolerance(
            logits=max(INT8_BOUND.logits, INT8_ROOM * max(row.relative_l2 for row in rows)),
            features=max(INT8_BOUND.logits, INT8_ROOM * max(row.features_relative_l2 for row in rows)),
        ),
    )


def _write(wanted: Wanted, source: Source) -> tuple[Path, ...]:
    precision, stage = wanted.precision, source.stage
    if wanted.format == "torch":
        return write_program(source.model, source.spec, stage / f"model.{precision}.pt2", precision=precision)
    if wanted.format == "tensorrt":
        graphs = {"fp32": source.graph, **_half_graphs(stage)}
        return (write_engine(graphs, stage, source.spec, precision=precision),)
    if precision == "int8":
        return _write_int8(source)
    assert precision in ("fp16", "bf16")
    return write_half(source.graph, _half_path(stage, precision), precision)  # type: ignore[arg-type]


def _half_graphs(stage: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {precision: _half_path(stage, precision) for precision in HALVES}
    return {precision: path for precision, path in paths.items() if path.is_file()}


def _half_path(stage: Path, precision: str) -> Path:
    return stage / f"model.{precision}.onnx"


def _write_int8(source: Source) -> tuple[Path, ...]:
    clips = source.calibration
    assert clips is not None, "checked before anything is written"
    calibration, held_out = split_clips(clips)
    target = source.stage / "openvino" / "int8.xml"
    target.parent.mkdir(exist_ok=True)
    files = quantise(source.graph, target, calibration)
    int8, float32 = create_runtime("openvino", target), create_runtime("openvino", source.graph)
    found = compare_held_out(int8.run, float32.run, held_out)
    if not found.within(INT8_BOUND):
        raise Refused(
            f"on {found.num_clips} held-out clips int8 has the best class of float32 on {found.top1_agreement:.1%} "
            f"(at least {INT8_BOUND.top1_agreement:.0%} wanted) and outputs {found.relative_l2:.3f} off (relative L2; "
            f"at most {INT8_BOUND.logits} allowed)"
        )
    return files
