"""A batch on Ray whose processes are killed ends with the rows of a run that never was, and names what killed them.

    python -m tests.soak.batch_kills [--videos 300] [--poison 5] [--actors 2]

`tenclip batch features --engine ray` works on `--videos` videos. `--poison` of them kill their actor (SIGKILL) whenever
they are worked on. When a quarter is done, one more actor is killed, and at a third the driver is; then the same
command goes on to the end. At the end the rows are those of `tenclip features` from a real server, to the bit, each
video is there once, and the poisonous ones, no others, are failures that say so.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from rich.console import Console

from tenclip_batch.ledger import summarize
from tenclip_client.cli.exits import SOME_FAILED
from tests.tenclip_batch.helpers import command, rows
from tests.tenclip_serving.helpers import make_bundle, make_video, running_server

_LONGEST_SECONDS = 3600.0
# Ray's processes look at their driver now and then.
_ENDING_SECONDS = 120.0


@dataclass(kw_only=True)
class Report:
    """poison_kills: by video. lost: rows that the killed driver had written and the resumed run had not."""

    videos: int = 0
    poison_kills: Counter[str] = field(default_factory=Counter)
    actor_kills: int = 0
    driver_kills: int = 0
    done_at_kill: int = 0
    failures: list[str] = field(default_factory=list)


def make_videos(folder: Path, *, num_videos: int, num_poison: int) -> list[str]:
    """Small videos; the poisonous ones are larger, so that they are caught at work. Returns these ones' paths."""
    folder.mkdir()
    first = [make_video(folder / f"{i:04d}.mp4", num_frames=20 + 3 * i) for i in range(5)]
    for i in range(5, num_videos - num_poison):
        shutil.copy(first[i % 5], folder / f"{i:04d}.mp4")
    poison: list[str] = []
    for i in range(num_poison):
        # Spread over the chunks of the run.
        path = folder / f"{(i + 1) * num_videos // (num_poison + 1):04d}-poison.mp4"
        if i == 0:
            make_video(path, num_frames=500, size=(1280, 720))
        else:
            shutil.copy(poison[0], path)
        poison.append(str(path))
    return poison


class Killer(threading.Thread):
    """Kills each actor that begins with a poisonous video, and one more when `share` of the videos are done."""

    def __init__(self, out: Path, poison: list[str], report: Report, *, share: float) -> None:
        super().__init__(daemon=True)
        self._out, self._poison, self._report, self._share = out, set(poison), report, share
        self._killed: set[tuple[str, int]] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.002):
            for mark in (self._out / ".attempts").glob("*"):
                try:
                    pid, _, name = mark.read_text(encoding="utf-8").splitlines()[-1].partition(" ")
                    video = ast.literal_eval(name)
                except (FileNotFoundError, IndexError, SyntaxError):  # gone, or not written yet
                    continue
                if video in self._poison and (video, int(pid)) not in self._killed:
                    self._killed.add((video, int(pid)))
                    self._report.poison_kills[video] += _kill(int(pid))
                elif not self._report.actor_kills and self._due():
                    self._report.actor_kills += _kill(int(pid))

    def _due(self) -> bool:
        return int(summarize(self._out)["done"]) >= self._share * self._report.videos


def _kill(pid: int) -> int:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def run(num_videos: int, num_poison: int, actors: int, *, folder: Path) -> Report:
    report = Report(videos=num_videos)
    bundle = make_bundle(folder / "models")
    videos, out = folder / "videos", folder / "out"
    poison = make_videos(videos, num_videos=num_videos, num_poison=num_poison)
    # Small parts, so that there are some to lose.
    batch = command(
        "batch", "features", videos, "--bundle", bundle, "--out", out, "--engine", "ray", "--actors", actors,
        "--cpus-per-actor", 1, "--chunk-videos", max(4, num_videos // 20), "--runtime", "openvino", "--in-flight", 4,
    )  # fmt: skip
    out.mkdir()
    killer = Killer(out, poison, report, share=0.25)
    killer.start()
    try:
        _kill_driver(batch, out, report)
        _finish(batch, report)
    finally:
        killer.ended.set()
        killer.join()
    if not any(out.glob("videos/part-*.parquet")):
        report.failures.append("nothing was written")
    else:
        _compare(folder, videos, out, poison, report)
    return report


def _kill_driver(batch: list[str], out: Path, report: Report) -> None:
    with subprocess.Popen(batch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        started = psutil.Process(process.pid)
        deadline = time.monotonic() + _LONGEST_SECONDS
        while (done := summarize(out)["done"]) < report.videos / 3:
            if process.poll() is not None or time.monotonic() > deadline:
                assert process.stderr is not None
                report.failures.append(f"the first run ended by itself: {process.stderr.read()[-2000:]}")
                return
            time.sleep(0.05)
        children = started.children(recursive=True)
        process.kill()
        process.communicate()
    report.driver_kills, report.done_at_kill = 1, done
    _, alive = psutil.wait_procs(children, timeout=_ENDING_SECONDS)
    if alive:
        names = ", ".join(sorted({p.name() for p in alive if p.is_running()}))
        report.failures.append(f"processes outlived the driver by {_ENDING_SECONDS:g} seconds: {names}")


def _finish(batch: list[str], report: Report) -> None:
    found = subprocess.run(batch, capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    wanted = SOME_FAILED if report.poison_kills else 0
    if found.returncode != wanted:
        report.failures.append(f"the resumed run ended with {found.returncode}: {found.stderr[-2000:]}")


def _compare(folder: Path, videos: Path, out: Path, poison: list[str], report: Report) -> None:
    table = rows(out, "videos")
    names = table["video"].to_pylist()
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        report.failures.append(f"there more than once: {', '.join(twice[:3])}")
    kinds = {v: k for v, k in zip(names, table["error_kind"].to_pylist(), strict=True) if k}
    if kinds != dict.fromkeys(poison, "WORKER_ENDED"):
        report.failures.append(f"failures: {kinds}")
    if len(names) != report.videos:
        report.failures.append(f"{len(names)} videos of {report.videos}")
    with running_server(folder / "models", "--runtime", "openvino", "--threads", "1") as server:
        whole = folder / "whole.parquet"
        good = [str(p) for p in sorted(videos.iterdir()) if str(p) not in poison]
        listed = folder / "good.txt"
        listed.write_text("\n".join(good) + "\n", encoding="utf-8")
        subprocess.run(
            command("features", "--manifest", listed, "--out", whole, "--server", server.address),
            check=True, capture_output=True,
        )  # fmt: skip
    served = pq.read_table(whole).replace_schema_metadata(None)
    served = served.sort_by([("video", "ascending"), ("clip_index", "ascending")])
    if rows(out) != served:
        report.failures.append("the rows are not those of a server")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--poison", type=int, default=5)
    parser.add_argument("--actors", type=int, default=2)
    arguments = parser.parse_args(argv)
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        report = run(arguments.videos, arguments.poison, arguments.actors, folder=Path(name))
    kills = sum(report.poison_kills.values())
    summary = (
        f"{report.videos} videos, {arguments.poison} of which killed their actor {kills} times in all; 1 more actor "
        f"and the driver killed, the latter with {report.done_at_kill} done; {len(report.failures)} things wrong"
    )
    console.print(summary)
    for failure in report.failures:
        console.print(f"  {failure}", style="red", markup=False)
    return {
        "passed": not report.failures,
        "summary": summary,
        "videos": report.videos,
        "poison_kills": dict(report.poison_kills),
        "actor_kills": report.actor_kills,
        "driver_kills": report.driver_kills,
        "done_at_kill": report.done_at_kill,
        "failures": report.failures,
    }


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
