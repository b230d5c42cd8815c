"""Ten times more requests than the server can answer, for a minute: it does what it can and refuses the rest at once.

    python -m tests.soak.overload [--seconds 60]

Only OK, RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED may come back; refusals take less than 50 ms (99th percentile, as
the client sees it); what is accepted is within 10% of what the server does without the rush; its memory is bounded.
The load comes from this process, on cores that the server does not use (see `_cores`). The machine must have nothing
else to do. A clip takes tens of milliseconds here: the work should be inference, not receiving uploads only to refuse
them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tests.benchmarks.bench_scheduler import SHORT_CLIPS, Calls, closed_loop, open_loop, write_model
from tests.soak._cores import beside, cores_of_its_own
from tests.tenclip_serving.helpers import make_video, running_server

OVERLOAD = 10
ALLOWED = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
MOST_REFUSAL_SECONDS = 0.050
LEAST_SHARE = 0.9
# Of the server's resident memory, over what it has when it is as busy as it can be without a queue.
MOST_GROWTH_MB = 100
# Zeros that follow the video, so that uploads weigh something.
_PADDING = 300 << 10


@dataclass(kw_only=True)
class Report:
    seconds: float
    capacity_per_second: float = 0.0
    accepted_share: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)
    refusal_p50_seconds: float = float("nan")
    refusal_p99_seconds: float = float("nan")
    memory_growth_mb: float = 0.0
    failures: list[str] = field(default_factory=list)

    def judge(self) -> None:
        if unexpected := set(self.answers) - ALLOWED:
            self.failures.append(f"answers of other kinds: {', '.join(sorted(unexpected))}")
        if not self.answers.get("RESOURCE_EXHAUSTED"):
            self.failures.append("nothing was refused: this was no overload")
        elif self.refusal_p99_seconds > MOST_REFUSAL_SECONDS:
            self.failures.append(f"p99 of refusals {1000 * self.refusal_p99_seconds:.1f} ms")
        if self.accepted_share < LEAST_SHARE:
            self.failures.append(f"accepted {self.accepted_share:.0%} of the capacity")
        if self.memory_growth_mb > MOST_GROWTH_MB:
            self.failures.append(f"memory grew by {self.memory_growth_mb:.0f} MB")


async def run(seconds: float) -> Report:
    report = Report(seconds=seconds)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_model(root / "models", architecture="r2plus1d_18", width=32)
        video = make_video(root / "video.mp4", num_frames=100, size=(320, 240)).read_bytes() + bytes(_PADDING)
        request = pb.PredictRequest(
            video=pb.Video(data=video, name="video.mp4"), clips=pb.ClipSelection(num_clips=SHORT_CLIPS)
        )
        arguments = ("--max-active", "4", "--max-queue", "4", "--log-format", "json")
        with cores_of_its_own(), running_server(root / "models", *arguments) as server, beside(server.process.pid):
            process = psutil.Process(server.process.pid)
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = VideoRecognitionStub(channel)
                await closed_loop(stub, seconds / 6, clients=4, request=request)
                _, report.capacity_per_second = await _rate(closed_loop(stub, seconds / 3, clients=4, request=request))
                memory = process.memory_info().rss
                watching = asyncio.create_task(_most_memory(process))
                rate = OVERLOAD * report.capacity_per_second
                calls, in_rush = await _rate(open_loop(stub, seconds, per_second=rate, request=request))
                watching.cancel()
                report.memory_growth_mb = (await watching - memory) / 1e6
                # Afterwards again: the machine is not equally fast all the time.
                _, afterwards = await _rate(closed_loop(stub, seconds / 3, clients=4, request=request))
    report.answers = calls.counts
    report.accepted_share = in_rush / ((report.capacity_per_second + afterwards) / 2)
    report.refusal_p50_seconds = calls.percentile("RESOURCE_EXHAUSTED", 50)
    report.refusal_p99_seconds = calls.percentile("RESOURCE_EXHAUSTED", 99)
    report.judge()
    return report


async def _rate(load: Awaitable[Calls]) -> tuple[Calls, float]:
    """With good answers a second, till the last one."""
    started = time.perf_counter()
    calls = await load
    return calls, calls.counts.get("OK", 0) / (time.perf_counter() - started)


async def _most_memory(process: psutil.Process) -> int:
    """The largest resident size, in bytes, until it is cancelled."""
    most = 0
    try:
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.25)
    except asyncio.CancelledError:
        return most


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the rush")
    options = parser.parse_args(argv)
    report = asyncio.run(run(options.seconds))
    Console().print(
        f"{OVERLOAD} times {report.capacity_per_second:.1f} requests/s for {report.seconds:.0f} s: {report.answers}, "
        f"accepted {report.accepted_share:.0%} of capacity, refused in {1000 * report.refusal_p50_seconds:.1f} ms "
        f"(p50) and {1000 * report.refusal_p99_seconds:.1f} ms (p99), memory {report.memory_growth_mb:+.0f} MB"
    )
    for failure in report.failures:
        Console().print(f"FAILED: {failure}", style="red")
    summary = (
        f"{OVERLOAD} times {report.capacity_per_second:.1f} requests/s for {report.seconds:.0f} s: "
        + ", ".join(f"{count} {status}" for status, count in report.answers.items())
        + f"; 99% of refusals within {1000 * report.refusal_p99_seconds:.0f} ms; {report.accepted_share:.0%} of the "
        f"throughput kept; resident memory {report.memory_growth_mb:+.0f} MB"
    )
    return {"passed": not report.failures, "summary": summary, **asdict(report)}


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
