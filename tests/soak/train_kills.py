"""Training that is killed at random moments, again and again, ends with the weights of a run that never was.

    python -m tests.soak.train_kills [--kills 20] [--restarts 5]

A run that saves after every step is killed (SIGKILL) `--kills` times, each time at another moment between its start and
some seconds after its first step, and resumed. Then the same with two processes of torchrun, of which one is killed
and both are restarted `--restarts` times. The first must have the very bits of an undisturbed run, and the second
its losses to the rounding of a sum; both have a line for each step and no file that is half written.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.synth import SynthConfig, generate

EPOCHS, STEPS_PER_EPOCH = 12, 4
_PROGRAM = "import sys; from tenclip_client.cli.main import main; main(sys.argv[1:])"
_LONGEST_SECONDS = 300.0


@dataclass(kw_only=True)
class Report:
    """kills: how many hit a run; in_a_save: of these, while a checkpoint was half written."""

    kills: int = 0
    in_a_save: int = 0
    restarts: int = 0
    failures: list[str] = field(default_factory=list)


def run(kills: int, restarts: int) -> Report:
    """Raises RuntimeError where a run cannot even begin."""
    report, rng = Report(), random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = SynthConfig(num_classes=2, videos_per_class=10, splits=(("train", 0.8), ("val", 0.2)))
        videos = generate(config, folder / "videos", workers=1)
        whole = folder / "whole"
        _finish(_train(videos, whole, accumulate=2), "the undisturbed run")
        _kill_one(videos, folder / "killed", kills, rng, report)
        _compare(whole, folder / "killed", report, exactly=True)
        _kill_of_two(videos, folder / "ranks", restarts, rng, report)
        _compare(whole, folder / "ranks", report, exactly=False)
    return report


def _kill_one(videos: Path, out: Path, kills: int, rng: random.Random, report: Report) -> None:
    for number in range(1, kills + 1):
        process = _train(videos, out, accumulate=2)
        steps = _steps(out)
        # Kills are spread over the run: each at a step of its own, and somewhere within it.
        _wait_for(process, out, max(steps + 1, number * EPOCHS * STEPS_PER_EPOCH // (kills + 1)))
        time.sleep(rng.uniform(0, 0.05))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            report.kills += 1
        process.wait()
        report.in_a_save += any(out.glob(".*.part"))
        if (out / "last.pt").exists():
            load_checkpoint(out / "last.pt")
    _finish(_train(videos, out, accumulate=2), "the run that was killed")


def _kill_of_two(videos: Path, out: Path, restarts: int, rng: random.Random, report: Report) -> None:
    process = _train(videos, out, accumulate=1, torchrun=("--max-restarts", str(restarts)))
    for number in range(1, restarts + 1):
        _wait_for(process, out, number * EPOCHS * STEPS_PER_EPOCH // (restarts + 1))
        time.sleep(rng.uniform(0, 0.05))
        ranks = psutil.Process(process.pid).children()
        if len(ranks) == 2:
            rng.choice(ranks).send_signal(signal.SIGKILL)
            psutil.wait_procs(ranks, timeout=60)
            report.restarts += 1
    _finish(process, "the run of two processes")


def _train(videos: Path, out: Path, *, accumulate: int, torchrun: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    options = f"-a r2plus1d_10 --width 4 --frames 4 --crop 32 --resize 40x48 --batch-size 2 --epochs {EPOCHS}"
    options += f" --accumulate {accumulate} --save-every-minutes 0 --val-every {EPOCHS} --precision fp32 --device cpu"
    options += " --val-protocol center-clip --ema 0.9 --lr 0.01 --resume-if-exists"
    launcher = [sys.executable]
    if torchrun:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *torchrun]
        script = out.with_name("tenclip_train.py")
        script.write_text(_PROGRAM)
        launcher.append(str(script))
    else:
        launcher += ["-c", _PROGRAM]
    return subprocess.Popen(
        [*launcher, "train", str(videos), "--out", str(out), *options.split()],
        stdout=subprocess.DEVNULL,
        stderr=(out.with_suffix(".log")).open("ab"),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def _steps(out: Path) -> int:
    path = out / "steps.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait_for(process: subprocess.Popen[bytes], out: Path, steps: int) -> None:
    deadline = time.monotonic() + _LONGEST_SECONDS
    while process.poll() is None and _steps(out) < steps:
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"no step {steps} of {out} in {_LONGEST_SECONDS:g} s")
        time.sleep(0.002)


def _finish(process: subprocess.Popen[bytes], what: str) -> None:
    try:
        code = process.wait(_LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise RuntimeError(f"{what} has not ended in {_LONGEST_SECONDS:g} s") from None
    if code != 0:
        raise RuntimeError(f"{what} ended with {code}")


def _compare(whole: Path, other: Path, report: Report, *, exactly: bool) -> None:
    files = [(p / "steps.jsonl").read_text().splitlines() for p in (whole, other)]
    expected, found = ([json.loads(line) for line in lines] for lines in files)
    if [row["step"] for row in found] != [row["step"] for row in expected]:
        report.failures.append(f"{other.name}: steps {[row['step'] for row in found]}")
        return
    gap = max(abs(a["loss"] - b["loss"]) for a, b in zip(expected, found, strict=True))
    if gap > (0 if exactly else 1e-5):
        report.failures.append(f"{other.name}: a loss is {gap:g} off")
    hashes = [load_checkpoint(p / "last.pt").weights_sha256 for p in (whole, other)]
    if exactly and hashes[0] != hashes[1]:
        report.failures.append(f"{other.name}: other weights")
    if left := list(other.glob(".*.part")):
        report.failures.append(f"{other.name}: left {left}")


def main(argv: list[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.train_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=5)
    options = parser.parse_args(argv)
    report = run(options.kills, options.restarts)
    summary = (
        f"{report.kills} times kill -9 of a training run, {report.in_a_save} of them within a save, and of one of two "
        f"processes {report.restarts} times: {len(report.failures)} runs that ended otherwise than undisturbed ones"
    )
    console = Console(highlight=False)
    console.print(summary, markup=False)
    for failure in report.failures:
        console.print(f"FAILED {failure}", markup=False)
    passed = not report.failures and report.kills > 0 and report.restarts > 0
    return {"passed": passed, "summary": summary, "failures": report.failures}


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:])["passed"] else 1)
