from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tenclip_api.errors import CheckpointError, DatasetError, InvalidRequest
from tenclip_data.manifest import read_manifest
from tenclip_training.data.augment import Augmentation
from tenclip_training.data.dataset import ClipDataset, Collate
from tenclip_training.data.samplers import DrawSampler
from tenclip_training.models import create_model
from tenclip_training.runs import setup
from tenclip_training.runs.checkpoint import load_checkpoint, weights_sha256
from tenclip_training.runs.config import TrainConfig, read_config
from tenclip_training.runs.sections import Algorithm
from tenclip_training.runs.train import (
    EpochResult,
    Progress,
    TrainResult,
    train,
)
from tests.bitstreams import mux_packets, read_packets
from tests.tenclip_training.conftest import SPEC, with_val_split
from tests.videos import Recipe, make_video

TIMES = {"seconds", "clips_per_second", "data_wait_share"}


def weights_of(path: Path) -> str:
    return load_checkpoint(path).weights_sha256


def history_of(result: TrainResult) -> list[dict[str, Any]]:
    """The lines of history.jsonl, without the time they took."""
    lines = [json.loads(line) for line in (result.out / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def elsewhere(config: TrainConfig, tmp_path: Path, name: str) -> TrainConfig:
    return config.changed(out=str(tmp_path / name))


# -- a whole run --


def test_a_run_leaves_what_it_promises(train_config: TrainConfig) -> None:
    seen: list[Progress] = []
    epochs: list[EpochResult] = []
    config = train_config.changed(cache_gib=1.0, label_smoothing=0.1, max_gradient_norm=5.0)
    result = train(config, progress=seen.append, on_epoch=epochs.append)
    assert result.completed
    assert result.epochs_done == 3
    assert read_config(result.out) == config
    assert [h["epoch"] for h in history_of(result)] == [1, 2, 3]
    assert tuple(epochs) == result.history
    last = result.history[-1]
    assert last.train_clips == 12
    assert math.isfinite(last.loss)
    assert 0 <= last.train_clip_top1 <= 1
    assert last.val_videos_decoded == last.val_videos_asked == 4
    assert result.evaluation is not None
    assert last.val_video_top1 == result.evaluation.video_top1.value
    assert result.history[0].val_video_top1 is None, "validated every third epoch only"
    assert result.best is not None
    best, newest = load_checkpoint(result.best), load_checkpoint(result.last)
    assert best.training_state is None
    assert best.labels == newest.labels == ("move_left", "move_right")
    assert best.clip_spec == SPEC
    assert best.weights_sha256 == newest.weights_sha256, "the only validated epoch is the last"
    assert best.provenance["val_video_top1"] == last.val_video_top1
    assert best.provenance["epochs_done"] == newest.provenance["epochs_done"] == 3
    assert (result.out / "failures.jsonl").read_text() == ""
    stages = [p.stage for p in seen]
    assert (stages.count("cache"), stages.count("train"), stages.count("evaluate")) == (12, 9, 4)
    assert [(p.epoch, p.done, p.total) for p in seen if p.stage == "train"][:4] == [
        (1, 1, 3),
        (1, 2, 3),
        (1, 3, 3),
        (2, 1, 3),
    ]


def test_training_learns(train_config: TrainConfig) -> None:
    config = train_config.changed(
        clip_spec=dataclasses.replace(SPEC, num_frames=8, crop=24),
        augmentation=Augmentation(flip=False),
        algorithm="adamw",
        lr=0.005,
        epochs=15,
        val_every=15,
        cache_gib=1.0,
    )
    result = train(config)
    assert result.history[-1].loss < 0.3 * result.history[0].loss
    assert result.history[-1].train_clip_top1 > 0.9


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    train_config: TrainConfig, tmp_path: Path
) -> None:
    one, two = (train(elsewhere(train_config, tmp_path, n)) for n in ("one", "two"))
    assert weights_of(one.last) == weights_of(two.last)
    assert history_of(one) == history_of(two)
    other = train(dataclasses.replace(elsewhere(train_config, tmp_path, "three"), seed=1))
    assert weights_of(other.last) != weights_of(one.last)


@pytest.mark.parametrize("seed", [20261130141619, 2**64 + 1])
def test_a_seed_may_be_any_number(train_config: TrainConfig, tmp_path: Path, seed: int) -> None:
    config = train_config.changed(seed=seed, epochs=1, warmup_epochs=0.0)
    first = train(config).history[-1].loss
    assert train(config.changed(out=str(tmp_path / "again"))).history[-1].loss == first


def test_a_run_computes_what_a_plain_loop_computes(train_config: TrainConfig) -> None:
    """Bit for bit: whatever is moved within the trainer, the trajectory of the loss stays."""
    config = train_config.changed(momentum=0.8, label_smoothing=0.1)
    result = train(config)
    manifest = read_manifest(config.manifest).split("train")
    torch.manual_seed(config.seed)
    model = create_model("r2plus1d_10", num_classes=2, num_frames=4, crop=16, width=4)
    model.set_execution("conv2d")
    model.train()
    weights = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 1e-4}, {"params": rest, "weight_decay": 0.0}],
        lr=1.0, momentum=0.8, nesterov=True,
    )  # fmt: skip
    clips = ClipDataset(manifest, SPEC, config.augmentation, seed=0)
    scale, bias = (torch.from_numpy(a) for a in SPEC.affine())
    losses = []
    for step, draws in enumerate(DrawSampler(num_samples=12, batch_size=4, epochs=3, seed=0)):
        batch = Collate(SPEC, 2)([clips[draw] for draw in draws])
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            # One epoch of three steps up, two epochs down.
            group["lr"] = 0.02 * ((step + 1) / 4 if step < 3 else 0.5 * (1 + math.cos(math.pi * ((step - 3) / 6))))
        logits, _ = model(torch.addcmul(bias, batch.clips.float(), scale).permute(0, 4, 1, 2, 3))
        loss = nn.functional.cross_entropy(logits.mean(2), batch.targets, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert weights_of(result.last) == weights_sha256(model.state_dict())
    assert [h.loss for h in result.history] == [sum(losses[i : i + 3]) / 3 for i in (0, 3, 6)]


# -- resuming --


@pytest.mark.parametrize(
    ("optimizer", "stops"), [("sgd", [1]), ("sgd", [3]), ("sgd", [8]), ("adamw", [4, 1, 2])], ids=str
)
def test_resuming_is_exact_to_the_bit(
    train_config: TrainConfig, tmp_path: Path, stops: list[int], optimizer: Algorithm
) -> None:
    config = train_config.changed(algorithm=optimizer)
    whole = train(elsewhere(config, tmp_path, "whole"))
    parts = elsewhere(config, tmp_path, "parts")
    for steps in stops:
        stopped = train(parts, resume=True, stop_after_steps=steps)
        assert not stopped.completed
    # How clips are read may change between the parts; what is computed may not.
    resumed = train(dataclasses.replace(parts, cache_gib=1.0), resume=True)
    assert resumed.completed
    assert history_of(resumed) == history_of(whole)
    first, second = load_checkpoint(whole.last), load_checkpoint(resumed.last)
    assert first.weights_sha256 == second.weights_sha256
    assert whole.best is not None
    assert resumed.best is not None
    assert weights_of(whole.best) == weights_of(resumed.best)
    assert first.training_state is not None
    assert second.training_state is not None
    optimizers = [state["optimizer"] for state in (first.training_state, second.training_state)]
    for a, b in zip(*map(_tensors, optimizers), strict=True):
        assert torch.equal(a, b)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for key in value for t in _tensors(value[key])]
    return [t for v in value for t in _tensors(v)] if isinstance(value, list | tuple) else []


