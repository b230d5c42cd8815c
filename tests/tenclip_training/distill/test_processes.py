"""Distillation in two processes of torchrun, which is that of one with twice the micro-batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tenclip_training.distill import DistillConfig, distill
from tests.tenclip_training.runs.test_distributed import losses_of, same_parameters, torchrun

MakeConfig = Callable[..., DistillConfig]

# Distills what it is told to, and says how often each process measured thresholds, and which it went on with.
DISTILL = """
import json, os, sys
import torch
torch.set_num_threads(1)
from tenclip_api.errors import TenclipError
from tenclip_training.distill import DistillConfig, distill, load_teachers
from tenclip_training.distill.method import DistillMethod

measured, methods = [], []

class Watched(DistillMethod):
    def __init__(self, config, teachers):
        super().__init__(config, teachers)
        methods.append(self)

    def _calibrate(self, beginning):
        measured.append(True)
        super()._calibrate(beginning)

from tenclip_training.distill import run
run.DistillMethod = Watched

for job in json.loads(sys.argv[1]):
    config = DistillConfig.from_dict(job["config"])
    measured.clear()
    try:
        result = distill(config, resume=job.get("resume", False), stop_after_steps=job.get("stop"))
        said = {"completed": result.run.completed}
    except TenclipError as error:
        sys.exit(str(error))
    said |= {"measured": len(measured), "thresholds": methods[-1].thresholds}
    rank = int(os.environ["RANK"])
    sys.stdout.write(json.dumps({"job": config.out, "rank": rank, "restarts": 0, **said}) + "\\n")
    sys.stdout.flush()
"""


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_micro_batches(
    distill_config: MakeConfig, teacher_file: Path, scene_file: Path, tmp_path: Path
) -> None:
    """Two epochs of two steps of 6 clips. Two teachers, each with a gate of its own."""
    teachers = (str(teacher_file), str(scene_file))
    config = distill_config(teachers=teachers, batch_size=3, keep_percent=60.0, ema=0.9)
    clips, frames, parts = (config.changed(out=str(tmp_path / name)) for name in ("a-clips", "b-frames", "c-parts"))
    frames = frames.changed(teacher_sees="frame", teacher_frame_count=2)
    jobs: list[dict[str, Any]] = [
        {"config": clips.to_dict()},
        {"config": frames.to_dict()},
        {"config": parts.to_dict(), "stop": 3},
    ]
    code, said, errors = torchrun(tmp_path, jobs, text=DISTILL)
    assert code == 0, errors
    assert [s["completed"] for s in said] == [True, True, True, True, False, False]
    # The first process measures, and all go on with what it found.
    assert [s["measured"] for s in said] == [1, 0] * 3
    assert all(a["thresholds"] == b["thresholds"] for a, b in zip(said[::2], said[1::2], strict=True))
    for two in (clips, frames):
        one = two.changed(out=f"{two.out}-one", accumulate=2)
        distill(one)
        assert teachers_of(two.out) == teachers_of(one.out)
        assert losses_of(two.out) == pytest.approx(losses_of(one.out), abs=1e-6)
        same_parameters(two.out, one.out)
        assert facts_of(two.out) == [pytest.approx(facts) for facts in facts_of(one.out)]
        assert facts_of(two.out)[0]["dropped"] > 0
        assert (Path(two.out) / "student.pt").exists()
    # What two have begun, one goes on with.
    assert distill(parts, resume=True).run.completed
    assert losses_of(parts.out) == pytest.approx(losses_of(clips.out), abs=1e-6)
    assert facts_of(parts.out) == [pytest.approx(facts) for facts in facts_of(clips.out)]


def teachers_of(out: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(out) / "teachers.json").read_text())
    assert all(teacher["max_entropy"] > 0 for teacher in found)
    return found


def facts_of(out: str) -> list[dict[str, float]]:
    return [json.loads(line)["facts"] for line in (Path(out) / "history.jsonl").read_text().splitlines()]
