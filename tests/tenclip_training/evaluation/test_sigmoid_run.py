"""A run with a sigmoid for each class, from training to its figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tenclip_data.manifest import read_manifest
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.evaluation.results import truth_of
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train
from tests.tenclip_training.commands.helpers import output_of, run


@pytest.fixture
def tagged(train_config: TrainConfig, validated_videos: Path, tmp_path: Path) -> TrainConfig:
    """Each video has its motion and its speed as labels."""
    samples = read_manifest(validated_videos, heads=("label", "speed")).samples
    rows = [(s.path, ";".join(label.split(":")[1] for label in s.labels), s.split) for s in samples]
    with (tmp_path / "tagged.csv").open("w", newline="") as f:
        csv.writer(f).writerows([("path", "label", "split"), *rows])
    return train_config.changed(manifest=str(tmp_path / "tagged.csv"), loss="sigmoid", val_every=1)


def test_the_best_epoch_is_that_of_the_best_mean_average_precision(tagged: TrainConfig) -> None:
    result = train(tagged)
    assert result.evaluation is not None
    assert result.evaluation.activation == "sigmoid"
    found = result.evaluation.mean_average_precision
    assert result.history[-1].val_video_map == pytest.approx(found.value)
    means = [h.val_video_map for h in result.history]
    assert all(m is not None for m in means)
    assert result.best is not None
    best = load_checkpoint(result.best).provenance
    assert best["val_video_mAP"] == max(m for m in means if m is not None)
    scores = np.stack([s.video for s in result.evaluation.scores])
    truth = truth_of(result.evaluation.scores, len(result.labels))
    expected = [average_precision_score(t, s) for t, s in zip(truth.T, scores.T, strict=True) if t.any()]
    assert found.value == pytest.approx(np.mean(expected))
    again = evaluate(result.last, read_manifest(tagged.manifest), split="val", protocol="center-clip")
    np.testing.assert_allclose(np.stack([s.video for s in again.scores]), scores, rtol=1e-5)


def test_the_command_prints_it(tagged: TrainConfig) -> None:
    last = train(tagged).last
    values = output_of(run("evaluate", last, tagged.manifest, "--protocol", "center-clip", "--json"))
    assert (values["activation"], values["confusion"], values["calibration"]["of"]) == ("sigmoid", None, "pairs")
    mean = values["video_mAP"]
    assert mean["classes_counted"] + mean["classes_left_out"] == len(values["labels"])
    assert mean["rows"] == 4
    shown = run("evaluate", last, tagged.manifest, "--protocol", "center-clip").stdout
    assert f"over {mean['classes_counted']} classes and 4 videos" in shown
    assert "pairs of a video and a class" in shown


def test_without_sigmoids_top1_decides(train_config: TrainConfig) -> None:
    result = train(train_config)
    assert [h.val_video_map for h in result.history] == [None] * 3
    assert result.best is not None
    assert "val_video_mAP" not in load_checkpoint(result.best).provenance