def test_resuming_is_exact_with_dropout(
    train_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_dropout(architecture: str, **values: Any) -> Any:
        model = create_model(architecture, **values)
        model.fc.register_forward_pre_hook(lambda m, args: nn.functional.dropout(args[0], 0.5, m.training))
        return model

    monkeypatch.setattr(setup, "create_model", with_dropout)
    whole = train(elsewhere(train_config, tmp_path, "whole"))
    parts = elsewhere(train_config, tmp_path, "parts")
    train(parts, stop_after_steps=5)
    torch.rand(100)  # whatever else drew numbers in between
    assert weights_of(train(parts, resume=True).last) == weights_of(whole.last)


def test_resuming_a_finished_run_changes_nothing(train_config: TrainConfig) -> None:
    first = train(train_config)
    before = first.last.read_bytes()
    again = train(train_config, resume=True)
    assert again.completed
    assert again.history == first.history
    assert first.last.read_bytes() == before


def test_resume_refuses_another_run(train_config: TrainConfig, broken_manifest: Path) -> None:
    train(train_config, stop_after_steps=2)
    with pytest.raises(CheckpointError, match="holds a run already; resume it, or choose another folder"):
        train(train_config)
    with pytest.raises(CheckpointError, match=r"other settings: optimizer\.lr \(was 0\.02, now 0\.5\)"):
        train(train_config.changed(lr=0.5), resume=True)
    assert read_config(train_config.out) == train_config, "a run that was refused has written nothing"
    with pytest.raises(CheckpointError, match=r"the training videos or labels in .* changed"):
        train(train_config.changed(manifest=str(with_val_split(broken_manifest))), resume=True)


def test_resume_from_a_damaged_or_stateless_checkpoint(train_config: TrainConfig) -> None:
    stopped = train(train_config, stop_after_steps=2)
    content = stopped.last.read_bytes()
    stopped.last.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"last\.pt: not a checkpoint, or damaged"):
        train(train_config, resume=True)
    stopped.last.write_bytes(content)
    payload = torch.load(stopped.last, weights_only=True)
    del payload["training_state"]["optimizer"]
    torch.save(payload, stopped.last)
    with pytest.raises(CheckpointError, match=r"training state cannot be used: KeyError\('optimizer'\)"):
        train(train_config, resume=True)
    old = {k: v for k, v in payload["training_state"].items() if k != "micro_batches_per_step"}
    torch.save(payload | {"training_state": old}, stopped.last)
    with pytest.raises(CheckpointError, match=r"begun by an earlier version of tenclip.*--init-from"):
        train(train_config, resume=True)
    torch.save(payload | {"training_state": None}, stopped.last)
    with pytest.raises(CheckpointError, match="no state to resume from"):
        train(train_config, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_after_the_step(
    train_config: TrainConfig, tmp_path: Path, number: signal.Signals
) -> None:
    def interrupt(p: Progress) -> None:
        if p.stage == "train" and (p.epoch, p.done) == (2, 2):
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    stopped = train(train_config, progress=interrupt)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not stopped.completed
    assert stopped.epochs_done == 1
    state = load_checkpoint(stopped.last).training_state
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 2)
    whole = train(elsewhere(train_config, tmp_path, "whole"))
    assert weights_of(train(train_config, resume=True).last) == weights_of(whole.last)


