from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest, TrainingDiverged
from tenclip_data.manifest import read_manifest
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.data.shards.write import write_shards
from tenclip_training.runs import grid
from tenclip_training.runs.checkpoint import load_checkpoint
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_training.runs.grid import Events, hold_out, run_config, search
from tenclip_training.runs.grid_points import Point, build_points, split_assignments
from tenclip_training.runs.grid_results import Row, ranked
from tenclip_training.runs.train import train


@pytest.fixture
def config(train_config: TrainConfig) -> TrainConfig:
    return train_config.changed(epochs=1, warmup_epochs=0, val_every=1, batch_size=5)


def points_of(config: TrainConfig, *assignments: str) -> tuple[Point, ...]:
    _, swept = split_assignments(assignments)
    return build_points(swept, lambda values: config.changed(**values))


# -- what is searched --


def test_values_are_separated_by_commas_or_semicolons() -> None:
    single, swept = split_assignments(
        [
            "lr=0.1, 0.01",
            "schedule.lr_steps=16,16;20,20",
            "epochs=3",
            "optimizer.layer_lr=fc=1,stem=0",
            "freeze_to=none,stem",
        ]
    )
    assert single == ["epochs=3", "optimizer.layer_lr=fc=1,stem=0"]
    assert swept == {
        "lr": ("lr", ("0.1", "0.01")),
        "lr_steps": ("schedule.lr_steps", ("16,16", "20,20")),
        "freeze_to": ("freeze_to", ("none", "stem")),
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["learning=1,2"], "no field is called learning"),
        (["schedule.lr=1,2"], "no field is called schedule.lr"),
        (["lr=1,2", "optimizer.lr=3,4"], "searched twice"),
        (["lr=0.1,0.1"], "a value is there twice"),
        (["lr=0.1,"], "is empty"),
        (["out=a,b"], "out is not for a search"),
        (["label_column=a,b"], "label_column is not for a search"),
    ],
)
def test_what_cannot_be_searched(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_assignments(texts)


def test_every_combination_is_a_point(config: TrainConfig) -> None:
    points = points_of(config, "optimizer.lr=0.1,0.01", "freeze_to=none,stem")
    assert [p.name for p in points] == [
        "lr=0.1,freeze_to=none", "lr=0.1,freeze_to=stem", "lr=0.01,freeze_to=none", "lr=0.01,freeze_to=stem"
    ]  # fmt: skip
    assert [(p.config.optimizer.lr, p.config.transfer.freeze_to) for p in points[:2]] == [(0.1, None), (0.1, "stem")]


def test_folders_of_odd_values_are_plain_and_differ(config: TrainConfig) -> None:
    names = [p.name for p in points_of(config, "architecture=a/b,a b," + "c" * 300)]
    assert len(set(names)) == 3
    assert all(len(name) <= 120 and "/" not in name and " " not in name for name in names)


def test_all_values_that_cannot_work_are_named(config: TrainConfig) -> None:
    with pytest.raises(InvalidRequest, match=r"no run was begun.*\(lr=-1, .*momentum=2.*'fast'"):
        points_of(config, "lr=-1,0.1,fast", "momentum=0,2")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "architecture=r2plus1d_10,r2plus1d_11",
            r"no architecture 'r2plus1d_11'; .*\(architecture=r2plus1d_11, lr=0.1 and",
        ),
        ("freeze_to=none,stem", r"freeze_to needs init_from: .*\(freeze_to=stem, lr=0.1 and"),
        ("layer_lr=fc=1;conv9=2", r"layer_lr 'conv9' is no stage .*\(layer_lr=conv9=2, lr=0.1 and"),
        ("precision=fp32,fp16", r"precision fp16 needs a GPU.*\(precision=fp16, lr=0.1 and"),
    ],
)
def test_networks_that_cannot_be_are_named_before_the_first_run(
    config: TrainConfig, tmp_path: Path, assignment: str, message: str
) -> None:
    points = points_of(config, assignment, "lr=0.1,0.2")
    with pytest.raises(InvalidRequest, match=message) as error:
        search(points, tmp_path / "grid")
    assert str(error.value).endswith("lr=0.2)"), "all points that cannot be, and no others"
    assert not (tmp_path / "grid").exists()


