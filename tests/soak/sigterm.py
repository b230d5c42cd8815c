"""SIGTERM under load: every request that the server accepted is answered, and nothing of it is left.

    python -m tests.soak.sigterm [--rounds 20]

Clients ask without a pause, each request under an id of its own. Somewhere in that the server gets SIGTERM. Then
- each request that the server says it worked on (its log) was answered OK, and its client has that answer;
- each request that was sent `CERTAINLY_ACCEPTED` seconds before the signal or earlier was answered OK;
- others were refused with UNAVAILABLE, so that a client's retry goes to another server; or gRPC cancelled them, which
  it does to those that it has taken from the network and not yet handed to us when it is told to stop (they are
  counted apart: nothing was done for them, and our clients send them again);
- the server ends with exit code 0, and no process of it lives on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from rich.console import Console

from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import VideoRecognitionStub
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

CLIENTS = 8
# Seconds. A request that a client sent so long ago is at the server, even on a busy machine.
CERTAINLY_ACCEPTED = 3.0
AROUND_THE_SIGNAL = 0.5
_REQUEST_ID_KEY = "tenclip-request-id"
_END_SECONDS = 120.0


@dataclass(kw_only=True)
class Asked:
    """One request: when it was sent (`time.monotonic`) and the status that its client got."""

    sent: float
    status: str = ""


@dataclass(kw_only=True)
class Report:
    """answers: statuses of all requests. in_flight: answered after the signal."""

    rounds: int = 0
    in_flight: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def run(rounds: int, *, seed: int = 0) -> Report:
    report, rng = Report(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models")
        video = make_video(root / "video.mp4", num_frames=400, size=(320, 240)).read_bytes()
        for number in range(rounds):
            report.rounds += 1
            with running_server(root / "models", "--log-format", "json") as server:
                workers = psutil.Process(server.process.pid).children(recursive=True)
                asked, signalled = asyncio.run(_load(server, video, seconds=CERTAINLY_ACCEPTED + rng.uniform(1.0, 2.0)))
                _judge(server, workers, asked, signalled, report, f"round {number}")
    return report


async def _load(server: ServerProcess, video: bytes, *, seconds: float) -> tuple[dict[str, Asked], float]:
    """(what was asked by id, when the signal was sent). Returns when the server has gone.

    seconds: from the first answers, more than one for each client on average, to the signal.
    """
    asked: dict[str, Asked] = {}

    async def client(number: int) -> None:
        # Each its own connection, as clients on different machines have.
        async with grpc.aio.insecure_channel(
            server.address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        ) as channel:
            stub: Any = VideoRecognitionStub(channel)
            while server.process.poll() is None:
                request_id = f"{number}-{len(asked)}"
                asked[request_id] = entry = Asked(sent=time.monotonic())
                entry.status = await _ask(stub, video, request_id)
                if entry.status != "OK":
                    await asyncio.sleep(0.05)  # nobody is there any more

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    async with asyncio.timeout(_END_SECONDS):
        while sum(entry.status == "OK" for entry in asked.values()) <= CLIENTS:
            await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    signalled = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_END_SECONDS):
            await asyncio.gather(*clients)
    except TimeoutError:
        pass  # the judge sees that the server has not ended
    return asked, signalled


async def _ask(stub: Any, video: bytes, request_id: str) -> str:
    request = pb.PredictRequest(video=pb.Video(data=video, name=request_id))
    try:
        await stub.Predict(request, timeout=_END_SECONDS, metadata=((_REQUEST_ID_KEY, request_id),))
    except grpc.aio.AioRpcError as err:
        return str(err.code().name)
    return "OK"


def _judge(
    server: ServerProcess,
    workers: list[psutil.Process],
    asked: dict[str, Asked],
    signalled: float,
    report: Report,
    when: str,
) -> None:
    def fail(what: str) -> None:
        report.failures.append(f"{when}: {what}")

    report.answers.update(entry.status for entry in asked.values())
    code = server.process.poll()
    if code != 0:
        fail(f"{_END_SECONDS:g} s after SIGTERM the server runs" if code is None else f"exit code {code}")
    for request_id, status in _worked_on(server).items():
        got = asked[request_id].status
        report.in_flight += asked[request_id].sent > signalled - AROUND_THE_SIGNAL and got == "OK"
        if (status, got) != ("OK", "OK"):
            fail(f"request {request_id}: the server says {status}, its client got {got or 'nothing'}")
    for request_id, entry in asked.items():
        if entry.sent <= signalled - CERTAINLY_ACCEPTED and entry.status != "OK":
            fail(f"request {request_id}, sent {signalled - entry.sent:.2f} s before the signal, got {entry.status}")
        if entry.status not in ("OK", "UNAVAILABLE", "CANCELLED"):
            fail(f"request {request_id} got {entry.status or 'nothing'}")
    left = psutil.wait_procs(workers, timeout=60)[1]
    if left:
        fail(f"processes left: {left}")


def _worked_on(server: ServerProcess) -> dict[str, str]:
    """Statuses by id, as the server's log has them."""
    found: dict[str, str] = {}
    for line in server.log.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("method") == "Predict":
                found[entry["request_id"]] = entry["code"]
    return found


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.sigterm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(argv)
    report = run(options.rounds)
    summary = (
        f"{report.rounds} times SIGTERM under {CLIENTS} clients: {len(report.failures)} accepted requests lost; "
        f"{report.answers['OK']} answered, {report.in_flight} of them around the signal; "
        f"{report.answers['UNAVAILABLE']} refused afterwards, {report.answers['CANCELLED']} cancelled by gRPC before "
        "they were accepted"
    )
    console = Console(highlight=False)
    console.print(summary, markup=False)
    for failure in report.failures[:20]:
        console.print(f"FAILED {failure}", markup=False)
    return {
        "passed": not report.failures,
        "summary": summary,
        "rounds": report.rounds,
        "answers": dict(report.answers),
        "answered_around_the_signal": report.in_flight,
        "failures": report.failures,
    }


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
