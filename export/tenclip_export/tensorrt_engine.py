"""TensorRT engines from the ONNX graph, on the machine that has the GPU.

TensorRT 10 takes a float32 graph and a flag for the precision; TensorRT 11 dropped the flags: networks are strongly
typed and the graph itself says float16 or bfloat16 where that is meant. `variants.half` writes such graphs, so 11 is
given those, and 10 a float32 one with its flag. float32 engines do without TensorFloat-32, which is 1e-3 off.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenclip_api.errors import BundleError, MissingDependency
from tenclip_serving.runtimes.tensorrt import error_log, load_tensorrt, local_key
from tenclip_video.spec import ClipSpec

FLAGS = {"fp16": "FP16", "bf16": "BF16"}


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batch sizes of an engine: it takes `smallest` to `largest` clips at once and is tuned for `best`."""

    smallest: int = 1
    best: int = 8
    largest: int = 16


def strongly_typed(trt: Any) -> bool:
    """Does this version read precisions from the graph only?"""
    return int(trt.__version__.partition(".")[0]) >= 11


def source_graph(trt: Any, precision: str, graphs: dict[str, Path]) -> Path:
    """Which ONNX graph to build from; `graphs` by precision. Raises BundleError where 11 lacks the one it needs."""
    if not strongly_typed(trt) or precision == "fp32":
        return graphs["fp32"]
    if precision not in graphs:
        raise BundleError(f"TensorRT {trt.__version__} builds {precision} engines from {precision} graphs only")
    return graphs[precision]


def write_engine(
    graphs: dict[str, Path],
    root: Path,
    spec: ClipSpec,
    *,
    precision: str = "fp32",
    batches: Batches | None = None,
    timing_cache: Path | None = None,
) -> Path:
    """Build an engine for this GPU; returns its file, `root/tensorrt/KEY/PRECISION.plan`.

    graphs: ONNX graphs by precision, "fp32" at least. timing_cache: measurements of kernels, kept for the next build on
    the same GPU; None takes `default_timing_cache`.
    Raises MissingDependency without TensorRT or a GPU, BundleError with TensorRT's own messages where it cannot build.
    """
    trt = load_tensorrt()
    key = local_key()
    if key is None:
        raise MissingDependency("TensorRT is not installed as a package with a version: pip install 'tenclip[gpu]'")
    log = error_log(trt)
    builder = trt.Builder(log)
    network = builder.create_network()  # explicit batch, in 10 and 11 alike
    parser = trt.OnnxParser(network, log)
    source = source_graph(trt, precision, graphs)
    if not parser.parse_from_file(str(source)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BundleError(f"{source}: TensorRT cannot read it: {errors}")
    config = builder.create_builder_config()
    configure(trt, config, precision)
    config.add_optimization_profile(_profile(builder, spec, batches or Batches()))
    cache_file = timing_cache or default_timing_cache(key)
    cache = config.create_timing_cache(cache_file.read_bytes() if cache_file.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(f"TensorRT cannot build a {precision} engine of {source.name}: {log.take()}")
    _keep(cache_file, bytes(cache.serialize()))
    path = root / "tensorrt" / key / f"{precision}.plan"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(plan))
    return path


def configure(trt: Any, config: Any, precision: str) -> None:
    """Flags for the precision: those of TensorRT 10, and no TensorFloat-32 in either version."""
    config.clear_flag(trt.BuilderFlag.TF32)
    if not strongly_typed(trt) and precision in FLAGS:
        config.set_flag(getattr(trt.BuilderFlag, FLAGS[precision]))


def default_timing_cache(key: str) -> Path:
    """The file of kernel timings in the user's cache folder, one for each GPU and version."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tenclip" / f"timing-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"


def _profile(builder: Any, spec: ClipSpec, batches: Batches) -> Any:
    """From the smallest batch of pooled clips to the largest of fully-convolutional ones."""
    profile = builder.create_optimization_profile()
    larger = max(spec.crop, spec.fully_convolutional_crop or 0)

    def shape(batch: int, side: int) -> tuple[int, int, int, int, int]:
        return (batch, spec.num_frames, side, side, 3)

    profile.set_shape(
        "clips", shape(batches.smallest, spec.crop), shape(batches.best, spec.crop), shape(batches.largest, larger)
    )
    return profile


def _keep(path: Path, content: bytes) -> None:
    """A cache that cannot be written only costs time at the next build."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_bytes(content)
        aside.replace(path)
    except OSError:
        pass
