"""One network with two heads, or two networks, trained on generated videos and evaluated as verbs, nouns, actions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.evaluation.actions import evaluate_actions, head_names, load_action_models
from tenclip_training.evaluation.evaluate import evaluate
from tenclip_training.loaders import load_any
from tenclip_training.loaders.one_head import select_head
from tenclip_training.models import create_model
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train
from tests.tenclip_training.commands.helpers import error_of, output_of, run
from tests.tenclip_training.conftest import SPEC

HEADS = ("label", "speed")  # what moves, and how fast: a verb and its noun


@pytest.fixture(scope="module")
def both(validated_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """last.pt of a run with two heads."""
    config = TrainConfig(
        manifest=str(validated_videos),
        out=str(tmp_path_factory.mktemp("heads") / "run"),
        heads=HEADS,
        architecture="r2plus1d_10",
        model={"width": 4},
        clip_spec=SPEC,
        epochs=2,
        batch_size=6,
        val_protocol="center-clip",
        precision="fp32",
        device="cpu",
        cache_gib=0.0,
    )
    result = train(config)
    assert result.completed
    assert result.evaluation is not None
    assert result.evaluation.heads is not None
    assert result.evaluation.heads.names == HEADS
    assert result.history[-1].val_video_top1 == result.evaluation.video_top1.value
    return result.last


def test_training_with_heads(both: Path, validated_videos: Path) -> None:
    checkpoint = load_checkpoint(both)
    manifest = read_manifest(validated_videos, heads=HEADS)
    assert checkpoint.labels == manifest.labels
    assert checkpoint.model.num_classes == len(manifest.labels)
    assert checkpoint.provenance["config"]["heads"] == list(HEADS)
    resumed = train(TrainConfig.from_dict(checkpoint.provenance["config"]), resume=True)
    assert resumed.completed


def test_actions_of_one_network(both: Path, validated_videos: Path) -> None:
    models = load_action_models([both])
    assert head_names(models) == HEADS
    manifest = read_manifest(validated_videos, heads=HEADS)
    result = evaluate_actions(
        models, manifest, split="val", training=manifest.split("train"), more_than=1, protocol="center-clip"
    )
    assert (result.videos_asked, result.videos_decoded, result.skipped) == (4, 4, ())
    assert (result.verb.name, result.noun.name, result.action.name) == ("label", "speed", "action")
    assert result.verb.classes == 2
    seen = {s.labels for s in manifest.split("train").samples}
    assert result.action.classes == len(seen)
    assert result.videos_of_unseen_pairs == sum(s.labels not in seen for s in manifest.split("val").samples)
    assert all((f"label:{p['action']['label']}", f"speed:{p['action']['speed']}") in seen for p in result.predictions)
    assert result.action.many_shot is not None
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["heads"]["label"]["top1"]["total"] == 4
    assert values["action"]["classes"] == len(seen)


def test_all_pairs_agree_with_validation(both: Path, validated_videos: Path) -> None:
    """The run's own top-1 asks for both heads to be right, which is the best action of all pairs."""
    checkpoint = load_checkpoint(both)
    history = [json.loads(line) for line in (both.parent / "history.jsonl").read_text().splitlines()]
    models = load_action_models([both])
    manifest = read_manifest(validated_videos, heads=HEADS)
    result = evaluate_actions(models, manifest, split="val", pairs="all", protocol="center-clip")
    assert result.action.top1.value == pytest.approx(history[-1]["val_video_top1"])
    assert result.action.classes == 2 * (checkpoint.model.num_classes - 2)
    assert (result.action.many_shot, result.training_videos) == (None, None)
    for p in result.predictions:
        assert p["action"] == p["predicted"], "the best pair of all is the best of each"