# -- the videos held out --


def test_a_part_of_each_class_of_the_training_split_is_held_out(validated_videos: Path) -> None:
    manifest = read_manifest(validated_videos)
    held = hold_out(manifest.split("train"), part=0.34, seed=0)
    counts = {(s.labels[0], s.split): 0 for s in held.samples}
    for s in held.samples:
        counts[s.labels[0], s.split] += 1
    assert counts == {
        ("move_left", "train"): 4, ("move_left", "val"): 2, ("move_right", "train"): 4, ("move_right", "val"): 2
    }  # fmt: skip
    assert held.labels == manifest.labels
    val = {s.path for s in manifest.split("val").samples}
    assert not val & {s.path for s in held.samples}, "the split val is not looked at"
    other = hold_out(manifest.split("train"), part=0.34, seed=1)
    assert [s.split for s in other.samples] != [s.split for s in held.samples]
    assert hold_out(manifest.split("train"), part=0.34, seed=0) == held


def test_copies_of_a_video_stay_together(validated_videos: Path, tmp_path: Path) -> None:
    manifest = read_manifest(validated_videos).split("train")
    copied = []
    for i, s in enumerate(manifest.samples):
        path = tmp_path / f"copy{i}.mp4"
        path.write_bytes(s.path.read_bytes())
        copied.append(dataclasses.replace(s, path=path, name=path.name))
    held = hold_out(dataclasses.replace(manifest, samples=(*manifest.samples, *copied)), part=0.3, seed=0)
    split = [s.split for s in held.samples]
    assert split[: len(copied)] == split[len(copied) :]


def test_classes_of_one_video_cannot_be_held_out(validated_videos: Path) -> None:
    manifest = read_manifest(validated_videos).split("train")
    few = {s.labels[0]: s for s in manifest.samples}
    with pytest.raises(DatasetError, match="none can be held out"):
        hold_out(dataclasses.replace(manifest, samples=tuple(few.values())), part=0.1, seed=0)


# -- the search --


def test_two_by_two(config: TrainConfig, tmp_path: Path) -> None:
    points = points_of(config, "lr=0.02,0.002", "momentum=0,0.9")
    begun: list[str] = []
    result = search(points, tmp_path / "grid", events=Events(on_begin=lambda n, p: begun.append(p.name)))
    assert begun == [p.name for p in points]
    assert (result.completed, result.points, result.train_videos, result.holdout_videos) == (True, 4, 10, 2)
    assert {r.status for r in result.rows} == {"done"}
    assert {(r.videos, r.epochs) for r in result.rows} == {(2, 1)}
    assert result.best == result.rows[0]
    order = [(-(r.top1 or 0), r.loss) for r in result.rows]
    assert order == sorted(order)
    written = json.loads((tmp_path / "grid" / "grid.json").read_text())
    assert written == json.loads(json.dumps(result.to_dict()))
    assert written["best"] == dict(result.rows[0].values)
    for point in points:
        run = tmp_path / "grid" / point.name
        ran = read_config(run)
        assert ran.optimizer == point.config.optimizer
        assert ran.manifest == str(tmp_path / "grid" / "holdout.parquet")
        assert load_checkpoint(run / "last.pt").labels == ("move_left", "move_right")


def test_what_a_point_is_scored_on_is_what_it_did_not_see(config: TrainConfig, tmp_path: Path) -> None:
    """A run of the same config on the written split, by hand, has the row's figures."""
    (point, _) = points_of(config, "lr=0.02,0.002")
    result = search([point], tmp_path / "grid", part=0.34)
    by_hand = train(run_config(point, tmp_path / "grid").changed(out=str(tmp_path / "hand")))
    last = by_hand.history[-1]
    (row,) = result.rows
    assert (row.top1, row.loss, row.train_loss) == (last.val_video_top1, last.val_loss, last.loss)
    assert (row.videos, last.train_clips) == (4, 8)


