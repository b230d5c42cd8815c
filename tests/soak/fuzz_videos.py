"""Damaged videos through the decode workers of a pool: every one is decoded or refused with an error of its own.

    python -m tests.soak.fuzz_videos [--cases 20000] [--seed 1] [--case INDEX]

Seeds are all real videos of the test data and small ones of other containers, made on the spot. A worker may die of a
video (that is what it is for); the request must end in DecodeWorkerDied then, and the next one succeed. What may not
happen: an exception that is not ours, a request that does not end, a pool that no longer decodes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tenclip_api.errors import DecodeWorkerDied, TenclipError
from tenclip_serving.decoding.child import DecodeRequest
from tenclip_serving.decoding.pool import DecodePool
from tenclip_serving.decoding.sandbox import SandboxLimits
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec, Resize
from tests.conftest import DATA_DIR
from tests.soak._mutations import MUTATIONS
from tests.videos import Recipe, make_video

SPEC = ClipSpec(num_frames=4, resize=Resize(height=40, width=52), crop=32)
SELECTIONS = (
    ClipSelection(mode="center", num_clips=1),
    ClipSelection(num_clips=2, max_clips=64),
    ClipSelection(num_clips=3, rule="vmz", max_clips=64),
    ClipSelection(mode="salient", num_clips=2, max_clips=64),
)
# What a server allows by default, with less memory and less time.
LIMITS = Limits(max_seconds=90_000)
SANDBOX = SandboxLimits(memory_bytes=1 << 30)
DECODE_SECONDS = 10.0
# Of every video at least so many cases; beyond them a video is chosen the more often the smaller it is.
_CASES_EACH, _SMALL_BYTES = 10, 20_000
# Then a request that should have ended long ago is called a hang.
_HANG_SECONDS = 60.0
_VIDEOS = frozenset({".mp4", ".avi", ".mkv", ".webm", ".mov", ".ts", ".flv", ".wmv", ".3gp", ".gif"})
MADE = {
    "mpegps": Recipe(codec="mpeg2video", container="mpeg", gop=10),
    "wmv": Recipe(codec="wmv2", container="asf", gop=10),
    "fragmented mp4": Recipe(gop=10, audio=True, muxer_options={"movflags": "frag_keyframe+empty_moov"}),
    "vp9 webm": Recipe(codec="libvpx-vp9", container="webm", gop=10),
    "mjpeg avi": Recipe(codec="mjpeg", container="avi"),
    "hevc mkv": Recipe(codec="libx265", container="matroska", gop=10),
    "ogg": Recipe(codec="libtheora", container="ogg", gop=10),
    "nut": Recipe(codec="mpeg4", container="nut", gop=10),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    index: int
    name: str
    data: bytes
    selection: ClipSelection


@dataclass(kw_only=True)
class Report:
    """outcomes: how many cases ended how. failures: what must not happen, with the case that shows it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "summary": f"{self.outcomes.total()} damaged videos: {len(self.failures)} that were neither decoded nor "
            f"refused by name; {self.outcomes['decoded']} decoded; {self.restarts.total()} workers replaced; slowest "
            f"{self.slowest_seconds:.1f} s",
            "cases": self.outcomes.total(),
            "outcomes": dict(self.outcomes.most_common()),
            "worker_restarts": dict(self.restarts),
            "failures": self.failures,
            "slowest_seconds": round(self.slowest_seconds, 2),
            "seconds": round(self.seconds, 1),
        }


def real_videos() -> dict[str, bytes]:
    """By name, smallest first."""
    files = [f for f in sorted(DATA_DIR.rglob("*")) if f.suffix in _VIDEOS]
    return {f.name: f.read_bytes() for f in sorted(files, key=lambda f: f.stat().st_size)}


def made_videos() -> dict[str, bytes]:
    found = {}
    for name, recipe in MADE.items():
        try:
            found[name] = make_video(recipe)
        except ValueError:  # FFmpeg was built without this encoder
            continue
    return found


def make_case(videos: dict[str, bytes], *, seed: int, index: int) -> Case:
    """The same for the same videos and numbers. Small videos decode fast and come more often; none is left out."""
    rng = np.random.default_rng([seed, index])
    names = sorted(videos)
    weights = np.array([1 / (_SMALL_BYTES + len(videos[name])) for name in names])
    chosen, other = rng.choice(names, 2, p=weights / weights.sum()).tolist()
    if index < _CASES_EACH * len(names):
        chosen = names[index % len(names)]
    mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    data = mutation(videos[chosen], videos[other], rng) or b"\0"
    selection = SELECTIONS[int(rng.choice(len(SELECTIONS), p=(0.4, 0.3, 0.2, 0.1)))]
    return Case(index=index, name=f"{index} {chosen} {mutation.__name__}", data=data, selection=selection)


