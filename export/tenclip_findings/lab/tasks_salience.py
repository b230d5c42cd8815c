"""Tasks of the salience experiment: a seed of it, and arms of its results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from tenclip_demo.console import StageConsole
from tenclip_findings.lab.tasks import Found
from tenclip_findings.salience.config import MOTION_ENERGY, SeedConfig
from tenclip_findings.salience.results import ArmKind, SeedResult
from tenclip_findings.salience.seed import SeedRun

SEED = "seed.json"
TRAINED = "trained"  # in the place of a scorer's name: the first of the trained ones


def seed_run(folder: Path, seed: int, quick: bool) -> Found:
    """Everything of `make salience` for one seed; goes on where it was."""
    with (folder / "log.txt").open("a", encoding="utf-8") as log, StageConsole(Console(file=log)) as console:
        result = SeedRun(SeedConfig(seed=seed, quick=quick), folder / "seed", console).run()
    return {"trimmed_top1": result.trimmed_val_top1, "videos": result.set("test").videos}


def arm(folder: Path, run: str, kind: ArmKind, num_clips: int = 0, scorer: str = "") -> Found:
    """`scores.npz` of an arm on the test videos. scorer: `TRAINED`, motion energy, or "" where none chooses."""
    result = SeedResult.from_dict(json.loads((Path(run) / "seed" / SEED).read_text(encoding="utf-8")))
    name = result.scorers[0].name if scorer == TRAINED else scorer
    found = result.set("test").arm(kind, name, num_clips)
    np.savez(folder / "scores.npz", correct=np.array(found.correct, np.bool_))
    return {"top1": found.top1, "videos": len(found.correct), "clips": found.mean_clips, "gflops": found.gflops}


__all__ = ["MOTION_ENERGY", "SEED", "TRAINED", "arm", "seed_run"]