def test_going_on_after_an_interruption(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three runs is stopped in the middle of an epoch; what was done is not done again."""
    points = points_of(config.changed(epochs=2), "lr=0.02,0.01,0.005")
    whole = search(points, tmp_path / "whole")
    calls: list[str] = []

    def stopping(config: TrainConfig, **arguments: Any) -> Any:
        calls.append(Path(config.out).name)
        stop = 1 if len(calls) == 2 else None
        return train(config, **{**arguments, "stop_after_steps": stop})

    monkeypatch.setattr(grid, "train", stopping)
    stopped = search(points, tmp_path / "parts")
    assert (stopped.completed, stopped.best, len(stopped.rows)) == (False, None, 1)
    result = search(points, tmp_path / "parts")
    assert calls == ["lr=0.02", "lr=0.01", "lr=0.01", "lr=0.005"]
    assert result.completed

    def plain(rows: tuple[Row, ...]) -> list[Row]:
        return [dataclasses.replace(row, folder="", seconds=0.0) for row in rows]

    assert plain(result.rows) == plain(whole.rows), "to the bit"
    again = search(points, tmp_path / "parts")
    assert again.rows == result.rows
    assert len(calls) == 4


def test_a_search_can_be_widened_but_not_changed(config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "grid"
    search(points_of(config, "lr=0.02,0.01"), folder)
    ran: list[str] = []
    events = Events(on_epoch=lambda e: ran.append("epoch"))
    wider = search(points_of(config, "lr=0.02,0.01,0.04"), folder, events=events)
    assert (len(wider.rows), len(ran)) == (3, 1)
    with pytest.raises(CheckpointError, match=r"other settings: optimizer.momentum \(was 0.9, now 0.5\)"):
        search(points_of(config.changed(momentum=0.5), "lr=0.02,0.01"), folder)
    with pytest.raises(CheckpointError, match="a search on other videos"):
        search(points_of(config, "lr=0.02,0.01"), folder, part=0.5)
    (folder / "lr=0.02" / "grid.json").write_text("{")
    with pytest.raises(CheckpointError, match="or damaged"):
        search(points_of(config, "lr=0.02,0.01"), folder)


def test_a_run_that_diverges_is_a_row(config: TrainConfig, tmp_path: Path) -> None:
    points = points_of(config.changed(epochs=3), "lr=1e30,0.01")
    rows: list[Row] = []
    result = search(points, tmp_path / "grid", events=Events(on_row=lambda n, r: rows.append(r)))
    assert [r.status for r in rows] == ["diverged", "done"]
    assert [r.status for r in result.rows] == ["done", "diverged"], "last in the table"
    assert result.completed
    assert result.best is not None
    assert result.best.values == {"lr": "0.01"}
    assert result.rows[1].top1 is None
    assert "finite" in result.rows[1].note or "nan" in result.rows[1].note
    ran: list[int] = []
    again = search(points, tmp_path / "grid", events=Events(on_epoch=lambda e: ran.append(e.epoch)))
    assert again.rows == result.rows
    assert ran == [], "what diverged is not tried again"


def test_where_all_diverge_nothing_is_best(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(config: TrainConfig, **_: Any) -> Any:
        Path(config.out).mkdir(parents=True)
        raise TrainingDiverged("the loss is not finite")

    monkeypatch.setattr(grid, "train", diverging)
    result = search(points_of(config, "lr=1,2"), tmp_path / "grid")
    assert (result.completed, result.best) == (True, None)


def test_other_errors_end_the_search(config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: TrainConfig, **_: Any) -> Any:
        raise DatasetError("too many videos could not be read")

    monkeypatch.setattr(grid, "train", failing)
    with pytest.raises(DatasetError, match="too many"):
        search(points_of(config, "lr=1,2"), tmp_path / "grid")


def test_labels_keep_their_order_and_their_signs(config: TrainConfig, tmp_path: Path) -> None:
    """Labels that a CSV could not hold, in an order of their own, one of them without training videos."""
    manifest = read_manifest(config.manifest)
    names = {"move_left": "z; left|", "move_right": "a, right"}
    samples = [dataclasses.replace(s, labels=(names[s.labels[0]],)) for s in manifest.samples]
    write_manifest(tmp_path / "odd.parquet", samples)
    labels = ["z; left|", "7 never", "a, right"]
    (tmp_path / "odd.json").write_text(json.dumps(labels))
    odd = config.changed(manifest=str(tmp_path / "odd.parquet"), labels=str(tmp_path / "odd.json"))
    point, _ = points_of(odd, "lr=0.01,0.02")
    search([point], tmp_path / "grid")
    assert load_checkpoint(tmp_path / "grid" / point.name / "last.pt").labels == tuple(labels)


def test_runs_of_sigmoids_are_ranked_by_map(config: TrainConfig, tmp_path: Path) -> None:
    points = points_of(config.changed(loss="sigmoid"), "lr=0.02,0.01")
    result = search(points, tmp_path / "grid", part=0.34)
    assert result.by == "map"
    found = [r.mean_average_precision for r in result.rows]
    assert all(value is not None and 0 <= value <= 1 for value in found)
    assert found == sorted(found, key=lambda value: -(value or 0))
    assert search(points, tmp_path / "grid", part=0.34, by="loss").by == "loss"
    with pytest.raises(InvalidRequest, match="mAP is of runs with a sigmoid"):
        search(points_of(config, "lr=0.02,0.01"), tmp_path / "other", by="map")


def test_heads_stay_heads(config: TrainConfig, tmp_path: Path) -> None:
    """Two columns of the table, a classifier for each."""
    two = config.changed(heads=("label", "shape"))
    point, _ = points_of(two, "lr=0.02,0.01")
    search([point], tmp_path / "grid")
    checkpoint = load_checkpoint(tmp_path / "grid" / point.name / "last.pt")
    assert checkpoint.labels == read_manifest(two.manifest, heads=two.heads).labels
    assert {label.partition(":")[0] for label in checkpoint.labels} == {"label", "shape"}


def row(**values: Any) -> Row:
    return Row(**{"values": {}, "folder": "", "status": "done", **values})


def test_ranks() -> None:
    a, b, c = row(top1=0.5, loss=1.0), row(top1=0.5, loss=0.5), row(top1=0.4, loss=0.1)
    nan, gone = row(top1=0.9, loss=None), row(status="diverged")
    assert ranked([a, gone, b, c], "top1") == (b, a, c, gone)
    better, worse = row(top1=0.1, mean_average_precision=0.9), row(top1=0.9, mean_average_precision=0.1)
    assert ranked([worse, better], "map") == (better, worse)
    assert ranked([a, gone, b, nan, c], "loss") == (c, b, a, nan, gone)


def test_shards_cannot_be_searched_on(config: TrainConfig, validated_videos: Path, tmp_path: Path) -> None:
    write_shards(read_manifest(validated_videos), tmp_path / "shards", videos_per_shard=6, shuffle_seed=None)
    points = points_of(config.changed(manifest=str(tmp_path / "shards")), "lr=0.1,0.2")
    with pytest.raises(InvalidRequest, match="holds shards, and a grid search holds out files"):
        search(points, tmp_path / "grid")


def test_a_search_keeps_the_times_of_snippets_and_looks_for_leaks(config: TrainConfig, validated_videos: Path) -> None:
    train_split = read_manifest(validated_videos).split("train")
    with_times = dataclasses.replace(
        train_split,
        samples=tuple(dataclasses.replace(s, extra={"positive_seconds": "0.5"}) for s in train_split.samples),
    )
    held = hold_out(with_times, part=0.25, seed=0)
    assert {s.extra["positive_seconds"] for s in held.samples} == {"0.5"}
    (point,) = points_of(config, "lr=0.1")
    assert run_config(point, Path("grid")).leaks == config.leaks == "error", "auxiliary sources are looked through, too"
