"""Decode workers killed under load: requests go on with other workers, and so does the server.

    python -m tests.soak.worker_kills [--kills 100]

Clients ask a real server without a pause while one worker after the other gets SIGKILL. A video whose worker is killed
is sent to a second one, so a failed request has cost two workers; it must say UNAVAILABLE and DECODE_WORKER_DIED. In
the end every worker is back, a request succeeds, and the server has no more descriptors open than workers account for.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.decoding.shared_memory import KEPT_SEGMENTS
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

CLIENTS, WORKERS = 6, 2
_SETTLE_SECONDS = 30.0


@dataclass(kw_only=True)
class Report:
    kills: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": not self.failures,
            "summary": f"{self.kills} decode workers killed under {CLIENTS} clients: "
            + ", ".join(f"{count} {answer}" for answer, count in self.answers.most_common()),
            "kills": self.kills,
            "answers": dict(self.answers.most_common()),
            "failures": self.failures,
            "seconds": round(self.seconds, 1),
        }


def run(kills: int, *, seed: int = 1) -> Report:
    """Kill workers of a server of its own, `kills` times."""
    report = Report()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models")
        make_video(root / "video.mp4", num_frames=300, size=(320, 240))
        arguments = ("--allow-root", folder, "--decode-workers", str(WORKERS))
        with running_server(root / "models", *arguments) as server:
            _ask(server, (root / "video.mp4").read_bytes())
            before = psutil.Process(server.process.pid).num_fds()
            started = time.perf_counter()
            _kill_under_load(server, root / "video.mp4", kills, random.Random(seed), report)
            report.seconds = time.perf_counter() - started
            _check(server, root / "video.mp4", before, report)
    return report


def _ask(server: ServerProcess, video: bytes | str) -> str:
    """The status of one Predict, with its reason where it failed."""
    source = pb.Video(data=video) if isinstance(video, bytes) else pb.Video(path=video)
    with server.stub() as stub:
        try:
            stub.Predict(pb.PredictRequest(video=source), timeout=60)
        except grpc.RpcError as err:
            if not isinstance(err, grpc.Call):
                raise
            return f"{err.code().name} {dict(err.trailing_metadata() or ()).get('tenclip-reason')}"
    return "OK"


def _kill_under_load(server: ServerProcess, video: Path, kills: int, rng: random.Random, report: Report) -> None:
    stop, lock = threading.Event(), threading.Lock()
    sources: tuple[bytes | str, ...] = (video.read_bytes(), str(video))

    def ask(number: int) -> None:
        while not stop.is_set():
            answer = _ask(server, sources[number % 2])
            with lock:
                report.answers[answer] += 1

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        while report.kills < kills and server.process.poll() is None and not report.failures:
            _wait_for_success(report, after=report.kills)
            time.sleep(rng.uniform(0.0, 0.1))  # so that it comes in any part of a request
            workers = server.decode_workers()
            if workers:
                rng.choice(workers).kill()
                report.kills += 1
    finally:
        stop.set()
        for client in clients:
            client.join()


def _wait_for_success(report: Report, *, after: int) -> None:
    """One more request succeeds, so that kills do not just meet workers that start."""
    succeeded, end = report.answers["OK"], time.monotonic() + _SETTLE_SECONDS
    while report.answers["OK"] == succeeded:
        if time.monotonic() > end:
            report.failures.append(f"no request succeeded within {_SETTLE_SECONDS:g} s of kill {after}")
            return
        time.sleep(0.01)


def _check(server: ServerProcess, video: Path, descriptors: int, report: Report) -> None:
    died = report.answers["UNAVAILABLE DECODE_WORKER_DIED"]
    if server.process.poll() is not None:
        report.failures.append(f"the server ended with exit code {server.process.returncode}")
        return
    if others := set(report.answers) - {"OK", "UNAVAILABLE DECODE_WORKER_DIED"}:
        report.failures.append(f"other answers: {', '.join(sorted(others))}")
    if 2 * died > report.kills:
        report.failures.append(f"{died} requests failed of {report.kills} kills")
    if not report.answers["OK"]:
        report.failures.append("no request succeeded")
    end = time.monotonic() + _SETTLE_SECONDS
    while len(server.decode_workers()) != WORKERS and time.monotonic() < end:
        time.sleep(0.05)
    if len(server.decode_workers()) != WORKERS:
        report.failures.append(f"{len(server.decode_workers())} workers of {WORKERS} came back")
    if (answer := _ask(server, str(video))) != "OK":
        report.failures.append(f"after all that a request gets {answer}")
    # Memory that waits for its next use has two each; connections that clients have just closed go in their own time.
    allowed = descriptors + 2 * WORKERS * KEPT_SEGMENTS
    while psutil.Process(server.process.pid).num_fds() > allowed and time.monotonic() < end:
        time.sleep(0.05)
    if (now := psutil.Process(server.process.pid).num_fds()) > allowed:
        report.failures.append(f"{now} descriptors are open, {descriptors} were at the beginning")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.worker_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args(argv)
    report = run(options.kills)
    console = Console()
    answers = ", ".join(f"{count} {answer}" for answer, count in report.answers.most_common())
    console.print(f"{report.kills} workers killed in {report.seconds:.0f} s under {CLIENTS} clients: {answers}")
    for failure in report.failures:
        console.print(f"FAILED {failure}", markup=False)
    return report.to_dict()


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
