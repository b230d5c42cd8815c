"""`--decode-actors`: other actors of a real cluster decode; whatever is killed, the rows are those of one process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch.options import RuntimeOptions
from tenclip_batch.ray_actor import DecodersPlan
from tenclip_batch.ray_engine import ActorPool, RayOptions, _actor_pool, _decoders, _room, _runtime_of_actor
from tenclip_batch.run import BatchJob
from tenclip_client.cli.exits import SOME_FAILED

from .helpers import command, rows, run
from .store import Store, serving
from .test_remote import tar_of

# Two actors that decode, and one with the model, on two cores.
SPLIT = (
    "--engine", "ray", "--actors", 1, "--cpus-per-actor", 0.5, "--decode-actors", 2, "--cpus-per-decode-actor", 0.5,
    "--threads", 1, "--json",
)  # fmt: skip
_LONGEST_SECONDS = 500.0


def finished(
    arguments: list[str], on_start: Callable[[int], None] | None = None, *, home: Path | None = None
) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command, again where Ray had no time to start.

    on_start: told the command's process. home: its home folder, instead of this process's. Raises AssertionError where
    it ends and leaves files of its cluster behind.
    """
    left = list[Path]()
    environment = os.environ if home is None else {**os.environ, "HOME": str(home)}
    for _ in range(3):
        with (
            tempfile.TemporaryDirectory(prefix="r-") as temporary,  # short: Ray keeps its sockets there
            subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**environment, "TMPDIR": temporary},
            ) as process,
        ):  # fmt: skip
            if on_start is not None:
                on_start(process.pid)
            try:
                out, err = process.communicate(timeout=_LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                out, err = process.communicate()
            else:
                left = list(Path(temporary).glob("tenclip-ray-*"))
        if "Ray cannot be started" not in " ".join(err.split()):
            break
    assert left == []
    return process.returncode, out, err


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_rows_are_those_of_one_process(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    """Of files and of shards at URLs; and one engine goes on where the other one stopped.

    test_ray.py has the same with actors that decode for themselves, as one of the long proofs.
    """
    home = tmp_path / "home"
    home.mkdir()
    good = sorted(shared_videos.glob("v*.mp4"))
    with serving(Store()) as store:
        store.files = {"/s-0.tar": tar_of(*good[:2]), "/s-1.tar": tar_of(*good[2:]), "/bad.tar": b"no tar" * 100}
        named = (shared_videos, f"{store.url}/s-{{0..1}}.tar", f"{store.url}/bad.tar")
        near = store.near()
        allowed = ("--allow-host", near.allow_hosts[0], "--allow-network", near.allow_networks[0])
        arguments = command(
            "batch", "features", *named, "--bundle", bundle, "--out", tmp_path / "out", *allowed, "--chunk-videos", 5,
            "--show", *SPLIT,
        )  # fmt: skip
        code, output, errors = finished(arguments, home=home)
        assert code == SOME_FAILED, errors
        assert output, errors
        *shown, report = [json.loads(line) for line in output.splitlines()]
        facts = {entry["video"]: entry for entry in shown}
        assert len(shown) == len(facts) == 9 + 3
        assert facts[str(good[0])]["shape"] == [10, 6]
        assert facts[str(shared_videos / "empty.mp4")]["error"] == "EMPTY_VIDEO"
        failures = {"EMPTY_VIDEO": 1, "NOT_A_VIDEO": 1, "DATASET_ERROR": 1}
        assert (report["done"], report["failures"]) == (9, failures)
        run(bundle, tmp_path / "local", *named, runtime=near)
        assert rows(tmp_path / "out") == rows(tmp_path / "local")
        assert rows(tmp_path / "out", "videos") == rows(tmp_path / "local", "videos")
        assert run(bundle, tmp_path / "out", *named, runtime=near).worked == 0
    assert not list(home.iterdir()), "neither a token nor statistics in the home folder"


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


class _Cluster:
    """What Ray would say of machines with so many cores and a GPU each."""

    def __init__(self, *cores: float) -> None:
        self._nodes = [{"Alive": True, "Resources": {"CPU": float(n), "GPU": 1.0}} for n in cores]

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes


def test_room_for_actors_that_decode() -> None:
    """On other machines than the model, where there is room; no more models than there is room to decode for."""
    options = RayOptions(cpus_per_actor=2, gpus_per_actor=1, decode_actors=3, cpus_per_decode_actor=4)
    assert _room(_Cluster(14, 14, 2), options) == 2
    assert _room(_Cluster(28), options) == 1, "one GPU"
    assert _room(_Cluster(13), options) == 0
    said = list[str]()
    with pytest.raises(InvalidRequest, match=r"3 that decode for it, of 4 cores each on this machine.*lower"):
        _actor_pool(0, options, said.append)
    near = dataclasses.replace(options, address="auto")
    assert _actor_pool(2, near, said.append) == ActorPool(2)
    assert said == []
    assert _actor_pool(2, dataclasses.replace(near, actors=5), said.append) == ActorPool(2)
    assert _actor_pool(0, near, said.append) == ActorPool(1)
    assert [text.split(": ", 1)[1].split(" of ")[0] for text in said] == [
        "2 actors: the cluster has room for 2",
        "1 actors: the cluster has room for 0",
    ]