def test_each_head_scores_as_its_exported_classifier(both: Path, validated_videos: Path, tmp_path: Path) -> None:
    """So two checkpoints, one a head, give the very figures of the one that they were cut from."""
    paths = []
    for name in HEADS:
        one = select_head(load_any(both), name, source="both.pt")
        assert one.labels is not None
        assert one.model.num_classes == len(one.labels)
        assert one.provenance["notes"] == [f"the classifier {name} of label, speed"]
        path = tmp_path / f"{name}.pt"
        save_checkpoint(path, one.model, clip_spec=one.clip_spec, labels=one.labels, provenance={})
        paths.append(path)
    options = {"split": "val", "pairs": "all", "protocol": "center-clip"}
    manifest = read_manifest(validated_videos, heads=HEADS)
    whole = evaluate_actions(load_action_models([both]), manifest, **options)  # type: ignore[arg-type]
    parts = evaluate_actions(load_action_models(paths, columns=HEADS), manifest, **options)  # type: ignore[arg-type]
    assert parts.checkpoints == tuple(map(str, paths))
    for ours, theirs in zip(whole.predictions, parts.predictions, strict=True):
        assert ours["action"] == theirs["action"]
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-4)
    for which in ("verb", "noun", "action"):
        ours, theirs = getattr(whole, which), getattr(parts, which)
        assert (ours.top1, ours.top5) == (theirs.top1, theirs.top5)
        assert ours.mean_average_precision == theirs.mean_average_precision
    alone = evaluate(paths[0], read_manifest(validated_videos), split="val", protocol="center-clip")
    assert alone.video_top1 == whole.verb.top1


def test_columns_of_another_name(both: Path, validated_videos: Path, tmp_path: Path) -> None:
    folder = validated_videos.parent
    rows = read_manifest(validated_videos, heads=HEADS).split("val").samples
    lines = [f"{folder / s.name},{s.labels[0][6:]},{s.labels[1][6:]}" for s in rows]
    (tmp_path / "other.csv").write_text("path,verb,noun\n" + "".join(f"{line}\n" for line in lines))
    models = load_action_models([both], columns=("verb", "noun"))
    manifest = read_manifest(tmp_path / "other.csv", heads=head_names(models), held_out=None)
    result = evaluate_actions(models, manifest, split="", pairs="all", protocol="center-clip")
    assert (result.verb.name, result.noun.name) == ("verb", "noun")
    assert result.videos_decoded == 4


def test_a_video_that_cannot_be_read_is_skipped(both: Path, validated_videos: Path, tmp_path: Path) -> None:
    manifest = read_manifest(validated_videos, heads=HEADS).split("val")
    (tmp_path / "empty.mp4").write_bytes(b"")
    bad = dataclasses.replace(manifest.samples[1], path=tmp_path / "empty.mp4", name="empty.mp4")
    samples = (manifest.samples[0], bad, *manifest.samples[2:])
    models = load_action_models([both])
    result = evaluate_actions(
        models, dataclasses.replace(manifest, samples=samples), split="", pairs="all", protocol="center-clip"
    )
    assert (result.videos_asked, result.videos_decoded) == (4, 3)
    assert [f.reason for f in result.skipped] == ["EMPTY_VIDEO"]
    assert result.verb.top1.total == 3
    with pytest.raises(DatasetError, match=r"none of 1 videos could be used\. The first: .*empty"):
        evaluate_actions(models, dataclasses.replace(manifest, samples=(bad,)), split="", pairs="all")


# -- bad input --


def saved(path: Path, labels: tuple[str, ...] | None, **config: object) -> Path:
    count = len(labels) if labels is not None else 2
    model = create_model("r2plus1d_10", num_classes=count, width=4, num_frames=4, crop=16)
    save_checkpoint(path, model, clip_spec=SPEC, labels=labels, provenance={"config": config})
    return path


