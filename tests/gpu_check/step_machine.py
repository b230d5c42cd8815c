"""What the machine is, and what it reaches: the rates that every other figure is a share of."""

from __future__ import annotations

import importlib.util
import platform
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from tenclip_serving.runtimes import cuda
from tenclip_video.cpus import usable_cpus
from tests.benchmarks.machine import describe_machine
from tests.gpu_check.context import Context, set_tf32
from tests.gpu_check.timing import median_ms

PACKAGES = ("torch", "triton", "numpy", "onnxruntime", "onnxruntime-gpu", "onnx", "tensorrt", "av", "torchvision")


def run(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"versions": versions(), "device": describe(context), "ceilings": {}}
    context.report(found)
    found["ceilings"] = matmuls(context) | copies(context)
    return found


def versions() -> dict[str, Any]:
    """cuDNN's matters most: 9.10.2 computes bfloat16 3D convolutions wrongly (pytorch#163539)."""
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    found["cuda"] = torch.version.cuda
    found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    found["tensorrt_importable"] = importlib.util.find_spec("tensorrt") is not None
    return found


def describe(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"machine": describe_machine(), "cores": usable_cpus(), "gpu": cuda.gpu_name()}
    if not context.dry:
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
        }
    return found


def matmuls(context: Context) -> dict[str, float]:
    """TFLOP/s of a square matrix product on random numbers, by precision."""
    size = 64 if context.dry else 8192
    flop, found = 2 * size**3, {}
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("fp16", torch.float16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ):
        set_tf32(tf32)
        a, b = (torch.randn(size, size, device=context.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        ms = median_ms(partial(torch.mm, a, b, out=out), context.device)
        found[f"matmul_{name}_tflops"] = flop / ms / 1e9
    set_tf32(False)
    return found


def copies(context: Context) -> dict[str, float]:
    """GB/s: within the device (read and written bytes), and to and from it, pinned and pageable."""
    size = 1 << (16 if context.dry else 31)
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    ms = median_ms(partial(target.copy_, source), context.device)
    found = {"copy_gb_per_s": 2 * size / ms / 1e6}
    part = min(size, 1 << 28)
    for name, pinned in (("pinned", not context.dry), ("pageable", False)):
        host = torch.randint(0, 256, (part,), dtype=torch.uint8)
        host = host.pin_memory() if pinned else host
        there, back = target[:part], source[:part]
        ms = median_ms(partial(there.copy_, host, non_blocking=True), context.device, seconds=0.2)
        found[f"to_device_{name}_gb_per_s"] = part / ms / 1e6
        ms = median_ms(partial(host.copy_, back, non_blocking=True), context.device, seconds=0.2)
        found[f"from_device_{name}_gb_per_s"] = part / ms / 1e6
    return found