def test_a_second_interrupt_ends_at_once(train_config: TrainConfig) -> None:
    def interrupt(p: Progress) -> None:
        if p.stage == "train":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(train_config, progress=interrupt)


# -- validation --


def test_no_epoch_is_chosen_on_a_test_split(train_config: TrainConfig, action_videos: Path) -> None:
    config = train_config.changed(manifest=str(action_videos), epochs=1, warmup_epochs=0)
    untouched = train(config)
    assert (untouched.best, untouched.evaluation, untouched.history[0].val_video_top1) == (None, None, None)
    assert "no best.pt: nothing was validated, for there is no split val" in untouched.best_note
    assert "`tenclip evaluate` scores it on the test split" in untouched.best_note
    watched = train(config.changed(val_split="test", out=f"{config.out}-2"))
    assert watched.history[0].val_videos_decoded == 4
    assert watched.best is None
    assert not (watched.out / "best.pt").exists()
    assert "never chosen on a test split" in watched.best_note


# -- bad videos --


def test_unreadable_videos_of_every_split_are_skipped_and_listed(
    train_config: TrainConfig, broken_manifest: Path
) -> None:
    config = train_config.changed(manifest=str(with_val_split(broken_manifest)), epochs=2, val_every=1, cache_gib=1.0)
    result = train(config)
    assert (result.videos_failed, result.train_videos) == (1, 13)
    assert (result.val_videos_failed, result.val_videos) == (1, 5)
    lines = [json.loads(line) for line in (result.out / "failures.jsonl").read_text().splitlines()]
    assert [(f["split"], f["reason"], Path(f["video"]).name) for f in lines] == [
        ("train", "EMPTY_VIDEO", "empty.mp4"),
        ("val", "NOT_A_VIDEO", "text.mp4"),
    ]
    assert [f.video for f in result.failures] == [f["video"] for f in lines]
    assert [h.train_clips for h in result.history] == [12, 12], "13 videos, of which one is empty"
    assert result.evaluation is not None
    assert (result.evaluation.videos_asked, result.evaluation.videos_decoded) == (5, 4)
    assert result.evaluation.skipped[0].reason == "NOT_A_VIDEO"