def test_checkpoints_that_do_not_go_together(both: Path, tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain.pt", ("a", "b"), label_column="verb")
    three = saved(tmp_path / "three.pt", ("a:x", "b:x", "c:x"), heads=["a", "b", "c"])
    nameless = saved(tmp_path / "nameless.pt", None)
    for paths, message in (
        ([plain], r"plain\.pt: has one classifier; a checkpoint with two heads is needed"),
        ([three], r"three\.pt: has the heads a, b, c"),
        ([plain, both], r"last\.pt: has several heads; give it alone"),
        ([plain, plain], "both heads have the same column"),
        ([plain] * 3, "one checkpoint with two heads, or one of verbs and one of nouns; got 3"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            load_action_models(paths)
    with pytest.raises(CheckpointError, match=r"nameless\.pt: does not name its classes"):
        load_action_models([nameless])
    models = load_action_models([plain, saved(tmp_path / "n.pt", ("c", "d"))])
    assert head_names(models) == ("verb", "noun")


def test_labels_that_do_not_fit(both: Path, validated_videos: Path, tmp_path: Path) -> None:
    manifest = read_manifest(validated_videos, heads=HEADS)
    with pytest.raises(DatasetError, match="pairs seen in training need training videos"):
        evaluate_actions(load_action_models([both]), manifest, split="val")
    paths = [saved(tmp_path / "v.pt", ("jump", "run")), saved(tmp_path / "n.pt", ("slow", "fast"))]
    with pytest.raises(DatasetError, match="label 'move_left' is not one of the 2 known ones"):
        evaluate_actions(load_action_models(paths, columns=HEADS), manifest, split="val", pairs="all")
    stranger = dataclasses.replace(manifest.samples[0], labels=("label:jump", "speed:none"))
    training = dataclasses.replace(manifest, samples=(stranger,))
    with pytest.raises(DatasetError, match="none of its pairs has classes of the checkpoints"):
        evaluate_actions(load_action_models([both]), manifest, split="val", training=training, protocol="center-clip")


# -- the command --


def test_the_command(both: Path, validated_videos: Path, tmp_path: Path) -> None:
    options = ("--protocol", "center-clip", "--device", "cpu")
    values = output_of(run("evaluate_actions", both, validated_videos, "--split", "val", "--json", *options))
    assert values["pairs"] == "seen"
    assert values["training_videos"] == 12
    assert values["heads"]["label"]["many_shot"] == {
        "more_than": 100,
        "classes": 0,
        "classes_counted": 0,
        "mean_precision": None,
        "mean_recall": None,
    }
    shown = run("evaluate_actions", both, validated_videos, "--split", "val", "--many-shot", "1", *options)
    assert shown.exit_code == 0, shown.exception
    text = " ".join(shown.stdout.split())
    assert "center-clip on val: 4 videos asked for, 4 decoded, 0 skipped" in text
    assert "pairs seen in 12 training videos" in text
    assert "mAP of label" in text
    assert "many-shot label (of more than 1 training videos): mean recall" in text
    lines = validated_videos.read_text().splitlines()
    places = [f"{validated_videos.parent}/{line}" for line in lines[1:]]
    (tmp_path / "test.csv").write_text("\n".join([lines[0], *(p for p in places if ",val," in p)]) + "\n")
    error = error_of(run("evaluate_actions", both, tmp_path / "test.csv", "--split", "val", *options))
    assert "pairs seen in training need training videos" in str(error)
    training = ("--training", validated_videos)
    given = output_of(
        run("evaluate_actions", both, tmp_path / "test.csv", "--split", "val", "--json", *options, *training)
    )
    assert given["action"] == values["action"]


def test_evaluate_sends_checkpoints_of_heads_here(both: Path, validated_videos: Path) -> None:
    error = error_of(run("evaluate", both, validated_videos))
    assert "has the heads label and speed; tenclip evaluate-actions evaluates them" in str(error)


def test_selecting_a_head(both: Path, tmp_path: Path) -> None:
    loaded = load_any(both)
    with pytest.raises(CheckpointError, match=r"both\.pt: has the heads label and speed, .* --classifier label"):
        select_head(loaded, None, source="both.pt")
    with pytest.raises(CheckpointError, match="no head 'verb': has the heads label and speed"):
        select_head(loaded, "verb", source="both.pt")
    plain = load_any(saved(tmp_path / "plain.pt", ("a", "b")))
    assert select_head(plain, None, source="x") is plain
    with pytest.raises(CheckpointError, match="one classifier, not several heads"):
        select_head(plain, "verb", source="x")
    backbone = load_any(both, features_only=True)
    assert select_head(backbone, None, source="x") is backbone
    with pytest.raises(CheckpointError, match="no classifier here"):
        select_head(backbone, "label", source="x")
    weights = select_head(loaded, "speed", source="x").model.state_dict()
    np.testing.assert_array_equal(weights["fc.bias"], loaded.model.state_dict()["fc.bias"][2:])
