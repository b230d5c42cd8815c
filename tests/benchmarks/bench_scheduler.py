"""A server under load, on a real network: short videos beside a long one, and ten times too many requests.

    python -m tests.benchmarks.bench_scheduler [--seconds 20]

Every figure is a ratio of two parts of one run, or a time that the server is promised to keep. The load comes from
this process, so on a small machine both share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from rich.console import Console

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tenclip_export.bundle_writer import export_bundle
from tenclip_training.models import create_model
from tenclip_video.spec import ClipSpec, Resize
from tests.tenclip_serving.helpers import make_video, running_server

if TYPE_CHECKING:
    from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionAsyncStub

SPEC = ClipSpec(num_frames=8, resize=Resize(height=64, width=86), crop=56)
SHORT_CLIPS, LONG_CLIPS = 10, 500
OVERLOAD = 10


@dataclass(kw_only=True)
class Calls:
    """How calls ended: seconds by status code."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, code: str, seconds: float) -> None:
        self.seconds.setdefault(code, []).append(seconds)

    def percentile(self, code: str, percent: float) -> float:
        return float(np.percentile(self.seconds[code], percent)) if self.seconds.get(code) else float("nan")

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter({code: len(seconds) for code, seconds in self.seconds.items()}).most_common())


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_model(root / "models")
        make_video(root / "short.mp4", num_frames=100, size=(320, 240))
        make_video(root / "long.mp4", num_frames=8 * LONG_CLIPS, size=(320, 240))
        arguments = ("--allow-root", folder, "--max-active", "4", "--max-queue", "4", "--log-format", "json")
        with running_server(root / "models", *arguments) as server:
            results = asyncio.run(measure(server.address, options.seconds))
    show(results)
    return results


def write_model(folder: Path, *, architecture: str = "r2plus1d_10", width: int = 16) -> None:
    """By default a network that takes a few milliseconds a clip."""
    model = create_model(architecture, num_classes=400, width=width, num_frames=SPEC.num_frames, crop=SPEC.crop)
    export_bundle(model.eval(), SPEC, folder, name="net", runtimes=("openvino",))


async def measure(address: str, seconds: float) -> dict[str, Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: VideoRecognitionAsyncStub = VideoRecognitionStub(channel)
        for _ in range(3):
            await stub.Predict(short())
        alone = await paced(stub, seconds)
        async with long_ones(stub):
            beside = await paced(stub, seconds)
        most = await closed_loop(stub, seconds, clients=4)
        capacity = most.counts["OK"] / seconds
        overload = await open_loop(stub, seconds, per_second=OVERLOAD * capacity)
    return {
        "short_alone_p95_seconds": alone.percentile("OK", 95),
        "short_beside_long_p95_seconds": beside.percentile("OK", 95),
        "p95_ratio": beside.percentile("OK", 95) / alone.percentile("OK", 95),
        "p50_ratio": beside.percentile("OK", 50) / alone.percentile("OK", 50),
        "capacity_per_second": capacity,
        "overload_offered_per_second": OVERLOAD * capacity,
        "overload_answers": overload.counts,
        "overload_accepted_share_of_capacity": overload.counts.get("OK", 0) / seconds / capacity,
        "refusal_p50_seconds": overload.percentile("RESOURCE_EXHAUSTED", 50),
        "refusal_p99_seconds": overload.percentile("RESOURCE_EXHAUSTED", 99),
    }


def short() -> pb.PredictRequest:
    return pb.PredictRequest(video=pb.Video(path="short.mp4"), clips=pb.ClipSelection(num_clips=SHORT_CLIPS))


async def ask(stub: VideoRecognitionAsyncStub, calls: Calls, request: pb.PredictRequest) -> None:
    started = time.perf_counter()
    try:
        await stub.Predict(request, timeout=60)
    except grpc.aio.AioRpcError as err:
        calls.add(err.code().name, time.perf_counter() - started)
    else:
        calls.add("OK", time.perf_counter() - started)


async def paced(stub: VideoRecognitionAsyncStub, seconds: float) -> Calls:
    """Short videos one after the other, with a pause as long as each took: half of the machine's time."""
    calls, end = Calls(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        await ask(stub, calls, short())
        await asyncio.sleep(time.perf_counter() - started)
    return calls


@contextlib.asynccontextmanager
async def long_ones(stub: VideoRecognitionAsyncStub) -> AsyncIterator[None]:
    """A long video is always there."""

    async def ask_for_ever() -> None:
        while True:
            await stub.Predict(pb.PredictRequest(video=pb.Video(path="long.mp4"), protocol="sliding-window"))

    task = asyncio.create_task(ask_for_ever())
    await asyncio.sleep(1.0)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def closed_loop(
    stub: VideoRecognitionAsyncStub, seconds: float, *, clients: int, request: pb.PredictRequest | None = None
) -> Calls:
    """What the server can do: clients that ask again as soon as they are answered."""
    calls, end = Calls(), time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < end:
            await ask(stub, calls, request or short())

    await asyncio.gather(*(client() for _ in range(clients)))
    return calls


async def open_loop(
    stub: VideoRecognitionAsyncStub, seconds: float, *, per_second: float, request: pb.PredictRequest | None = None
) -> Calls:
    """Requests at a steady rate, whatever happens to those before."""
    calls, tasks = Calls(), []
    started = time.perf_counter()
    for i in range(int(seconds * per_second)):
        await asyncio.sleep(max(0.0, started + i / per_second - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(stub, calls, request or short())))
    await asyncio.gather(*tasks)
    return calls


def show(results: dict[str, Any]) -> None:
    console = Console()
    console.print(
        f"short videos beside a long one, against alone: p50 {results['p50_ratio']:.2f}x, p95 "
        f"{results['p95_ratio']:.2f}x ({1000 * results['short_alone_p95_seconds']:.0f} -> "
        f"{1000 * results['short_beside_long_p95_seconds']:.0f} ms)"
    )
    console.print(
        f"{OVERLOAD} times too much ({results['overload_offered_per_second']:.0f} requests/s): "
        f"{results['overload_answers']}; accepted {results['overload_accepted_share_of_capacity']:.0%} of capacity; "
        f"refused in {1000 * results['refusal_p50_seconds']:.1f} ms (p50), "
        f"{1000 * results['refusal_p99_seconds']:.1f} ms (p99)"
    )


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