def test_validation_videos_none_of_which_can_be_read_are_listed_before_the_run_ends(
    train_config: TrainConfig, action_videos: Path, tmp_path: Path
) -> None:
    rows = [line.split(",") for line in action_videos.read_text().splitlines()[1:]]
    train_rows = [f"{action_videos.parent / r[0]},{r[1]},train" for r in rows if r[2] == "train"]
    (tmp_path / "text.mp4").write_text("no video")
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["path,label,split", *train_rows, "text.mp4,move_left,val"]))
    with pytest.raises(DatasetError, match="none of 1 videos of split 'val' could be used"):
        train(train_config.changed(manifest=str(manifest), epochs=1, warmup_epochs=0))
    (line,) = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["split"] == "val"


def test_a_batch_of_unreadable_videos_alone_is_passed_over(train_config: TrainConfig, broken_manifest: Path) -> None:
    config = train_config.changed(
        manifest=str(with_val_split(broken_manifest)),
        clip_spec=dataclasses.replace(SPEC, crop=24),
        batch_size=1,
        epochs=1,
        warmup_epochs=0,
    )
    result = train(config)
    assert result.completed
    assert result.history[0].train_clips == 12


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_too_many_unreadable_videos_end_the_run(
    train_config: TrainConfig, broken_manifest: Path, cache_gib: float
) -> None:
    config = train_config.changed(manifest=str(with_val_split(broken_manifest)), max_failures=0.05, cache_gib=cache_gib)
    with pytest.raises(DatasetError, match=r"1 of 13 videos could not be read, more than the 5% allowed.*EMPTY_VIDEO"):
        train(config)


def test_a_run_without_any_readable_video(train_config: TrainConfig, tmp_path: Path) -> None:
    manifest = tmp_path / "none.csv"
    manifest.write_text("path,label,split\na.mp4,x,train\nb.mp4,y,train\n")
    config = train_config.changed(manifest=str(manifest), missing="keep", max_failures=1.0)
    with pytest.raises(DatasetError, match="no video of epoch 1 could be read"):
        train(config)


# -- fine-tuning --


def test_fine_tuning_takes_all_but_another_classifier(train_config: TrainConfig, tmp_path: Path) -> None:
    first = train(train_config.changed(epochs=1, warmup_epochs=0))
    start = load_checkpoint(first.last)
    again = train_config.changed(
        init_from=str(first.last), clip_spec=None, architecture="r2plus1d_34", out=str(tmp_path / "a"),
        lr=1e-12, epochs=1, warmup_epochs=0, val_split=None,
    )  # fmt: skip
    same_task = load_checkpoint(train(again).last)
    assert same_task.model.architecture == "r2plus1d_10", "the checkpoint brings its own"
    assert same_task.clip_spec == start.clip_spec
    torch.testing.assert_close(same_task.model.fc.weight, start.model.fc.weight)
    other_task = load_checkpoint(train(dataclasses.replace(again, label_column="shape", out=str(tmp_path / "b"))).last)
    assert other_task.labels != start.labels
    assert not any(torch.allclose(row, other) for row in other_task.model.fc.weight for other in start.model.fc.weight)
    torch.testing.assert_close(
        other_task.model.get_parameter("layer4.0.conv1.0.0.weight"),
        start.model.get_parameter("layer4.0.conv1.0.0.weight"),
    )


