"""`tenclip batch`: what Ray adds to short videos, and whether memory stays flat from 1,000 to 10,000 of them.

    python -m tests.benchmarks batch
    python -m tests.benchmarks batch --videos 200

Overhead: the same videos by `--engine local` and `--engine ray`, as commands of their own; the time that Ray takes to
start a cluster of its own is given apart. Memory: a process works on `--few` and on `--many` videos and says the most
memory it had; the control does the same and keeps every result, which must show.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.tenclip_batch.helpers import command, rows
from tests.tenclip_serving.helpers import make_bundle, make_video

# What memory may grow by over all videos beyond the first; pages that the allocator keeps come and go.
ALLOWED_MB = 24.0
# Runs in a process of its own, and prints the MiB it holds at the end and the most that it held.
_PROGRAM = """
import gc, json, sys
from pathlib import Path
import psutil
from tenclip_batch.options import OutputOptions, RuntimeOptions
from tenclip_batch.run import BatchJob, Watching, run_local
from tenclip_batch.videos import batch_videos

bundle, out, videos, leak = sys.argv[1:]
process, kept, most = psutil.Process(), [], [0]

def on_shown(result):
    if leak == "leak":
        kept.append((result, bytearray(16384)))
    if len(seen) % 100 == 0:
        most[0] = max(most[0], process.memory_info().rss)
    seen.append(None)

seen = []
runtime = RuntimeOptions(decode_workers=2, threads=1)
job = BatchJob(bundle=Path(bundle), out=Path(out), videos=batch_videos([videos]), runtime=runtime,
               output=OutputOptions(part_videos=256))
report = run_local(job, Watching(on_shown=on_shown))
print(json.dumps({"videos": report.done, "most_mb": most[0] / 2**20}))
"""


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1000, help="for the overhead of Ray; 0 leaves it out")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--few", type=int, default=1000, help="for the memory; 0 leaves it out")
    parser.add_argument("--many", type=int, default=10_000)
    options = parser.parse_args(argv)
    console = Console(highlight=False)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = make_bundle(folder / "models")
        if options.videos:
            found["overhead"] = overhead(bundle, folder, options.videos, options.actors, console)
        if options.few:
            found["memory"] = memory(bundle, folder, options.few, options.many, console)
    return found


def overhead(bundle: Path, folder: Path, num_videos: int, actors: int, console: Console) -> dict[str, Any]:
    """Seconds of both engines on the same videos, and of one video, which is all that starting takes."""
    videos, one = short_videos(folder / "short", num_videos), short_videos(folder / "one", 1)
    cores = max(1, len(os.sched_getaffinity(0)) // actors)
    local = ["--decode-workers", actors * max(1, cores // 2), "--threads", cores]
    ray = ["--engine", "ray", "--actors", actors, "--cpus-per-actor", cores]
    seconds = {}
    for way, arguments in (("local", local), ("ray", ray)):
        for what, source in (("one", one), ("all", videos)):
            seconds[f"{way} {what}"] = run_command(bundle, folder / f"out-{way}-{what}", source, arguments)
    assert rows(folder / "out-ray-all") == rows(folder / "out-local-all"), "both engines give the same rows"
    work = {way: seconds[f"{way} all"] - seconds[f"{way} one"] for way in ("local", "ray")}
    table = Table("engine", "start and one video, s", f"{num_videos} videos, s", "times local, start apart")
    for way in ("local", "ray"):
        table.add_row(
            way, f"{seconds[f'{way} one']:.1f}", f"{seconds[f'{way} all']:.1f}", f"{work[way] / work['local']:.2f}"
        )
    console.print(table)
    return {"videos": num_videos, "actors": actors, "seconds": seconds, "times_local": work["ray"] / work["local"]}


def memory(bundle: Path, folder: Path, few: int, many: int, console: Console) -> dict[str, Any]:
    """The most memory of a process for few and many videos, and of one that keeps its results."""
    sources = {count: short_videos(folder / f"memory-{count}", count) for count in (few, many)}
    most = {
        (kind, count): run_program(bundle, folder / f"out-{kind}-{count}", sources[count], kind)
        for kind in ("flat", "leak")
        for count in (few, many)
    }
    growth = {kind: most[kind, many] - most[kind, few] for kind in ("flat", "leak")}
    table = Table("process", f"most MiB, {few} videos", f"{many} videos", "growth")
    for kind in ("flat", "leak"):
        table.add_row(kind, *(f"{most[kind, n]:.1f}" for n in (few, many)), f"{growth[kind]:+.1f}")
    console.print(table)
    passed = growth["flat"] <= ALLOWED_MB < growth["leak"]
    console.print(f"flat within {ALLOWED_MB:g} MiB, and the control beyond it: {passed}")
    return {"few": few, "many": many, "growth_mb": growth, "passed": passed}


def short_videos(folder: Path, count: int) -> Path:
    """Hard links to five videos of a second or two: as many names, and no more bytes."""
    folder.mkdir()
    first = [make_video(folder / f"{i:05d}.mp4", num_frames=20 + 5 * i) for i in range(min(5, count))]
    for i in range(len(first), count):
        try:
            os.link(first[i % 5], folder / f"{i:05d}.mp4")
        except OSError:
            shutil.copy(first[i % 5], folder / f"{i:05d}.mp4")
    return folder


def run_command(bundle: Path, out: Path, videos: Path, arguments: list[Any]) -> float:
    started = time.perf_counter()
    words = command("batch", "features", videos, "--bundle", bundle, "--out", out, "--runtime", "openvino", *arguments)
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - started


def run_program(bundle: Path, out: Path, videos: Path, kind: str) -> float:
    """The most MiB that the process held."""
    words = [sys.executable, "-c", _PROGRAM, *map(str, (bundle, out, videos, kind))]
    answer = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return float(json.loads(answer.splitlines()[-1])["most_mb"])
