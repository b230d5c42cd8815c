"""`--decode-actors`: other actors of a real cluster decode; whatever is killed, the rows are those of one process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch.ledger import summarize
from tenclip_batch.options import RuntimeOptions
from tenclip_batch.ray_actor import DecodersPlan
from tenclip_batch.ray_engine import RayOptions, _decoders, _num_actors, _runtime_of_actor
from tenclip_batch.run import BatchJob
from tests.tenclip_serving.helpers import make_video

from .helpers import command, rows, run
from .store import Store, serving
from .test_remote import tar_of

# Two actors that decode, and one with the model, on two cores.
SPLIT = (
    "--engine", "ray", "--actors", 1, "--cpus-per-actor", 0.5, "--decode-actors", 2, "--cpus-per-decode-actor", 0.5,
    "--threads", 1, "--json",
)  # fmt: skip
_LONGEST_SECONDS = 500.0


def finished(arguments: list[str], watcher: Watcher | None = None) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command, again where Ray had no time to start."""
    for _ in range(3):
        with (
            tempfile.TemporaryDirectory(prefix="r-") as temporary,  # short: Ray keeps its sockets there
            subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "TMPDIR": temporary},
            ) as process,
        ):  # fmt: skip
            if watcher is not None:
                watcher.driver = process.pid
            try:
                out, err = process.communicate(timeout=_LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                out, err = process.communicate()
        if "Ray cannot be started" not in " ".join(err.split()):
            break
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rows_are_those_of_one_process(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    """Of files and of shards at URLs; and one engine goes on where the other one stopped."""
    good = sorted(shared_videos.glob("v*.mp4"))
    with serving(Store()) as store:
        store.files = {"/s-0.tar": tar_of(*good[:2]), "/s-1.tar": tar_of(*good[2:]), "/bad.tar": b"no tar" * 100}
        named = (shared_videos, f"{store.url}/s-{{0..1}}.tar", f"{store.url}/bad.tar")
        near = store.near()
        allowed = ("--allow-host", near.allow_hosts[0], "--allow-network", near.allow_networks[0])
        arguments = command(
            "batch", "features", *named, "--bundle", bundle, "--out", tmp_path / "out", *allowed, "--chunk-videos", 5,
            *SPLIT,
        )  # fmt: skip
        code, output, errors = finished(arguments)
        assert code == 1, errors
        assert output, errors
        report = json.loads(output)
        failures = {"EMPTY_VIDEO": 1, "NOT_A_VIDEO": 1, "DATASET_ERROR": 1}
        assert (report["done"], report["failures"]) == (9, failures)
        run(bundle, tmp_path / "local", *named, runtime=near)
        assert rows(tmp_path / "out") == rows(tmp_path / "local")
        assert rows(tmp_path / "out", "videos") == rows(tmp_path / "local", "videos")
        assert run(bundle, tmp_path / "out", *named, runtime=near).worked == 0


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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_actors_that_are_killed(bundle: Path, tmp_path: Path) -> None:
    """A video that kills whatever decodes it is a failure; nothing else is lost, nor there twice."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    first = [make_video(videos / f"{i:02d}.mp4", num_frames=20 + 3 * i) for i in range(5)]
    for i in range(5, 40):
        shutil.copy(first[i % 5], videos / f"{i:02d}.mp4")
    # Large, so that it is caught at work.
    poison = make_video(videos / "15-poison.mp4", num_frames=500, size=(1280, 720))
    out.mkdir()
    watcher = Watcher(out, poison)
    watcher.start()
    try:
        code, output, errors = finished(
            command(
                "batch", "features", videos, "--bundle", bundle, "--out", out, "--chunk-videos", 4, "--in-flight", 4,
                *SPLIT,
            ),
            watcher,
        )  # fmt: skip
    finally:
        watcher.ended.set()
        watcher.join()
    assert code == 1, errors
    assert output, errors
    report = json.loads(output)
    assert (report["done"], report["failures"]) == (40, {"WORKER_ENDED": 1}), errors
    assert report["named"][0]["video"] == str(poison)
    assert "the actor that decoded it ended 2 times without a word, alone with it" in report["named"][0]["message"]
    assert watcher.kills["poison"] >= 2
    assert (watcher.kills["decoder"], watcher.kills["model"]) == (1, 1)
    poison.unlink()
    run(bundle, tmp_path / "local", videos)
    assert rows(out) == rows(tmp_path / "local")
    table = rows(out, "videos").to_pylist()
    assert [row for row in table if row["state"] == "done"] == rows(tmp_path / "local", "videos").to_pylist()


def test_what_an_actor_and_those_that_decode_for_it_have(tmp_path: Path) -> None:
    options = RayOptions(cpus_per_actor=3, gpus_per_actor=1, decode_actors=4, cpus_per_decode_actor=2)
    job = BatchJob(bundle=tmp_path, out=tmp_path, videos=(), runtime=RuntimeOptions(in_flight=10))
    runtime = _runtime_of_actor(job, options, "onnxruntime", "fp32")
    assert (runtime.threads, runtime.decode_workers, runtime.in_flight) == (3, 8, 10)
    job = BatchJob(bundle=tmp_path, out=tmp_path, videos=(), runtime=runtime)
    plan = _decoders(job, options)
    assert isinstance(plan, DecodersPlan)
    assert (plan.actors, plan.cpus, plan.runtime.decode_workers, plan.runtime.in_flight) == (4, 2, 2, 3)
    assert _decoders(job, RayOptions()) is None


class _Resources:
    """What Ray would say of a cluster."""

    def __init__(self, cpus: float, gpus: float) -> None:
        self._found = {"CPU": cpus, "GPU": gpus}

    def cluster_resources(self) -> dict[str, float]:
        return self._found


def test_room_for_actors_that_decode() -> None:
    options = RayOptions(cpus_per_actor=2, gpus_per_actor=1, decode_actors=3, cpus_per_decode_actor=4)
    assert _num_actors(_Resources(28, 4), options) == 2
    with pytest.raises(InvalidRequest, match=r"1 GPUs and 3 that decode, of 4 cores each: Ray has 13 cores.*lower"):
        _num_actors(_Resources(13, 4), options)