def test_fine_tuning_a_public_checkpoint(train_config: TrainConfig, tmp_path: Path) -> None:
    torch.manual_seed(3)
    public = create_model("r2plus1d_10", num_classes=2, width=4).state_dict()
    torch.save(public, tmp_path / "public.pth")
    config = train_config.changed(
        init_from=str(tmp_path / "public.pth"),
        init_family="vmz",
        lr=1e-12,
        epochs=1,
        warmup_epochs=0,
    )
    tuned = load_checkpoint(train(config).last)
    assert tuned.clip_spec == SPEC, "given, so not the family's"
    assert tuned.model.config["num_frames"] == 4
    torch.testing.assert_close(tuned.model.state_dict()["stem.0.weight"], public["stem.0.weight"])
    backbone = {name: tensor for name, tensor in public.items() if not name.startswith("fc.")}
    torch.save(backbone, tmp_path / "backbone.pth")
    config = config.changed(init_from=str(tmp_path / "backbone.pth"), out=str(tmp_path / "a"))
    assert load_checkpoint(train(config).last).weights_sha256 == tuned.weights_sha256, "with or without its classifier"
    # Its classes have no names, so nobody knows whether they are ours.
    assert not torch.allclose(tuned.model.fc.weight, public["fc.weight"], atol=1e-3)
    with pytest.raises(CheckpointError, match="no family"):
        train(config.changed(init_family="vnz", out=str(tmp_path / "b")))


