from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tenclip_api.errors import CheckpointError, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.evaluation.scoring import Scoring
from tenclip_training.heads import Heads
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import save_checkpoint
from tenclip_video.aggregate import Outputs, aggregate
from tenclip_video.protocols import PROTOCOLS
from tests.tenclip_training.conftest import SPEC

LABELS = ("verb:cut", "verb:wash", "noun:knife", "noun:tap", "noun:pan")
PROVENANCE = {"config": {"heads": ["verb", "noun"], "objective": {"loss": "softmax"}}}


@pytest.mark.parametrize(
    ("loss", "activation"), [("softmax", "softmax"), ("sigmoid", "sigmoid"), ("softmax+sigmoid", "sigmoid")]
)
def test_the_loss_decides(loss: str, activation: str) -> None:
    found = Scoring.of_checkpoint(("a", "b"), {"config": {"objective": {"loss": loss}}}, source="x.pt")
    assert (found.activation, found.heads) == (activation, None)


@pytest.mark.parametrize("provenance", [{}, {"config": None}, {"config": {}}, {"config": {"objective": None}}])
def test_softmax_where_nothing_is_said(provenance: dict[str, object]) -> None:
    assert Scoring.of_checkpoint(None, provenance, source="x.pth") == Scoring()


def test_heads_of_a_checkpoint() -> None:
    found = Scoring.of_checkpoint(LABELS, PROVENANCE, source="x.pt")
    assert found.heads is not None
    assert found.heads.names == ("verb", "noun")
    with pytest.raises(CheckpointError, match=r"x\.pt: was trained with heads verb, noun"):
        Scoring.of_checkpoint(("run", "jump"), PROVENANCE, source="x.pt")


@pytest.mark.parametrize("averaging", ["probabilities", "logits"])
def test_each_head_is_averaged_as_if_alone(averaging: str) -> None:
    rng = np.random.default_rng(0)
    outputs = Outputs(rng.normal(size=(6, 5, 4)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32))
    heads = Heads.of(LABELS)
    assert heads is not None
    found = Scoring(heads=heads).aggregate([outputs], averaging, views=3)  # type: ignore[arg-type]
    for part in (slice(0, 2), slice(2, 5)):
        alone = aggregate([Outputs(outputs.logits[:, part], outputs.features)], averaging, views=3)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.probabilities[part], alone.probabilities)
        np.testing.assert_array_equal(found.clip_probabilities[:, part], alone.clip_probabilities)
    np.testing.assert_array_equal(found.features, alone.features)
    assert found.probabilities.sum() == pytest.approx(2)


def test_a_joint_softmax_is_refused_for_sigmoids() -> None:
    Scoring().check(PROTOCOLS["vmz-joint"])
    Scoring(activation="sigmoid").check(PROTOCOLS["fully-convolutional"])
    with pytest.raises(InvalidRequest, match=r"protocol vmz-joint is one softmax .* use fully-convolutional"):
        Scoring(activation="sigmoid").check(PROTOCOLS["vmz-joint"])


def test_a_checkpoint_of_sigmoids_is_scored_by_them(action_videos: Path, tmp_path: Path) -> None:
    model = create_model("r2plus1d_10", num_classes=2, width=4, num_frames=4, crop=16)
    with torch.no_grad():
        model.state_dict()["fc.bias"] += 1  # or an untrained network's scores sum to 1 nearly
    path = tmp_path / "m.pt"
    config = {"objective": {"loss": "sigmoid"}}
    save_checkpoint(path, model, clip_spec=SPEC, labels=("move_left", "move_right"), provenance={"config": config})
    videos = read_manifest(action_videos)
    result = evaluate(path, videos, split="test", protocol="center-clip")
    assert result.activation == "sigmoid"
    assert all(abs(s.video.sum() - 1) > 1e-3 for s in result.scores), "independent classes"
    softmax = evaluate(path, videos, split="test", protocol="center-clip", scoring=Scoring())
    for ours, theirs in zip(result.scores, softmax.scores, strict=True):
        odds = ours.video / (1 - ours.video)  # exp of the logits
        np.testing.assert_allclose(odds / odds.sum(), theirs.video, rtol=1e-4)
    with pytest.raises(InvalidRequest, match="one softmax over classes and positions"):
        evaluate(path, videos, split="test", protocol="vmz-joint")


def test_a_checkpoint_of_heads_is_not_one_classifier(action_videos: Path, tmp_path: Path) -> None:
    model = create_model("r2plus1d_10", num_classes=5, width=4, num_frames=4, crop=16)
    save_checkpoint(tmp_path / "m.pt", model, clip_spec=SPEC, labels=LABELS, provenance=PROVENANCE)
    with pytest.raises(InvalidRequest, match=r"m\.pt: has the heads verb and noun; tenclip evaluate-actions"):
        evaluate(tmp_path / "m.pt", read_manifest(action_videos), split="test")
