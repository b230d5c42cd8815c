"""How OpenVINO's threads are best shared out: one clip at a time on all of them, or several clips side by side.

Clips a second of R(2+1)D-18 on 16x112x112 clips, float32, by streams (clips under way at once), threads and clips of a
batch; repetitions of all take turns, and ratios are medians of those of single repetitions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_export.onnx_graph import export_onnx
from tenclip_training.models import create_model
from tenclip_video.openvino_core import shared_core
from tenclip_video.spec import ClipSpec

FRAMES, CROP = 16, 112


@dataclass(frozen=True, kw_only=True)
class Way:
    """threads: of all streams together."""

    streams: int
    threads: int
    batch: int = 1

    def __str__(self) -> str:
        return f"{self.streams} x {self.threads // self.streams} threads, batches of {self.batch}"


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(argv)
    threads = options.threads
    ways = [Way(streams=1, threads=threads), *(Way(streams=1, threads=threads, batch=b) for b in (2, 4))]
    ways.append(Way(streams=threads, threads=threads))
    with tempfile.TemporaryDirectory() as folder:
        graph = write_graph(Path(folder))
        runs = {way: make_run(graph, way, options.clips) for way in ways}
    seconds: dict[Way, list[float]] = {way: [] for way in ways}
    for repetition in range(options.repetitions + 1):
        for way, run in runs.items():
            start = time.perf_counter()
            run()
            if repetition:
                seconds[way].append(time.perf_counter() - start)
    plain = np.array(seconds[ways[0]])
    print(f"{'streams':34}{'clips/s':>9}{'x first':>9}")
    lines = []
    for way, taken in seconds.items():
        rate, ratio = options.clips / float(np.median(taken)), float(np.median(plain / taken))
        print(f"{way!s:34}{rate:9.2f}{ratio:9.2f}")
        lines.append(asdict(way) | {"clips_per_second": rate, "ratio": ratio})
    return {"clips": options.clips, "lines": lines}


def write_graph(folder: Path) -> Path:
    model = create_model("r2plus1d_18", num_classes=400, num_frames=FRAMES, crop=CROP).eval()
    path = folder / "model.onnx"
    export_onnx(model, ClipSpec(num_frames=FRAMES, crop=CROP, fully_convolutional_crop=None), path)
    return path


def make_run(graph: Path, way: Way, num_clips: int) -> Callable[[], None]:
    """Runs so many clips, as many at once as there are streams."""
    import openvino as ov

    core = shared_core()
    model = core.read_model(graph)
    model.reshape({"clips": [way.batch, FRAMES, CROP, CROP, 3]})
    config = {
        "NUM_STREAMS": str(way.streams),
        "INFERENCE_NUM_THREADS": str(way.threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(model, "CPU", config)
    queue = ov.AsyncInferQueue(compiled, way.streams)
    clips = np.random.default_rng(0).integers(0, 256, (way.batch, FRAMES, CROP, CROP, 3), dtype=np.uint8)

    def run() -> None:
        for _ in range(num_clips // way.batch):
            queue.start_async({"clips": clips}, share_inputs=True)
        queue.wait_all()

    return run
