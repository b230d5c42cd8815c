"""Videos beyond any message: gigabytes are uploaded and answered, and neither side holds them in memory.

    python -m tests.soak.upload [--gib 2.5] [--broken 20]

A small video, padded with a box of zeros to more than 2 GiB (a sparse file: no larger on disk here, but all of it
travels and is spooled), is predicted by both clients and must be answered as the small one is. Meanwhile the resident
memory of server and client is watched; it may grow by MAX_GROWTH_MIB each. Then uploads are broken off in the middle;
nothing of any may be left: no bytes of the budget, no file held open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tenclip_client import AsyncClient, Client, Prediction, TenclipError
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server
from tests.tenclip_serving.test_server import metric

# Of buffers of gRPC and of the runtime's first requests; a tenth of what travels.
MAX_GROWTH_MIB = 256
_SETTLE_SECONDS = 20.0


@dataclass(kw_only=True)
class Report:
    gib: float
    seconds: dict[str, float] = field(default_factory=dict)
    growth_mib: dict[str, float] = field(default_factory=dict)
    broken: int = 0
    failures: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        speed = ", ".join(f"{client} {self.gib * 1024 / s:.0f} MiB/s" for client, s in self.seconds.items())
        growth = ", ".join(f"{who} +{mib:.0f} MiB" for who, mib in self.growth_mib.items())
        return {
            "passed": not self.failures,
            "summary": f"a video of {self.gib:g} GiB by both clients ({speed}; {growth}); {self.broken} broken off",
            "gib": self.gib,
            "seconds": {client: round(s, 2) for client, s in self.seconds.items()},
            "growth_mib": {who: round(mib, 1) for who, mib in self.growth_mib.items()},
            "broken": self.broken,
            "failures": self.failures,
        }


class Watch:
    """The most that a process has had in resident memory since this began, in MiB, less what it had then."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._first = self._most = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self._most = max(self._most, self._process.memory_info().rss)

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return (self._most - self._first) / 2**20


def pad(path: Path, source: Path, size: int) -> Path:
    """`source`, an MP4, made `size` bytes long by a box to be skipped; its length takes 64 bits."""
    data = source.read_bytes()
    with path.open("wb") as file:
        file.write(data + (1).to_bytes(4, "big") + b"free" + (size - len(data)).to_bytes(8, "big"))
        file.truncate(size)
    return path


def run(gib: float, *, broken: int) -> Report:
    report = Report(gib=gib)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_bundle(root / "models")
        small = make_video(root / "small.mp4")
        large = pad(root / "large.mp4", small, int(gib * 2**30))
        (root / "spool").mkdir()
        with running_server(root / "models", "--spool-dir", str(root / "spool"), "--decode-workers", "1") as server:
            _predict_large(server, small, large, report)
            _break_off(server, large, broken, report)
            _check_nothing_left(server, root / "spool", report)
    return report


def _predict_large(server: ServerProcess, small: Path, large: Path, report: Report) -> None:
    with Client(server.address, timeout=600) as client:
        expected = client.predict(small, features=True)
        watches = {"server": Watch(server.process.pid), "client": Watch(os.getpid())}
        started = time.perf_counter()
        answers = {"sync": client.predict(large, features=True)}
        report.seconds["sync"] = time.perf_counter() - started
    started = time.perf_counter()
    answers["async"] = asyncio.run(_predict_async(server.address, large))
    report.seconds["async"] = time.perf_counter() - started
    for who, watch in watches.items():
        report.growth_mib[who] = watch.stop()
        if report.growth_mib[who] > MAX_GROWTH_MIB:
            report.failures.append(f"the {who} grew by {report.growth_mib[who]:.0f} MiB, more than {MAX_GROWTH_MIB}")
    for client_kind, answer in answers.items():
        if (answer.top, answer.features) != (expected.top, expected.features):
            report.failures.append(f"the {client_kind} client got another answer than for the same video unpadded")


async def _predict_async(address: str, path: Path) -> Prediction:
    async with AsyncClient(address, timeout=600) as client:
        return await client.predict(path, features=True)


def _break_off(server: ServerProcess, large: Path, times: int, report: Report) -> None:
    with Client(server.address, retries=0) as client:
        for i in range(times):
            with suppress(TenclipError):
                client.predict(large, timeout=0.05 + 0.02 * i)
                report.failures.append("an upload that had to be broken off was answered")
            report.broken += 1


def _check_nothing_left(server: ServerProcess, spool: Path, report: Report) -> None:
    gauges = ("tenclip_spool_bytes", "tenclip_in_flight_bytes", "tenclip_requests_in_flight")
    give_up = time.monotonic() + _SETTLE_SECONDS
    while held := {name: value for name in gauges if (value := metric(server, name))}:
        if time.monotonic() > give_up:
            report.failures.append(f"still held: {held}")
            break
        time.sleep(0.1)
    descriptors = Path(f"/proc/{server.process.pid}/fd")
    for link in descriptors.iterdir() if descriptors.is_dir() else ():
        with suppress(FileNotFoundError):
            if os.readlink(link).startswith(str(spool)):
                report.failures.append(f"the server still has {os.readlink(link)} open")
    if names := list(spool.iterdir()):
        report.failures.append(f"files are left: {names}")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.upload")
    parser.add_argument("--gib", type=float, default=2.5)
    parser.add_argument("--broken", type=int, default=20)
    arguments = parser.parse_args(argv)
    result = run(arguments.gib, broken=arguments.broken).to_dict()
    console = Console(highlight=False)
    console.print(result["summary"])
    for failure in result["failures"]:
        console.print(f"  {failure}", style="red")
    return result


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
