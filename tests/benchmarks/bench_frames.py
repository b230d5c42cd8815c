"""Frames a second of networks of single frames, as teachers and de-duplication use them: OpenVINO against torch.

    python -m tests.benchmarks.bench_frames [--json]

EfficientNet-Lite0 and a ResNet-50 on 224x224, random weights, uint8 frames in, features and logits out, on one thread,
in seconds of CPU: on a machine that is shared, threads that wait for each other measure the others. Batches of 16.
Torch in the execution that is its fastest on a CPU. Sides take turns; the median of repetitions counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tenclip_training.models import VideoModel, create_model
from tenclip_training.omni.networks import FrameNetwork, compile_model
from tenclip_training.preprocess import normalise
from tenclip_video.spec import ClipSpec, Resize

THREADS, FRAMES, REPETITIONS = 1, 16, 5
SPEC = ClipSpec(num_frames=1, resize=Resize(height=256, width=256), crop=224, fully_convolutional_crop=None)
NETWORKS = ("tsn_efficientnet_lite0", "tsn_r50")


def torch_frames(model: VideoModel, frames: np.ndarray) -> Callable[[], object]:
    model.set_execution("conv2d")

    def run() -> object:
        with torch.inference_mode():
            return model(normalise(torch.from_numpy(frames[:, None]), SPEC))

    return run


def measure(name: str) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, 224, 224, 3)).astype(np.uint8)
    model = create_model(name, num_classes=400, num_frames=1, crop=224).eval()
    network = FrameNetwork(name=name, identity=name, spec=SPEC, runtime=compile_model(model, SPEC, threads=THREADS))
    sides = {"openvino": lambda: network.run(frames), "torch": torch_frames(model, frames)}
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for repetition in range(REPETITIONS + 1):
        for side, run in sides.items():
            start = time.process_time()
            run()
            if repetition:
                taken[side].append(time.process_time() - start)
    rates = {side: FRAMES / statistics.median(seconds) for side, seconds in taken.items()}
    return {"network": name, **rates, "ratio": rates["openvino"] / rates["torch"]}


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_frames", description="Networks of frames.")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    arguments = parser.parse_args(argv)
    rows = [measure(name) for name in NETWORKS]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return {"frames": rows}
    table = Table(title="frames of 224x224 a second of one core", title_justify="left")
    for column in ("network", "torch", "OpenVINO", "ratio"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        table.add_row(row["network"], f"{row['torch']:.1f}", f"{row['openvino']:.1f}", f"{row['ratio']:.2f}")
    Console().print(table)
    return {"frames": rows}


if __name__ == "__main__":
    main(sys.argv[1:])
