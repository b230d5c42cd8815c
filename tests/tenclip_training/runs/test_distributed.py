from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from tenclip_api.errors import CheckpointError, TenclipError
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.distributed import World, join_world, meet, was_restarted
from tenclip_training.runs.run_folder import RunFolder
from tenclip_training.runs.setup import read_splits
from tenclip_training.runs.train import train

# Trains what it is told to, one job after the other. Rank 1 can be killed when steps.jsonl has so many lines: a number
# for the first start, and one for each restart.
TRAIN = """
import json, os, signal, sys, threading, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from tenclip_api.errors import TenclipError
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train

rank, restarts = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])

def die_after(steps, path):
    while not path.exists() or path.read_bytes().count(b"\\n") < steps:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

for job in json.loads(sys.argv[1]):
    config = TrainConfig.from_dict(job["config"])
    if "kill" in job and rank == 1:
        steps = job["kill"][restarts], Path(config.out) / "steps.jsonl"
        threading.Thread(target=die_after, args=steps, daemon=True).start()
    try:
        result = train(config, resume=job.get("resume", False), stop_after_steps=job.get("stop"))
        said = {"completed": result.completed}
    except TenclipError as error:
        said = {"error": str(error)}
    sys.stdout.write(json.dumps({"job": config.out, "rank": rank, "restarts": restarts, **said}) + "\\n")
    sys.stdout.flush()
    if "error" in said and not job.get("goes_on"):
        sys.exit(1)
"""


