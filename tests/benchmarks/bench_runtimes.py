"""Clips a second of each way to run a network, beside the machine's float32 matrix product, in one run.

Every repetition goes once through all the ways and the matrix product, so that a machine that slows down slows all of
them; figures are medians. int8 is calibrated on noise: its speed does not depend on that, its accuracy does and is not
measured here.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenclip_export.onnx_graph import ServedModel, export_onnx
from tenclip_export.variants.half import write_half
from tenclip_export.variants.int8 import quantise
from tenclip_serving.runtimes import create_runtime
from tenclip_training.models import create_model
from tenclip_training.models.blocks import Execution
from tenclip_training.models.cost import count_macs
from tenclip_video.spec import ClipSpec

# Architecture, frames, pixels: the networks of the IG-65M paper at their smaller and their larger input.
NETWORKS = (("r2plus1d_18", 16, 112), ("r2plus1d_34", 32, 128))
SGEMM_SIZE = 2048
TORCH_EAGER = "torch eager"
DEFAULT = "openvino fp32"
Clips = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One way to run one network. Ratios are medians of those of single repetitions."""

    network: str
    way: str
    clips_per_second: float
    gflops_per_second: float
    share_of_sgemm: float
    times_torch_eager: float


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--networks", type=int, default=len(NETWORKS), help="only the first so many")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    lines: list[Line] = []
    for architecture, frames, crop in NETWORKS[: options.networks]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            found = bench(architecture, frames, crop, folder, options.threads, options.repetitions)
        show(found)
        lines += found
    return {"threads": options.threads, "repetitions": options.repetitions, "lines": [asdict(line) for line in lines]}


def bench(architecture: str, frames: int, crop: int, folder: Path, threads: int, repetitions: int) -> list[Line]:
    """All ways to run one network, in turns."""
    model = create_model(architecture, num_classes=400, num_frames=frames, crop=crop).eval()
    spec = ClipSpec(num_frames=frames, crop=crop, fully_convolutional_crop=None)
    flop = 2 * count_macs(model, num_frames=frames, crop=crop)
    clip = np.random.default_rng(0).integers(0, 256, (1, frames, crop, crop, 3), dtype=np.uint8)
    ways = make_ways(model, spec, clip, folder, threads)
    ways |= SGEMM
    for call in ways.values():  # warm up: kernels are chosen, graphs compiled
        call()
    seconds = {way: np.empty(repetitions) for way in ways}
    for repetition in range(repetitions):
        for way, call in ways.items():
            start = time.perf_counter()
            call()
            seconds[way][repetition] = time.perf_counter() - start
    sgemm_rate = 2 * SGEMM_SIZE**3 / np.minimum.reduce([seconds.pop(name) for name in SGEMM])
    return [
        Line(
            network=f"{architecture} {frames}x{crop}",
            way=way,
            clips_per_second=float(np.median(1 / times)),
            gflops_per_second=float(np.median(flop / times)) / 1e9,
            share_of_sgemm=float(np.median(flop / times / sgemm_rate)),
            times_torch_eager=float(np.median(seconds[TORCH_EAGER] / times)),
        )
        for way, times in seconds.items()
    ]


def make_ways(
    model: torch.nn.Module, spec: ClipSpec, clip: Clips, folder: Path, threads: int
) -> dict[str, Callable[[], object]]:
    """What to call for one clip, by name. The torch ones share weights, so those of channels-last come last."""
    graph = folder / "model.onnx"
    export_onnx(model, spec, graph)
    (bf16,) = write_half(graph, folder / "bf16.onnx", "bf16")
    int8, _ = quantise(graph, folder / "int8.xml", np.repeat(clip, 2, axis=0))
    runtimes = {
        "onnxruntime fp32": create_runtime("onnxruntime", graph, threads=threads),
        DEFAULT: create_runtime("openvino", graph, threads=threads),
        "openvino bf16": create_runtime("openvino", bf16, threads=threads),
        "openvino int8": create_runtime("openvino", int8, threads=threads),
    }
    ways: dict[str, Callable[[], object]] = {
        TORCH_EAGER: torch_way(model, spec, clip, channels_last=False),
        "torch channels-last": torch_way(model, spec, clip, channels_last=True),
        "torch 2D execution": torch_way(model, spec, clip, channels_last=True, execution="conv2d"),
    }
    return ways | {name: (lambda r=runtime: r.run(clip)) for name, runtime in runtimes.items()}


def torch_way(
    model: torch.nn.Module, spec: ClipSpec, clip: Clips, *, channels_last: bool, execution: Execution = "conv3d"
) -> Callable[[], object]:
    """torch on the CPU: normalisation and network, as the graphs have it."""
    network: Any = copy.deepcopy(model)
    network.set_execution(execution)
    served = ServedModel(network, spec).eval()
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    if channels_last:
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=layout)

    def run() -> object:
        with torch.inference_mode():
            x = torch.from_numpy(clip).float() * served.scale + served.bias
            return network(x.permute(0, 4, 1, 2, 3).contiguous(memory_format=layout))

    return run


_A, _B, _OUT = (torch.rand(SGEMM_SIZE, SGEMM_SIZE) for _ in range(3))
# By torch's library and by numpy's: which is faster depends on the CPU, and the faster one is the measure.
SGEMM: dict[str, Callable[[], object]] = {
    "torch sgemm": lambda: torch.mm(_A, _B, out=_OUT),
    "numpy sgemm": lambda: np.matmul(_A.numpy(), _B.numpy(), out=_OUT.numpy()),
}


def show(lines: list[Line]) -> None:
    print(f"{'network':22}{'way':22}{'clips/s':>9}{'GFLOP/s':>9}{'of sgemm':>10}{'x eager':>9}", flush=True)
    for line in lines:
        print(
            f"{line.network:22}{line.way:22}{line.clips_per_second:9.3f}{line.gflops_per_second:9.1f}"
            f"{line.share_of_sgemm:10.0%}{line.times_torch_eager:9.2f}",
            flush=True,
        )