async def run_cases(pool: DecodePool, cases: Iterator[Case], *, lanes: int, folder: Path) -> Report:
    """Every case once, `lanes` at a time; one of four by path, the others as bytes."""
    report = Report()
    started = time.perf_counter()
    await asyncio.gather(*(_run_lane(pool, cases, report, folder / f"{lane}") for lane in range(lanes)))
    report.seconds = time.perf_counter() - started
    return report


async def _run_lane(pool: DecodePool, cases: Iterator[Case], report: Report, path: Path) -> None:
    for case in cases:
        source: bytes | str = case.data
        if case.index % 4 == 0:
            path.write_bytes(case.data)
            source = str(path)
        started = time.perf_counter()
        outcome = await _outcome(pool, case, source, report)
        report.slowest_seconds = max(report.slowest_seconds, time.perf_counter() - started)
        report.outcomes[outcome] += 1


async def _outcome(pool: DecodePool, case: Case, source: bytes | str, report: Report) -> str:
    async def decode() -> None:
        worker = await pool.acquire()
        await pool.decode(worker, _request(case, source), timeout=DECODE_SECONDS)

    try:
        await asyncio.wait_for(decode(), DECODE_SECONDS + _HANG_SECONDS)
    except DecodeWorkerDied as err:
        how = re.search(r"signal \d+|exit code \d+|took longer|answered with.*|closed its socket", err.message)
        return f"DecodeWorkerDied ({how[0] if how else err.message})"
    except TenclipError as err:
        if not err.message.startswith(case.name):
            report.failures.append(f"{case.name}: {type(err).__name__} that does not name the video: {err.message}")
        return type(err).__name__
    except TimeoutError:
        report.failures.append(f"{case.name}: hangs")
        return "hang"
    except Exception as err:
        report.failures.append(f"{case.name}: {type(err).__name__}: {err}")
        return f"untyped {type(err).__name__}"
    return "decoded"


def _request(case: Case, source: bytes | str) -> DecodeRequest:
    return DecodeRequest(
        source=source,
        name=case.name,
        spec=SPEC,
        protocol=Protocol(selection=case.selection),
        timeline=case.index % 10 == 3,
        limits=LIMITS,
    )


async def fuzz(
    videos: dict[str, bytes], indices: Iterable[int], *, seed: int, workers: int = 2, console: Console | None = None
) -> Report:
    """Cases of these indices, in a pool of its own that must still decode at the end."""
    restarts: Counter[str] = Counter()

    def on_restart(reason: str) -> None:
        restarts[reason] += 1

    pool = DecodePool(workers, sandbox=SANDBOX, on_restart=on_restart)
    await pool.start()
    try:
        cases = (make_case(videos, seed=seed, index=index) for index in indices)
        with tempfile.TemporaryDirectory() as folder:
            lanes = 2 * workers  # so that no worker waits for the next case to be made
            report = await run_cases(pool, _with_progress(cases, console), lanes=lanes, folder=Path(folder))
        good = Case(index=1, name="a good video", data=made_videos()["mpegps"], selection=SELECTIONS[0])
        outcome = await _outcome(pool, good, good.data, report)
        if outcome != "decoded":
            report.failures.append(f"after all that a good video gives {outcome}")
        report.restarts = restarts
        return report
    finally:
        await pool.close()


def _with_progress(cases: Iterator[Case], console: Console | None) -> Iterator[Case]:
    started = time.perf_counter()
    for count in itertools.count():
        case = next(cases, None)
        if case is None:
            return
        if console is not None and count and count % 1000 == 0:
            console.print(f"{count} cases, {time.perf_counter() - started:.0f} s", style="dim")
        yield case


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz_videos", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", type=int, help="only this one")
    options = parser.parse_args(argv)
    console = Console()
    videos = {**real_videos(), **made_videos()}
    indices = range(options.cases) if options.case is None else [options.case]
    report = asyncio.run(fuzz(videos, indices, seed=options.seed, console=Console(stderr=True)))
    _print(console, report, len(videos))
    return {"seed": options.seed, "videos": len(videos), **report.to_dict()}


def _print(console: Console, report: Report, num_videos: int) -> None:
    title = f"{report.outcomes.total()} damaged videos made of {num_videos}, {report.seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    table.add_column("outcome")
    table.add_column("cases", justify="right")
    for outcome, count in report.outcomes.most_common():
        table.add_row(outcome, str(count))
    console.print(table)
    restarts = ", ".join(f"{count} {reason}" for reason, count in report.restarts.items()) or "none"
    console.print(f"workers replaced: {restarts}; slowest case {report.slowest_seconds:.1f} s")
    for failure in report.failures:
        console.print(f"FAILED {failure}", markup=False)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