def torchrun(
    folder: Path, jobs: Sequence[dict[str, Any]], *options: str, text: str = TRAIN
) -> tuple[int, list[dict[str, Any]], str]:
    """(exit code, what the processes said, standard error) of two processes that do `jobs`. text: of their script."""
    script = folder / "script.py"
    script.write_text(text)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    done = subprocess.run(
        [*command, str(script), json.dumps(jobs)],
        capture_output=True,
        text=True,
        timeout=800,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert "UserWarning" not in done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return done.returncode, sorted(said, key=lambda s: (s["job"], s["rank"], s["restarts"])), done.stderr


def losses_of(out: Path | str) -> list[float]:
    return [json.loads(line)["loss"] for line in (Path(out) / "steps.jsonl").read_text().splitlines()]


def same_parameters(one: Path | str, other: Path | str) -> None:
    """Running statistics differ: they are the first process's, or of all micro-batches of one process."""
    first, second = (load_checkpoint(Path(p) / "last.pt").model for p in (one, other))
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert (a - b).abs().max() <= 1e-6, name


@pytest.fixture
def config(train_config: TrainConfig) -> TrainConfig:
    """Two epochs of two steps, each of 6 clips in two micro-batches of 3; saved is the average of the weights."""
    return train_config.changed(epochs=2, val_every=2, batch_size=3, warmup_epochs=1, lr=0.05, ema=0.9)


def test_alone_everything_is_a_no_op() -> None:
    world = join_world("cpu")
    assert world == World()
    assert world.is_first
    assert world.sum(torch.tensor([1.0, 2.0])).tolist() == [1, 2]
    assert world.sums(1, 2.5) == [1, 2.5]
    assert world.gather([1, 2]) == [1, 2]
    model = torch.nn.Linear(1, 1)
    assert world.wrap(model, torch.device("cpu")) is model
    world.wait()
    world.share_buffers(model)
    assert World().device("cpu") == torch.device("cpu")


def test_a_lost_process_is_explained_and_other_errors_are_not() -> None:
    lost = "[enforce fail at ../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"
    with pytest.raises(TenclipError, match="run: another of the 2 processes has ended, so process 1 cannot go on"):
        fail(World(rank=1, size=2), lost)
    with pytest.raises(RuntimeError, match="shapes"):
        fail(World(rank=1, size=2), "shapes do not match")
    with pytest.raises(RuntimeError, match="gloo"):
        fail(World(), lost)


def fail(world: World, message: str) -> None:
    with world.explain_lost_processes("run"):
        raise RuntimeError(message)


def test_processes_meet_under_a_name_that_no_earlier_group_had() -> None:
    """In one store, as torchrun keeps it over restarts, with what earlier processes have left there at any point."""
    store = HashStore()
    names = set()
    for leftover in (None, "question", "answer", "agreed"):
        if leftover is not None:
            store.set(f"{leftover}/1", "0123456789abcdef" if leftover == "question" else "0123 4567")
        with ThreadPoolExecutor(3) as pool:
            met = list(pool.map(lambda rank: meet(store, rank, 3, seconds=20), range(3)))
        assert len(set(met)) == 1
        names.add(met[0])
    assert len(names) == 4
    assert meet(store, 0, 1) not in names


def test_a_process_that_never_comes_is_not_waited_for_without_end() -> None:
    with pytest.raises(TenclipError, match=r"process 0 of 2 has waited 0\.1 s for processes 1"):
        meet(HashStore(), 0, 2, seconds=0.1)
    with pytest.raises(TenclipError, match=r"process 1 of 2 has waited 0\.1 s for processes 0"):
        meet(HashStore(), 1, 2, seconds=0.1)


@pytest.mark.parametrize(("count", "restarted"), [(None, False), ("", False), ("0", False), ("2", True)])
def test_restarts_by_torchrun_are_noticed(
    monkeypatch: pytest.MonkeyPatch, train_config: TrainConfig, count: str | None, restarted: bool
) -> None:
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    stopped = train(train_config, stop_after_steps=1)
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert was_restarted() is restarted
    if restarted:
        assert train(train_config, stop_after_steps=1).history == stopped.history
        assert len(losses_of(train_config.out)) == 2
    else:
        with pytest.raises(CheckpointError, match="holds a run already"):
            train(train_config)


def test_a_number_of_processes_that_cannot_share_a_step_is_refused(config: TrainConfig) -> None:
    config = config.changed(accumulate=4)
    train(config, stop_after_steps=1)
    manifest = read_splits(config).train
    with pytest.raises(
        CheckpointError,
        match=r"each step is of 4 micro-batches of 3 clips, which 3 processes cannot share evenly; "
        r"start 1 or 2 or 4 \(it has had 1\)",
    ):
        RunFolder(config.out, World(size=3)).find(config, manifest, resume=True)
    assert RunFolder(config.out, World(size=2)).find(config, manifest, resume=True) is not None


@pytest.mark.slow
def test_two_processes_compute_what_one_does_with_twice_the_micro_batches(config: TrainConfig, tmp_path: Path) -> None:
    whole, parts, bad = (config.changed(out=str(tmp_path / name)) for name in ("a-whole", "b-parts", "c-bad"))
    bad = bad.changed(lr=1e12, warmup_epochs=0)
    jobs: list[dict[str, Any]] = [
        {"config": whole.to_dict()},
        {"config": parts.to_dict(), "stop": 1},
        {"config": parts.to_dict(), "stop": 2, "resume": True},
        {"config": bad.to_dict(), "goes_on": True},
    ]
    code, said, errors = torchrun(tmp_path, jobs)
    assert code == 0, errors
    assert [s.get("completed") for s in said] == [True, True, False, False, False, False, None, None]
    # Both halves of the 12 training videos and of the 4 validation videos are counted.
    history = [json.loads(line) for line in (Path(whole.out) / "history.jsonl").read_text().splitlines()]
    assert [h["train_clips"] for h in history] == [12, 12]
    assert (history[-1]["val_videos_asked"], history[-1]["val_videos_decoded"]) == (4, 4)
    one = config.changed(out=str(tmp_path / "one"), accumulate=2)
    train(one)
    assert losses_of(whole.out) == pytest.approx(losses_of(one.out), abs=1e-6)
    same_parameters(whole.out, one.out)
    # What two processes have begun, one goes on with.
    assert train(parts, resume=True).completed
    assert losses_of(parts.out) == pytest.approx(losses_of(whole.out), abs=1e-6)
    same_parameters(parts.out, whole.out)
    # A loss that is not finite ends all processes, and each keeps its batch.
    assert all(f"{bad.out}: the loss of step" in s["error"] for s in said[-2:])
    videos = [v for n in ("", ".rank1") for v in torch.load(tmp_path / f"c-bad/nan-batch{n}.pt")["videos"]]
    assert len(set(videos)) == 6


@pytest.mark.slow
def test_three_processes_resume_to_the_bit(config: TrainConfig, tmp_path: Path) -> None:
    """Sums of three numbers hang on their order, and that on how gradients are put together."""
    config = config.changed(batch_size=2, model={"width": 8})
    whole, parts = (config.changed(out=str(tmp_path / name)) for name in ("a-whole", "b-parts"))
    jobs: list[dict[str, Any]] = [
        {"config": whole.to_dict()},
        {"config": parts.to_dict(), "stop": 1},
        {"config": parts.to_dict(), "stop": 2, "resume": True},
        {"config": parts.to_dict(), "resume": True},
    ]
    code, _, errors = torchrun(tmp_path, jobs, "--nproc-per-node", "3")
    assert code == 0, errors
    assert losses_of(whole.out) == losses_of(parts.out)
    one, other = (load_checkpoint(Path(out.out) / "last.pt") for out in (whole, parts))
    assert one.weights_sha256 == other.weights_sha256


# Rank 1 has its folder elsewhere, as it would on another machine without a shared disk.
APART = TRAIN.replace(
    "    try:",
    """    if rank == 1:
        config = config.changed(out=config.out + "-of-1")
    try:""",
)


@pytest.mark.slow
def test_processes_that_find_other_checkpoints_do_not_go_on(config: TrainConfig, tmp_path: Path) -> None:
    config = config.changed(accumulate=2)
    began, farther, fresh = (config.changed(out=str(tmp_path / name)) for name in ("a", "b", "c"))
    for out, steps in ((began, 2), (farther, 1), (farther.changed(out=f"{farther.out}-of-1"), 2)):
        train(out, stop_after_steps=steps)
    train(fresh.changed(out=f"{fresh.out}-of-1"), stop_after_steps=1)
    jobs: list[dict[str, Any]] = [
        {"config": began.to_dict(), "resume": True, "goes_on": True},
        {"config": farther.to_dict(), "resume": True, "goes_on": True},
        {"config": fresh.to_dict(), "goes_on": True},
    ]
    code, said, errors = torchrun(tmp_path, jobs, text=APART)
    assert code == 0, errors
    found = [
        ("epoch 2 after 0 steps", "none"),
        ("epoch 1 after 1 steps", "epoch 2 after 0 steps"),
        ("none", "holds a run already"),
    ]
    for job, (first, second) in enumerate(found):
        (one,) = (s["error"] for s in said if s["job"] == jobs[job]["config"]["out"] and s["rank"] == 0)
        assert f"process 0 finds {first}, process 1 " in one
        assert second in one
    assert all("--out has to be a folder" in s["error"] or "holds a run already" in s["error"] for s in said)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others_and_the_run_goes_on_exactly(
    config: TrainConfig, tmp_path: Path
) -> None:
    killed = config.changed(out=str(tmp_path / "killed"), epochs=6, save_every_minutes=0.0)
    job = {"config": killed.to_dict(), "kill": [2, 6]}
    # torchrun starts both again after the first death, and they go on by themselves; the second one ends the run. Its
    # return at all says that the living did not wait for the dead, which gloo would do for half an hour.
    code, said, errors = torchrun(tmp_path, [job], "--max-restarts", "1")
    assert code != 0
    assert "SIGKILL" in errors
    assert [(s["rank"], s["restarts"]) for s in said] == [(0, 0), (0, 1)], "process 1 could say nothing"
    assert all("another of the 2 processes has ended, so process 0 cannot go on" in s["error"] for s in said)
    assert len(losses_of(killed.out)) >= 6
    assert train(killed, resume=True).completed
    rows = [json.loads(line) for line in (tmp_path / "killed/steps.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    one = config.changed(out=str(tmp_path / "one"), epochs=6, accumulate=2)
    train(one)
    assert losses_of(killed.out) == pytest.approx(losses_of(one.out), abs=1e-6)
    same_parameters(killed.out, one.out)


def test_a_pipe_that_ends_is_a_lost_reader_and_a_lost_url_is_not() -> None:
    world = World()
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    with pytest.raises(TenclipError, match="a process that reads clips has died"), world.explain_lost_processes("run"):
        ours.recv_bytes()
    ours.close()
    with pytest.raises(ConnectionResetError, match="of a URL"), world.explain_lost_processes("run"):
        raise ConnectionResetError("of a URL")
