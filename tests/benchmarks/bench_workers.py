"""What crossing from the decode worker to the server costs: clips in memory handed over, against bytes over the socket.

    python -m tests.benchmarks.bench_workers [--json]

One worker, both ways in turns on the same requests. The video is small, so that most of a request is the crossing; the
clips are what a model of that input gets. Every page of the clips is read once, as a runtime would. Wall time is what
a request takes in all; CPU time is that of both processes together.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from tenclip_serving.decoding import shared_memory
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.worker import DecodeWorker
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec, Resize
from tests.videos import Recipe, make_video

REPETITIONS = 9
PAGE = 4096
# Clips, frames, pixels of a side, and MiB of the uploaded file.
CASES = (
    (1, 16, 112, 0),
    (10, 16, 112, 0),
    (10, 32, 128, 0),
    (30, 32, 224, 0),
    (1, 16, 112, 8),
    (1, 16, 112, 64),
)


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_workers", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, and nothing else there")
    options = parser.parse_args(argv)
    video = make_video(Recipe(num_frames=60, gop=60))
    with running_worker() as worker, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(video)
        lines = [measure(worker, video, path, case) for case in CASES]
    results = {"repetitions": REPETITIONS, "lines": lines}
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        _print(lines)
    return results


@contextlib.contextmanager
def running_worker() -> Iterator[DecodeWorker]:
    worker = DecodeWorker()
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.close()


def measure(worker: DecodeWorker, video: bytes, path: Path, case: tuple[int, int, int, int]) -> dict[str, Any]:
    """Both ways on one request, in turns; medians, and medians of the ratios of single repetitions."""
    num_clips, frames, side, upload_mib = case
    request = DecodeRequest(
        # A free box behind the video makes it as long as it is to be.
        source=video + free_box(upload_mib << 20) if upload_mib else str(path),
        name="video",
        spec=ClipSpec(
            num_frames=frames, resize=Resize(height=side, width=side), crop=side, fully_convolutional_crop=None
        ),
        protocol=Protocol(selection=ClipSelection(num_clips=num_clips)),
    )

    def ask() -> None:
        clips = worker.decode(request).clips
        assert clips.reshape(-1)[::PAGE].sum() > 0

    wall: dict[str, list[float]] = {"memory": [], "socket": []}
    cpu: dict[str, list[float]] = {"memory": [], "socket": []}
    for repetition in range(REPETITIONS + 1):
        for way in wall:
            with over_socket() if way == "socket" else contextlib.nullcontext():
                seconds, cpu_seconds = timed(ask, worker.pid)
            if repetition:  # the first one warms up
                wall[way].append(seconds)
                cpu[way].append(cpu_seconds)
    return {
        "clips": f"{num_clips} x {frames} x {side} x {side}",
        "clip_mib": num_clips * frames * side * side * 3 / 2**20,
        "upload_mib": upload_mib,
        "memory_ms": 1000 * statistics.median(wall["memory"]),
        "socket_ms": 1000 * statistics.median(wall["socket"]),
        "ratio": statistics.median(s / m for s, m in zip(wall["socket"], wall["memory"], strict=True)),
        "memory_cpu_ms": 1000 * statistics.median(cpu["memory"]),
        "socket_cpu_ms": 1000 * statistics.median(cpu["socket"]),
        "cpu_ratio": statistics.median(s / m for s, m in zip(cpu["socket"], cpu["memory"], strict=True)),
    }


@contextlib.contextmanager
def over_socket() -> Iterator[None]:
    """As on a system without memory that can be handed over."""
    with mock.patch.object(shared_memory, "create", return_value=None):
        yield


def timed(work: Callable[[], None], pid: int) -> tuple[float, float]:
    """(wall, CPU of this process and of that one) seconds."""
    wall, cpu, theirs = time.perf_counter(), time.process_time(), cpu_seconds_of(pid)
    work()
    ours = time.process_time() - cpu
    return time.perf_counter() - wall, ours + cpu_seconds_of(pid) - theirs


def cpu_seconds_of(pid: int) -> float:
    """Of the main thread of another process; finer than the ticks of its statistics. Linux."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def free_box(size: int) -> bytes:
    return size.to_bytes(4, "big") + b"free" + bytes(size - 8)


def _print(lines: list[dict[str, Any]]) -> None:
    table = Table(title="from worker to server: handed-over memory against the socket", title_justify="left")
    for column in ("clips", "MiB", "upload MiB", "memory ms", "socket ms", "ratio", "CPU ms", "socket CPU ms", "ratio"):
        table.add_column(column, justify="left" if column == "clips" else "right")
    for line in lines:
        table.add_row(
            line["clips"],
            f"{line['clip_mib']:.1f}",
            str(line["upload_mib"]),
            f"{line['memory_ms']:.1f}",
            f"{line['socket_ms']:.1f}",
            f"{line['ratio']:.2f}",
            f"{line['memory_cpu_ms']:.1f}",
            f"{line['socket_cpu_ms']:.1f}",
            f"{line['cpu_ratio']:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