# -- settings --


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "r2plus1d_11"}, "no architecture 'r2plus1d_11'"),
        ({"model": {"wings": 2}}, "takes no wings"),
        ({"precision": "fp16"}, "fp16 needs a GPU"),
    ],
)
def test_settings_that_cannot_be(train_config: TrainConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        train(train_config.changed(**changes))


@pytest.mark.parametrize(
    ("val_split", "message"),
    [(None, "there is no validation split: name another"), ("test", "only the test split 'test', which may decide")],
)
def test_plateau_needs_a_validation_split(
    train_config: TrainConfig, action_videos: Path, val_split: str | None, message: str
) -> None:
    config = train_config.changed(kind="plateau", manifest=str(action_videos), val_split=val_split)
    with pytest.raises(InvalidRequest, match=message):
        train(config)
    assert not Path(config.out).exists()


def test_a_class_with_one_video_is_trained_and_not_held_out(
    train_config: TrainConfig, action_videos: Path, tmp_path: Path
) -> None:
    rows = [line.split(",") for line in action_videos.read_text().splitlines()[1:]]
    manifest = tmp_path / "m.csv"
    lines = [f"{action_videos.parent / r[0]},{'rare' if i == 3 else r[1]}\n" for i, r in enumerate(rows)]
    manifest.write_text("path,label\n" + "".join(lines))
    result = train(train_config.changed(manifest=str(manifest), held_out=0.3))
    assert result.labels == ("move_left", "move_right", "rare")
    assert result.evaluation is not None
    assert result.evaluation.per_class[2].total == 0, "its only video is trained on"
    assert result.train_videos + result.val_videos == 16


def test_training_videos_with_damaged_frames_are_used_and_listed(train_config: TrainConfig, tmp_path: Path) -> None:
    video = make_video(Recipe(num_frames=20, gop=5))
    packets = [
        dataclasses.replace(p, data=p.data[:8] + bytes(len(p.data) - 8)) if n in (7, 8, 12, 13, 17, 18) else p
        for n, p in enumerate(read_packets(video))
    ]
    (tmp_path / "whole.mp4").write_bytes(video)
    (tmp_path / "hurt.mp4").write_bytes(mux_packets(video, packets, "mp4"))
    rows = [f"{name}.mp4,{label},train" for name, label in (("whole", "a"), ("hurt", "b"))]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    config = train_config.changed(manifest=str(tmp_path / "m.csv"), batch_size=2)
    ledgers = []
    for cache in (0.0, 1.0):
        out = tmp_path / f"run{cache}"
        train(config.changed(out=str(out), cache_gib=cache), stop_after_steps=2)
        result = train(config.changed(out=str(out), cache_gib=cache), resume=True)
        ledgers.append([json.loads(line) for line in (out / "damaged.jsonl").read_text().splitlines()])
        assert [d.video for d in result.damaged] == [d["video"] for d in ledgers[-1]], "once, however often it is read"
        assert [h.train_clips for h in result.history] == [2, 2, 2]
        assert result.failures == ()
    for ledger in ledgers:
        assert [(d["video"], d["split"]) for d in ledger] == [("hurt.mp4", "train")]
        assert ledger[0]["frames_corrupt"] + ledger[0]["frames_substituted"] > 0


def test_unknown_split(train_config: TrainConfig) -> None:
    with pytest.raises(DatasetError, match="no video in split 'holdout'; its splits are 'train', 'val'"):
        train(train_config.changed(val_split="holdout"))


def test_multi_label_training(train_config: TrainConfig, validated_videos: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in validated_videos.read_text().splitlines()[1:]]
    manifest = tmp_path / "tags.csv"
    lines = [f"{validated_videos.parent / r[0]},#all #{r[1]},{r[2]}\n" for r in rows]
    manifest.write_text("path,tags,split\n" + "".join(lines))
    result = train(train_config.changed(manifest=str(manifest), label_column="tags"))
    assert result.labels == ("#all", "#move_left", "#move_right")
    assert result.evaluation is not None
    assert result.evaluation.confusion is None
    assert result.history[-1].loss < math.log(3) + 0.5


def test_mixed_precision_trains_float32_weights(train_config: TrainConfig) -> None:
    result = train(train_config.changed(precision="bf16", epochs=1, warmup_epochs=0))
    assert math.isfinite(result.history[0].loss)
    assert {t.dtype for t in load_checkpoint(result.last).model.parameters()} == {torch.float32}


def test_memory_layout_and_execution_do_not_change_what_is_computed(train_config: TrainConfig, tmp_path: Path) -> None:
    losses = []
    for channels_last in (True, False):
        config = elsewhere(train_config, tmp_path, str(channels_last))
        config = config.changed(channels_last=channels_last, epochs=1, warmup_epochs=0)
        losses.append(train(config).history[0].loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_model_on_disk_is_the_one_in_memory(train_config: TrainConfig) -> None:
    result = train(train_config.changed(epochs=1, warmup_epochs=0))
    checkpoint = load_checkpoint(result.last)
    assert weights_sha256(checkpoint.model.state_dict()) == checkpoint.weights_sha256


def test_a_batch_norm_without_statistics_is_said(train_config: TrainConfig) -> None:
    """One clip whose last map is a single position: torch's own words name no setting."""
    spec = dataclasses.replace(SPEC, crop=16)
    config = train_config.changed(clip_spec=spec, batch_size=1, epochs=1, warmup_epochs=0)
    with pytest.raises(InvalidRequest, match="larger batch_size or crop, or batch_norm frozen"):
        train(config)


_KILL_READER = """
import json, multiprocessing, sys
from tenclip_api.errors import TenclipError
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.train import train

def kill_reader(progress):
    if progress.stage == "train":
        for child in multiprocessing.active_children():
            child.kill()

try:
    train(TrainConfig.from_dict(json.loads(sys.argv[1])), progress=kill_reader)
except TenclipError as error:
    print(error.message)
"""


def test_a_reading_process_that_dies_ends_the_run_with_what_to_do(train_config: TrainConfig) -> None:
    """In a process of its own: torch raises in the main thread when a reader dies, wherever that is just then."""
    config = train_config.changed(workers=1, epochs=200, warmup_epochs=0, val_split=None)
    ran = subprocess.run(
        [sys.executable, "-c", _KILL_READER, json.dumps(config.to_dict())], capture_output=True, text=True, timeout=200
    )
    assert re.search(r"a process that reads clips has died.* --resume .*fewer --workers", ran.stdout), ran.stderr
