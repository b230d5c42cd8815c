"""Ten times what the server can do, for a minute, by callers who do not wait as long as the queue is.

    python -m tests.soak.overload_deadlines [--seconds 60] [--times 10]

`overload` is the same with a short queue and patient callers. Here a queue that was filled to its end would be full of
requests that end just too late, and clips are large.

First the most that the server does for clients that wait for their answers; then requests at `--times` that rate,
whatever the server says. The checks:
- every request is answered OK, RESOURCE_EXHAUSTED or DEADLINE_EXCEEDED, and the server lives;
- 99% of the refusals come within `--refusal-ms`;
- the server and its workers never hold more than the budget and `--slack-mb` above what they held before;
- as much is answered OK as before and afterwards, less 10%.

The load comes from this machine too, on cores that the server does not use (see `_cores`).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tenclip_client import AsyncClient
from tenclip_client._extraction import ClipChoice
from tenclip_client._load import LoadPlan, LoadReport, LoadVideo, generate
from tenclip_client.commands.bench import sender
from tenclip_video.spec import ClipSpec, Resize
from tests.soak._cores import beside, cores_of_its_own
from tests.soak.memory import resident_bytes
from tests.tenclip_serving.helpers import SPEC, make_bundle, make_video, running_server

ALLOWED = frozenset({"RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
# Large clips, so that a request is tens of milliseconds of work: [10,16,224,224,3] are 24 MB.
LARGE = replace(SPEC, num_frames=16, resize=Resize(height=256, width=340), crop=224, fully_convolutional_crop=None)
MAX_IN_FLIGHT_MB, MAX_QUEUE_MB, MAX_CLIP_MB, MAX_MESSAGE_MB = 256, 64, 64, 8
_DEADLINE = 5.0
_SAMPLE_SECONDS = 0.1
_SHARE_KEPT = 0.9


@dataclass(frozen=True, kw_only=True)
class Run:
    """Bytes are resident ones of the server and its workers."""

    alone: LoadReport
    overloaded: LoadReport
    afterwards: LoadReport
    bytes_before: int
    most_bytes: int
    exit_code: int | None

    @property
    def share_kept(self) -> float:
        """Of the throughput of good answers. The machine is not equally fast all the time: the mean of two."""
        alone = [self.alone.requests_per_second, self.afterwards.requests_per_second]
        return self.overloaded.requests_per_second / (sum(alone) / len(alone))

    @property
    def refusal_seconds(self) -> float:
        """The 99th percentile of refusals; 0 without any."""
        refused = [
            f.seconds.percentile(99) for f in self.overloaded.failures.values() if f.status != "DEADLINE_EXCEEDED"
        ]
        return max(refused, default=0.0)

    def statuses(self) -> dict[str, int]:
        found = {"OK": self.overloaded.num_ok}
        for failure in self.overloaded.failures.values():
            found[failure.status] = found.get(failure.status, 0) + failure.seconds.count
        return found


def measure(
    seconds: float,
    *,
    times: float,
    alone_seconds: float,
    spec: ClipSpec = LARGE,
    max_queue: int = 128,
    concurrency: int = 8,
) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models", spec=spec)
        video = make_video(root / "video.mp4", num_frames=300, size=(480, 360)).read_bytes()
        limits = {"in-flight": MAX_IN_FLIGHT_MB, "queue": MAX_QUEUE_MB, "clip": MAX_CLIP_MB, "message": MAX_MESSAGE_MB}
        flags = [word for name, mb in limits.items() for word in (f"--max-{name}-mb", str(mb))]
        flags += ["--max-queue", str(max_queue)]
        with cores_of_its_own(), running_server(root / "models", *flags) as server, beside(server.process.pid):
            videos = [LoadVideo(name="video", data=video, group="video")]
            calm = LoadPlan(videos=videos, concurrency=concurrency, seconds=alone_seconds, warmup_seconds=2.0)
            alone = asyncio.run(_load(server.address, calm))
            rate = times * alone.requests_per_second
            plan = replace(calm, concurrency=None, rate=rate, seconds=seconds, max_in_flight=10_000)
            process = psutil.Process(server.process.pid)
            before = resident_bytes(process)
            with _most_resident(process) as samples:
                overloaded = asyncio.run(_load(server.address, plan))
            afterwards = asyncio.run(_load(server.address, calm))
            exit_code = server.process.poll()
    return Run(
        alone=alone,
        overloaded=overloaded,
        afterwards=afterwards,
        bytes_before=before,
        most_bytes=max(samples),
        exit_code=exit_code,
    )


async def _load(target: str, plan: LoadPlan) -> LoadReport:
    async with AsyncClient(target, retries=0, timeout=_DEADLINE) as client:
        return await generate(sender([client], "predict", ClipChoice()), plan)


@contextmanager
def _most_resident(process: psutil.Process) -> Iterator[list[int]]:
    """Samples of resident bytes, taken on a thread of its own."""
    samples, stop = [0], threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            samples.append(resident_bytes(process))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def judge(run: Run, *, slack_mb: float, refusal_ms: float, share_kept: float = _SHARE_KEPT) -> list[str]:
    """What does not hold."""
    found = []
    if run.exit_code is not None:
        found.append(f"the server ended with exit code {run.exit_code}")
    if others := {status: n for status, n in run.statuses().items() if status not in ALLOWED | {"OK"}}:
        found.append(f"other answers: {others}")
    if not run.overloaded.num_ok or "RESOURCE_EXHAUSTED" not in run.statuses():
        found.append(f"this was no overload: {run.statuses()}")
    if run.most_bytes - run.bytes_before > (MAX_IN_FLIGHT_MB << 20) + slack_mb * 1e6:
        found.append(f"{(run.most_bytes - run.bytes_before) / 1e6:.0f} MB more than before were resident")
    if run.refusal_seconds * 1e3 > refusal_ms:
        found.append(f"99% of the refusals took up to {run.refusal_seconds * 1e3:.0f} ms, not {refusal_ms:g}")
    if run.share_kept < share_kept:
        found.append(f"{run.share_kept:.0%} of the throughput was kept, not {share_kept:.0%}")
    return found


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.overload_deadlines", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--alone-seconds", type=float, default=20.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--slack-mb", type=float, default=100.0)
    parser.add_argument("--refusal-ms", type=float, default=50.0)
    options = parser.parse_args(argv)
    run = measure(options.seconds, times=options.times, alone_seconds=options.alone_seconds)
    failures = judge(run, slack_mb=options.slack_mb, refusal_ms=options.refusal_ms)
    rate, above = run.overloaded.plan.rate or 0.0, run.most_bytes - run.bytes_before
    statuses = ", ".join(f"{count} {status}" for status, count in run.statuses().items())
    summary = (
        f"{rate:.0f} requests/s, {options.times:g} times capacity, for {options.seconds:g} s: {statuses}; 99% of "
        f"refusals within {run.refusal_seconds * 1e3:.0f} ms; at most {above / 1e6:.0f} MB above idle (budget "
        f"{MAX_IN_FLIGHT_MB} MiB); {run.share_kept:.0%} of {run.alone.requests_per_second:.1f} requests/s kept"
    )
    console = Console(highlight=False)
    console.print(summary, markup=False)
    for failure in failures:
        console.print(f"FAILED {failure}", markup=False)
    return {
        "passed": not failures,
        "summary": summary,
        "failures": failures,
        "share_kept": run.share_kept,
        "refusal_p99_seconds": run.refusal_seconds,
        "most_bytes_above_idle": above,
        "alone": run.alone.to_dict(),
        "overloaded": run.overloaded.to_dict(),
        "afterwards": run.afterwards.to_dict(),
    }


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
