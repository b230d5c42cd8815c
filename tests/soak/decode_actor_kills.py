"""A batch on Ray with actors that decode, some of which are killed, ends with the rows of one process.

    python -m tests.soak.decode_actor_kills [--videos 40]

One video kills whatever decodes it (SIGKILL). One more actor that decodes is killed, and the one with the model. At
the end the rows are those of a run in one process, to the bit, and the poisonous video, no other, is a failure that
says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tenclip_batch.ledger import summarize
from tenclip_client.cli.exits import SOME_FAILED
from tests.tenclip_batch.helpers import command, rows, run
from tests.tenclip_batch.test_ray_decoders import SPLIT, finished
from tests.tenclip_serving.helpers import make_bundle, make_video

_SAID = "the actor that decoded it ended 2 times without a word, alone with it"


class Watcher(threading.Thread):
    """Kills each actor that decodes the poisonous video; one at another one, and the one with the model, once each.

    kills: by what was killed.
    """

    def __init__(self, out: Path, poison: Path) -> None:
        super().__init__(daemon=True)
        self._out, self._poison = out, poison
        self.driver = 0
        self.kills: Counter[str] = Counter()
        self._killed: set[int] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in psutil.Process(self.driver).children(recursive=True) if self.driver else ():
                    with contextlib.suppress(psutil.NoSuchProcess, OSError):
                        self._look_at(process)

    def _look_at(self, process: psutil.Process) -> None:
        name = " ".join(process.cmdline())
        if process.pid in self._killed or not name.startswith("ray::"):
            return
        if "DecodeActor" in name:
            videos = {path for path in _open_files(process.pid) if path.endswith(".mp4")}
            if str(self._poison) in videos:
                self._kill(process.pid, "poison")
            elif videos and not self.kills["decoder"] and self._done() >= 4:
                self._kill(process.pid, "decoder")
        elif "ChunkWorker" in name and not self.kills["model"] and self._done() >= 8:
            self._kill(process.pid, "model")

    def _kill(self, pid: int, what: str) -> None:
        self._killed.add(pid)
        os.kill(pid, signal.SIGKILL)
        self.kills[what] += 1

    def _done(self) -> int:
        return int(summarize(self._out)["done"])


def _open_files(pid: int) -> list[str]:
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed by now
            found.append(os.readlink(descriptor))
    return found


def wrong(videos: Path, poison: Path, bundle: Path, out: Path, watcher: Watcher) -> list[str]:
    """What is not as it should be at the end."""

    def started(pid: int) -> None:
        watcher.driver = pid

    watcher.start()
    try:
        code, output, errors = finished(
            command(
                "batch", "features", videos, "--bundle", bundle, "--out", out, "--chunk-videos", 4, "--in-flight", 4,
                *SPLIT,
            ),
            started,
        )  # fmt: skip
    finally:
        watcher.ended.set()
        watcher.join()
    if code != SOME_FAILED or not output:
        return [f"exit code {code}: {errors[-2000:]}"]
    report = json.loads(output)
    good = sum(path != poison for path in videos.iterdir())
    (named,) = report["named"] or [{}]
    poison.unlink()
    local = run(bundle, out.with_name("local"), videos)
    checks = {
        f"done {report['done']}, failed {report['failures']}": (report["done"], report["failures"])
        == (good, {"WORKER_ENDED": 1}),
        f"named {named}": named.get("video") == str(poison) and _SAID in named.get("message", ""),
        f"kills {dict(watcher.kills)}": watcher.kills["poison"] >= 2
        and (watcher.kills["decoder"], watcher.kills["model"]) == (1, 1),
        f"one process did {local.worked}": local.worked == good,
        "rows are others": rows(out) == rows(out.with_name("local")),
        "videos are others": [row for row in rows(out, "videos").to_pylist() if row["state"] == "done"]
        == rows(out.with_name("local"), "videos").to_pylist(),
    }
    return [said for said, right in checks.items() if not right]


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.decode_actor_kills")
    parser.add_argument("--videos", type=int, default=40, help="besides the one that kills")
    args = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos, out = folder / "videos", folder / "out"
        videos.mkdir()
        out.mkdir()
        first = [make_video(videos / f"{i:03d}.mp4", num_frames=20 + 3 * i) for i in range(5)]
        for i in range(5, args.videos):
            shutil.copy(first[i % 5], videos / f"{i:03d}.mp4")
        # Large, so that it is caught at work.
        poison = make_video(videos / f"{args.videos // 3:03d}-poison.mp4", num_frames=500, size=(1280, 720))
        watcher = Watcher(out, poison)
        problems = wrong(videos, poison, make_bundle(folder / "models"), out, watcher)
    for problem in problems:
        print(problem, file=sys.stderr)
    kills = watcher.kills
    summary = (
        f"{args.videos} videos and one that killed what decoded it {kills['poison']} times; {kills['decoder']} more "
        f"actor that decodes and {kills['model']} with the model killed; {len(problems)} things wrong"
    )
    print(summary)
    seconds = round(time.monotonic() - began)
    return {"passed": not problems, "summary": summary, "seconds": seconds, "problems": problems}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=2))
