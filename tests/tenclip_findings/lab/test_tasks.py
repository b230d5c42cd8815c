"""Tasks on tiny data that need no network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_findings.lab import tasks
from tenclip_findings.lab.arms import Lab
from tenclip_findings.lab.jobs import Job
from tenclip_findings.lab.tasks import rows, subset, synth
from tenclip_training.runs import train as training


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 videos of two classes, most of them of the first."""
    folder = tmp_path_factory.mktemp("tail")
    config = {"num_classes": 2, "zipf": 2.0, "total": 20, "seconds": [0.3, 0.4], "width": 32, "height": 32}
    synth(folder, {**config, "splits": [["train", 1.0]]})
    return folder / "manifest.csv"


def labels(folder: Path) -> Counter[str]:
    return Counter(s.labels[0] for s in read_manifest(folder / "manifest.csv", leaks="allow").samples)


def made(folder: Path, task: Any, *arguments: Any, **settings: Any) -> Counter[str]:
    folder.mkdir(exist_ok=True)
    assert task(folder, *arguments, **settings)["videos"] == sum(labels(folder).values())
    return labels(folder)


def test_a_tail_preserving_subset_keeps_the_tail_and_a_random_one_does_not(tail: Path, tmp_path: Path) -> None:
    assert labels(tail.parent) == {"move_left": 15, "move_right": 5}
    assert made(tmp_path / "t", subset, str(tail), "tail-preserving", 1, videos=12) == {"move_left": 7, "move_right": 5}
    few = [made(tmp_path / f"r{seed}", subset, str(tail), "random", seed, videos=12)["move_right"] for seed in range(6)]
    assert sum(few) / len(few) == pytest.approx(3, abs=1)


def test_a_fraction_of_the_classes_and_of_the_videos_of_each(tail: Path, tmp_path: Path) -> None:
    one = made(tmp_path / "c", subset, str(tail), "classes", 1, fraction=0.5)
    assert one in ({"move_left": 15}, {"move_right": 5})
    assert made(tmp_path / "i", subset, str(tail), "instances", 1, fraction=0.2) == {"move_left": 3, "move_right": 1}


def test_a_subset_of_more_videos_than_there_are_is_refused(tail: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a budget of 21 videos, where there are 20"):
        subset(tmp_path, str(tail), "random", 1, videos=21)


def test_rows_take_labels_of_a_column_and_keep_values(tail: Path, tmp_path: Path) -> None:
    verbs = made(tmp_path / "v", rows, [str(tail)], label="family")
    assert verbs == {"translation": 20}
    assert made(tmp_path / "k", rows, [str(tail)], keep={"verb": ["move_right"]}) == {"move_right": 5}


def test_a_training_that_was_stopped_is_not_done_and_goes_on(
    tail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Lab(seed=1, scale=0.01).train("a network", tasks_synth(tail), clips=320)
    folder = tmp_path / job.kind / job.key
    folder.mkdir(parents=True)
    train, values = training.train, job.settings["values"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "train", lambda *a, **k: train(*a, **k, stop_after_steps=1))
        with pytest.raises(KeyboardInterrupt):
            tasks.train(folder, str(tail), values)
    assert (folder / tasks.LAST).exists()
    found = tasks.train(folder, str(tail), values)
    assert found["loss"] > 0


@pytest.mark.parametrize("pairs", [True, False])
def test_scores_of_pairs_say_how_often_each_part_is_named(
    pairs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that names the verb alone, and the noun that is mostly with it."""
    names = ["down-disc", "down-star", "up-disc", "up-star"]
    truth = ["up-disc"] * 3 + ["up-star"] + ["down-star"] * 3 + ["down-disc"]
    table = [{"label": label, **({"pair": label} if pairs else {})} for label in truth]
    (tmp_path / tasks.TABLE).write_text(json.dumps(table), encoding="utf-8")
    named = ["up-disc" if label.startswith("up") else "down-star" for label in truth]
    probabilities = np.eye(4)[[names.index(name) for name in named]]
    monkeypatch.setattr(tasks, "load_any", lambda path: SimpleNamespace(labels=names))
    monkeypatch.setattr(tasks, "outputs_of", lambda checkpoint, clips: (probabilities, None))
    found = tasks.score(tmp_path, "x.pt", str(tmp_path))
    assert found["top1"] == 6 / 8
    assert found["commonest"] == 3 / 8
    assert found["parts"] == ({"verb": 1.0, "noun": 6 / 8} if pairs else None)


def tasks_synth(manifest: Path) -> Job:
    """In the place of the job that made these videos."""
    return Job("lab.tasks.synth", {"config": str(manifest)})
