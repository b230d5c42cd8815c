"""`--engine ray`, with a real cluster of this machine; and what runs in its actors, called here without Ray."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import resource
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_batch.bundle import open_bundle
from tenclip_batch.dataset import open_dataset
from tenclip_batch.ledger import summarize
from tenclip_batch.options import ClipChoices, OutputOptions
from tenclip_batch.ray_actor import ActorPlan, Chunk, ChunkWorker, choose_here
from tenclip_batch.ray_engine import ActorPool, RayOptions, _absolute, _actor_pool, _chunk_size, _error, _room
from tenclip_batch.rows import Facts
from tenclip_batch.run import Watching
from tenclip_batch.settings import part_format, protocol_of, settings_of
from tenclip_batch.sources import BatchVideo, ParquetCell, Source, TarMember, Uri
from tenclip_batch.videos import batch_videos
from tenclip_batch.worker import WorkerPlan
from tenclip_client.cli.exits import SOME_FAILED
from tenclip_serving.decoding.child_process import _environment
from tests.tenclip_serving.helpers import make_bundle

from .helpers import SMALL, rows, run, tenclip


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_rows_of_a_cluster_are_those_of_one_process(bundle: Path, shared_videos: Path, tmp_path: Path) -> None:
    """Where actors decode for themselves. test_ray_decoders.py has a cluster in which others decode for them."""
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    with tempfile.TemporaryDirectory(prefix="r-") as temporary:  # short: Ray keeps its sockets there
        for _ in range(3):
            found = tenclip(
                "batch", "features", shared_videos, "--bundle", bundle, "--out", out, "--engine", "ray", "--actors", 1,
                "--cpus-per-actor", 1, "--chunk-videos", 3, "--json", "--show",
                env={"HOME": str(home), "TMPDIR": temporary},
            )  # fmt: skip
            # Ray gives its own processes half a minute to start, and a machine may be busier than that.
            if "Ray cannot be started" not in " ".join(found.stderr.split()):
                break
        left = list(Path(temporary).glob("tenclip-ray-*"))
    assert found.returncode == SOME_FAILED, found.stderr
    assert found.stdout, found.stderr
    *shown, report = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(shown) == 7
    facts = {Path(entry["video"]).name: entry for entry in shown}
    assert facts["v0.mp4"]["shape"] == [10, 6]
    assert facts["empty.mp4"]["error"] == "EMPTY_VIDEO"
    assert (report["done"], report["failures"]) == (5, {"EMPTY_VIDEO": 1, "NOT_A_VIDEO": 1})
    run(bundle, tmp_path / "local", shared_videos)
    assert rows(out) == rows(tmp_path / "local")
    assert rows(out, "videos") == rows(tmp_path / "local", "videos")
    assert run(bundle, out, shared_videos).worked == 0  # one engine goes on where the other one stopped
    assert not list(home.iterdir()), "neither a token nor statistics in the home folder"
    assert left == []


@pytest.fixture
def actor(bundle: Path, tmp_path: Path) -> Any:
    """A plan for an actor, and its dataset, which exists."""
    choices, output = ClipChoices(), OutputOptions(part_videos=2)
    opened = open_bundle(bundle, choices)
    protocol = protocol_of(opened, choices, SMALL)
    settings = settings_of(opened, choices, output, protocol, runtime="openvino", variant="fp32")
    form = part_format(opened, output, settings)
    with open_dataset(tmp_path / "out", form, settings):
        yield ActorPlan(bundle, choices, SMALL, WorkerPlan(tmp_path / "out", form, output))


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_chunk_that_comes_again_is_not_done_again(actor: ActorPlan, shared_videos: Path, closing: ExitStack) -> None:
    """As Ray sends it again when an actor has died: what was written stays, what was not is done."""
    out, videos = actor.plan.folder, batch_videos([str(shared_videos)])
    worker = ChunkWorker(actor)
    closing.callback(worker.close)
    row = {"chunk": pickle.dumps(Chunk(1000, tuple(videos)))}
    first = worker(row)
    assert {r["video"]: r["kind"] for r in first if r["kind"]} == {
        str(shared_videos / "empty.mp4"): "EMPTY_VIDEO",
        str(shared_videos / "text.mp4"): "NOT_A_VIDEO",
    }
    parts = sorted(p.name for p in (out / "videos").iterdir())
    assert parts == [f"part-0100{i}.parquet" for i in range(4)]
    (out / "videos" / parts[-1]).unlink()  # the part in work of an actor that was killed
    again = worker(row)
    assert sorted(map(str, again)) == sorted(map(str, first))
    assert sorted(p.name for p in (out / "videos").iterdir()) == parts
    assert summarize(out)["videos"] == 7


def test_errors_in_an_actor_are_rows(actor: ActorPlan, tmp_path: Path, closing: ExitStack) -> None:
    """Not exceptions, which would end the job with a traceback of Ray's."""
    broken = make_bundle(tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    (fatal,) = ChunkWorker(ActorPlan(broken, actor.choices, actor.runtime, actor.plan))({"chunk": b""})
    assert (fatal["fatal"], fatal["kind"]) == (True, "BUNDLE_ERROR")
    assert type(_error(fatal["kind"], fatal["message"])).__name__ == "BundleError"
    worker = ChunkWorker(actor)
    closing.callback(worker.close)
    (fatal,) = worker({"chunk": b"no chunk"})
    assert fatal["kind"] == "SERVER_ERROR"


def test_a_disk_that_is_full_in_an_actor(actor: ActorPlan, shared_videos: Path, closing: ExitStack) -> None:
    worker = ChunkWorker(actor)
    closing.callback(worker.close)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        (fatal,) = worker({"chunk": pickle.dumps(Chunk(0, tuple(batch_videos([str(shared_videos / "v0.mp4")]))))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (fatal["fatal"], fatal["kind"]) == (True, "DATASET_ERROR")
    assert re.search(r"\.attempts/\w+: cannot be written: File too large; the same command goes on", fatal["message"])


def test_what_is_shown_of_videos_comes_with_their_rows(
    bundle: Path, actor: ActorPlan, shared_videos: Path, tmp_path: Path, closing: ExitStack
) -> None:
    """The same as without Ray; of what an actor wrote that has ended since, the number of clips."""
    worker = ChunkWorker(dataclasses.replace(actor, show=True))
    closing.callback(worker.close)
    local: list[Facts] = []
    run(bundle, tmp_path / "local", shared_videos, watching=Watching(on_shown=local.append))
    row = {"chunk": pickle.dumps(Chunk(0, tuple(batch_videos([str(shared_videos)]))))}
    shown = [json.loads(r["facts"]) for r in worker(row)]
    assert sorted(map(str, shown)) == sorted(map(str, local))
    assert {len(facts) for facts in shown} == {3, 7}  # failures, and shape and range
    again = [json.loads(r["facts"]) for r in worker(row)]
    assert sorted(again, key=str) == sorted(
        ({k: v for k, v in facts.items() if k in ("video", "clips", "error", "message")} for facts in local), key=str
    )


class _Cluster:
    """What Ray says of the machines of a cluster."""

    def __init__(self, *machines: dict[str, float]) -> None:
        self._nodes = [{"Alive": True, "Resources": machine} for machine in machines]

    def nodes(self) -> list[dict[str, Any]]:
        return [*self._nodes, {"Alive": False, "Resources": {"CPU": 1000.0}}]


def test_room_is_that_of_each_machine() -> None:
    """Five cores in all have room for two actors of two only where they are not one each."""
    cluster = _Cluster({}, {"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}, {"CPU": 3.0, "GPU": 1.0})
    assert _room(cluster, RayOptions(cpus_per_actor=2.0)) == 1
    assert _room(cluster, RayOptions(cpus_per_actor=0.1, gpus_per_actor=0.1)) == 20
    assert _room(cluster, RayOptions(cpus_per_actor=0.0)) is None
    assert _room(_Cluster(), RayOptions()) == 0


def test_actors_are_never_cut_in_silence() -> None:
    said: list[str] = []
    assert _actor_pool(3, RayOptions(actors=2), said.append) == ActorPool(2)
    assert _actor_pool(3, RayOptions(), said.append) == ActorPool(3)
    assert _actor_pool(3, RayOptions(address="auto"), said.append) == ActorPool(3, grows=True)
    assert said == []
    assert _actor_pool(3, RayOptions(actors=100), said.append) == ActorPool(3)
    assert "3 actors in place of 100" in said.pop()
    assert _actor_pool(3, RayOptions(address="auto", actors=100), said.append) == ActorPool(100)
    assert "room for 3 actors" in said.pop()
    assert _actor_pool(0, RayOptions(address="auto"), said.append) == ActorPool(1, grows=True)
    assert "room for 0 actors" in said.pop()
    assert _actor_pool(None, RayOptions(actors=5, cpus_per_actor=0.0), said.append) == ActorPool(5)
    with pytest.raises(InvalidRequest, match="no room for an actor of 2 cores and 0 GPUs on this machine"):
        _actor_pool(0, RayOptions(), said.append)


def test_pools_of_few_chunks() -> None:
    pytest.importorskip("ray")
    pools = [ActorPool(100).strategy(7), ActorPool(1, grows=True).strategy(7), ActorPool(3).strategy(7)]
    assert [(pool.min_size, pool.max_size) for pool in pools] == [(7, 7), (1, 7), (3, 3)]


def test_what_an_actor_would_run(bundle: Path, tmp_path: Path) -> None:
    assert choose_here(bundle, "onnxruntime", "auto") == ("onnxruntime", "fp32")
    error = choose_here(bundle, "auto", "int8")
    assert "it has no variant int8" in str(error)


def test_chunks_are_small_enough_for_all_actors() -> None:
    assert [_chunk_size(n, 4) for n in (1, 16, 17, 1000, 10**6)] == [1, 1, 2, 63, 256]


def test_paths_are_whole_for_actors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    sources: list[Source] = [
        Path("a.mp4"),
        TarMember(Path("a.tar"), 0, 1),
        ParquetCell(Path("a.parquet"), 0, "x"),
        Uri("s3://b/c"),
    ]
    assert [_absolute(BatchVideo("n", s)).source for s in sources] == [
        tmp_path / "a.mp4",
        TarMember(tmp_path / "a.tar", 0, 1),
        ParquetCell(tmp_path / "a.parquet", 0, "x"),
        Uri("s3://b/c"),
    ]


def test_decode_processes_do_not_know_the_token_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert "secret" not in _environment().values()
