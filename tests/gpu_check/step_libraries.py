"""What ONNX Runtime and TensorRT can do on this machine: run where they have a GPU, else read by their own parsers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from tenclip_api.errors import TenclipError
from tenclip_export.tensorrt_engine import write_engine
from tenclip_export.variants.half import HALVES, write_half
from tenclip_serving.models.golden_replay import replay
from tenclip_serving.runtimes import create_runtime, missing
from tenclip_serving.runtimes.tensorrt import load_tensorrt
from tenclip_video.bundle import Bundle, read_bundle
from tests.gpu_check.context import Context

GRAPHS = ("fp32", "fp16", "bf16")


def run(context: Context) -> dict[str, Any]:
    path = next(context.wait_for("bundle").glob("*/*/bundle.json")).parent
    bundle = read_bundle(path)
    graphs = {"fp32": path / bundle.variant("fp32").path}
    for precision in HALVES:
        graphs[precision] = write_half(graphs["fp32"], context.folder / f"{precision}.onnx", precision)[0]
    found: dict[str, Any] = {"parsers": {name: parse(graphs[name]) for name in GRAPHS}, "runtimes": {}}
    context.report(found)
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        lacking = missing(name)
        found["runtimes"][name] = (
            {"runs": False, "why": lacking} if lacking else run_graph(name, bundle, graphs["fp32"])
        )
        context.report(found)
    found["runtimes"]["tensorrt"] = engines(context, bundle, graphs)
    return found


def parse(graph: Path) -> dict[str, Any]:
    """Through ONNX's checker with shape inference, and ONNX Runtime's own parser and optimiser on the CPU."""
    found: dict[str, Any] = {}
    try:
        onnx.checker.check_model(str(graph), full_check=True)
        found["onnx"] = "ok"
    except Exception as err:  # the checker's own kinds
        found["onnx"] = f"{type(err).__name__}: {err}"
    try:
        create_runtime("onnxruntime", graph)
        found["onnxruntime"] = "ok"
    except TenclipError as err:
        found["onnxruntime"] = str(err)[:300]
    return found


def run_graph(name: str, bundle: Bundle, graph: Path) -> dict[str, Any]:
    """The bundle's golden clips, as a server replays them."""
    try:
        drift = replay(bundle, create_runtime(name, graph))
    except Exception as err:  # a library's own kinds, and ours
        return {"runs": False, "why": f"{type(err).__name__}: {str(err)[:300]}"}
    return {"runs": True, "drift": str(drift)}


def engines(context: Context, bundle: Bundle, graphs: dict[str, Path]) -> dict[str, Any]:
    """Engines in float32 and float16, built and replayed; or TensorRT's own parser alone; or why neither."""
    try:
        trt = load_tensorrt()
    except TenclipError as err:
        return {"runs": False, "why": str(err)}
    found: dict[str, Any] = {"version": trt.__version__}
    for precision in ("fp16", "fp32"):
        if context.seconds_left < 15:
            found[precision] = {"runs": False, "why": "time was over"}
            continue
        try:
            plan = write_engine(graphs, context.folder / "engines", bundle.info.clip_spec, precision=precision)
        except TenclipError as err:
            found[precision] = {"runs": False, "why": str(err)[:300]}
            continue
        found[precision] = run_graph("tensorrt", bundle, plan)
    return found
