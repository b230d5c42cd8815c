from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tenclip_api.errors import InvalidRequest
from tenclip_training.models import ARCHITECTURES, VideoModel, create_model
from tenclip_training.models.video_model import eval_mode
from tenclip_training.runs.checkpoint import load_checkpoint, save_checkpoint
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.dry_run import plan_run
from tenclip_training.runs.optimization import Updater, build_optimizer
from tenclip_training.runs.sections import OptimizerConfig, TransferConfig
from tenclip_training.runs.setup import build_model
from tenclip_training.runs.train import train
from tenclip_training.runs.transfer import (
    classifier_note,
    classifier_weights,
    freeze,
    parameter_groups,
    prepare_transfer,
)
from tests.tenclip_training.conftest import SPEC
from tests.tenclip_training.models.helpers import distinct_architectures, randomise_batch_norm, small

CPU = torch.device("cpu")
LABELS = ("wave", "jump", "sit")  # not those of the videos, which are move_left and move_right


def network(**values: Any) -> VideoModel:
    return create_model("r2plus1d_10", **{"num_classes": 3, "width": 4, "num_frames": 4, "crop": 16, **values})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network of other classes, whose batch norms have seen something."""
    torch.manual_seed(5)
    path = tmp_path / "start.pt"
    save_checkpoint(path, randomise_batch_norm(network()), clip_spec=SPEC, labels=LABELS, provenance={})
    return path


@pytest.fixture
def config(train_config: TrainConfig, checkpoint: Path) -> TrainConfig:
    """Fine-tuning of it for two epochs, with a rate that moves everything that is not held."""
    return train_config.changed(
        init_from=str(checkpoint), clip_spec=None, model={}, epochs=2, warmup_epochs=0, lr=0.1, val_every=2
    )


def state(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).model.state_dict()


def changed_names(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {n for n in before if before[n].shape != after[n].shape or not torch.equal(before[n], after[n])}


# -- stages --


@pytest.mark.parametrize("architecture", distinct_architectures())
def test_stages_are_all_the_weights_once_and_in_order(architecture: str) -> None:
    model = small(architecture, width=8)
    stages = model.stages()
    inside = [p for parts in stages.values() for part in parts for p in part.parameters()]
    assert {id(p) for p in inside} == {id(p) for p in model.parameters()}
    assert len(inside) == len(list(model.parameters()))
    assert next(reversed(stages)) == "fc"


@pytest.mark.parametrize(
    "architecture", ["r2plus1d_10", "slowonly_r50", "pytorchvideo_slowfast_r50", "mmaction2_x3d_s"]
)
def test_stages_of_residual_networks_have_their_names(architecture: str) -> None:
    names = list(small(architecture, width=8).stages())
    assert names[:5] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert names[-1] == "fc"


def test_stages_of_networks_without_layers() -> None:
    assert list(small("tsn_efficientnet_lite0").stages()) == [
        "stem", *(f"block{i}" for i in range(1, 8)), "last", "fc"
    ]  # fmt: skip
    assert list(small("i3d", width=8).stages())[:4] == ["conv_1a", "conv_2b", "conv_2c", "mixed_3b"]


def test_a_stage_comes_before_the_next_in_the_data() -> None:
    """What is frozen up to a stage gets no gradient from anything behind it: no later stage feeds an earlier one."""
    for architecture in ("resnets3d_r3d_18", "pytorchvideo_slowfast_r50", "tsn_efficientnet_lite0"):
        model = small(architecture, width=8)
        stage_of = {part: name for name, parts in model.stages().items() for part in parts}
        order: list[str] = []
        for part in stage_of:
            part.register_forward_hook(lambda m, i, o, seen=order, names=stage_of: seen.append(names[m]))
        frames = model.config["num_frames"]
        model(torch.zeros(1, 3, frames, 64, 64))
        assert list(dict.fromkeys(order)) == list(model.stages()), architecture


# -- what stays --


def test_fc_only_leaves_the_features_as_they_were(config: TrainConfig, checkpoint: Path) -> None:
    result = train(config.changed(fc_only=True))
    before, after = load_checkpoint(checkpoint).model, load_checkpoint(result.last).model
    assert changed_names(before.state_dict(), after.state_dict()) == {"fc.weight", "fc.bias"}
    clip = torch.randn(2, 3, 4, 16, 16)
    assert torch.equal(before(clip)[1], after(clip)[1]), "bit for bit"


def test_frozen_stages_keep_weights_and_statistics(config: TrainConfig, checkpoint: Path) -> None:
    result = train(config.changed(freeze_to="layer2", weight_decay=0.01))
    changed = changed_names(state(checkpoint), state(result.last))
    assert not any(name.startswith(("stem.", "layer1.", "layer2.")) for name in changed)
    assert {n for n in state(checkpoint) if n.startswith(("layer3.", "layer4.", "fc."))} == changed


def test_frozen_batch_norm_keeps_statistics_and_trains_gains(config: TrainConfig, checkpoint: Path) -> None:
    result = train(config.changed(batch_norm="frozen", val_every=1))
    before, after = state(checkpoint), state(result.last)
    statistics = {n for n in before if n.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert changed_names(before, after) == set(before) - statistics


def test_without_it_statistics_move(config: TrainConfig, checkpoint: Path) -> None:
    result = train(config)
    assert changed_names(state(checkpoint), state(result.last)) == set(state(checkpoint))


def test_resuming_is_exact_where_parts_are_frozen(config: TrainConfig, tmp_path: Path) -> None:
    base = config.changed(freeze_to="layer1", layer_lr={"layer4": 0.5, "fc": 2.0}, mixup=0.4, val_every=1)
    whole = train(base.changed(out=str(tmp_path / "whole")))
    parts = base.changed(out=str(tmp_path / "parts"))
    for steps in (2, 2):  # once in the middle of an epoch, once after a validation
        train(parts, resume=True, stop_after_steps=steps)
    resumed = train(parts, resume=True)
    assert resumed.completed
    assert changed_names(state(whole.last), state(resumed.last)) == set()


def test_evaluation_leaves_every_part_in_its_mode() -> None:
    model = network()
    freeze(model, TransferConfig(freeze_to="layer1"))
    before = [part.training for part in model.modules()]
    with eval_mode(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before
    assert True in before
    assert False in before


# -- the optimiser --


def test_the_optimiser_holds_no_frozen_parameters() -> None:
    model = network()
    freeze(model, TransferConfig(freeze_to="layer3"))
    held = {id(p) for g in build_optimizer(model, OptimizerConfig()).param_groups for p in g["params"]}
    assert held == {id(p) for name, p in model.named_parameters() if name.startswith(("layer4.", "fc."))}


def test_rates_by_stage_keep_the_rule_of_weight_decay() -> None:
    model = network()
    config = OptimizerConfig(weight_decay=0.1, layer_lr={"stem": 0, "layer4": 0.5, "fc": 10})
    found = {}
    for group in parameter_groups(model, config):
        for p in group["params"]:
            found[id(p)] = (group["lr_factor"], group["weight_decay"])
    assert len(found) == len(list(model.parameters()))
    factors = {"stem": 0.0, "layer4": 0.5, "fc": 10.0}
    for name, p in model.named_parameters():
        assert found[id(p)] == (factors.get(name.split(".")[0], 1.0), 0.1 if p.ndim > 1 else 0.0), name


def test_a_step_moves_each_stage_by_its_share() -> None:
    """With plain SGD and a gradient of ones a weight moves by rate times factor."""
    model = network()
    config = OptimizerConfig(momentum=0, nesterov=False, weight_decay=0, layer_lr={"layer1": 0.25, "fc": 2, "stem": 0})
    updater = Updater(model, config, device=CPU, precision="fp32")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    updater.add(sum(p.sum() for p in model.parameters()))  # type: ignore[arg-type]
    updater.step(learning_rate=0.5)
    for name, p in model.named_parameters():
        share = {"stem": 0.0, "layer1": 0.25, "fc": 2.0}.get(name.split(".")[0], 1.0)
        torch.testing.assert_close(before[name] - p, torch.full_like(p, 0.5 * share), msg=name)


def test_a_rate_of_zero_leaves_weights_to_the_bit(config: TrainConfig, checkpoint: Path) -> None:
    """VMZ's fine-tuning: nothing for the stem."""
    result = train(config.changed(layer_lr={"stem": 0}, algorithm="adamw", lr=0.01, epochs=1))
    moved = {n for n in changed_names(state(checkpoint), state(result.last)) if n.startswith("stem.")}
    assert moved == {n for n in state(checkpoint) if n.startswith("stem.") and n.endswith(("mean", "var", "tracked"))}


# -- what cannot be --


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze_to": "layer5"},
            "freeze_to 'layer5' is no stage of r2plus1d_10, which has stem, layer1, layer2, layer3",
        ),
        ({"freeze_to": "fc"}, "freeze_to fc leaves nothing to train; stages before it: stem, layer1"),
        ({"layer_lr": {"conv5": 0.1}}, "layer_lr 'conv5' is no stage of r2plus1d_10"),
        ({"freeze_to": "layer2", "layer_lr": {"layer1": 0.1}}, "layer_lr layer1=0.1: layer1 is frozen"),
        ({"fc_only": True, "layer_lr": {"fc": 0}}, "nothing is trained"),
        ({"batch_norm": "sync"}, "batch_norm sync runs on GPUs only"),
        ({"inflate": True, "architecture": "resnets3d_r3d_18"}, "a r2plus1d_10, which looks over time already"),
    ],
)
def test_what_cannot_be_trained_is_said(config: TrainConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        train(config.changed(**changes))
    assert not Path(config.out).exists(), "nothing was begun"


@pytest.mark.parametrize(
    "changes", [{"fc_only": True}, {"freeze_to": "stem"}, {"batch_norm": "frozen"}, {"inflate": True}]
)
def test_random_weights_are_not_frozen(train_config: TrainConfig, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="needs init_from: without a checkpoint the weights are random"):
        train(train_config.changed(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fc_only": True, "freeze_to": "stem"}, "leave out freeze_to"),
        ({"fc_only": True, "batch_norm": "sync"}, "freezes every batch norm"),
        ({"layer_lr": {"fc": -1}}, "layer_lr of fc must be a number from 0 on, got -1"),
        ({"layer_lr": {"fc": "fast"}}, "got 'fast'"),
        ({"layer_lr": {"fc": float("nan")}}, "got nan"),
        ({"mixup": -0.1}, "mixup must be at least 0"),
    ],
)
def test_values_that_cannot_be(train_config: TrainConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_config.changed(**changes)


def test_synchronised_batch_norm_takes_the_place_of_every_other() -> None:
    """On a GPU; what is converted, and that the weights are the same ones, shows here too."""
    model = network()
    freeze(model, TransferConfig(freeze_to="stem"))
    before = dict(model.named_parameters())
    prepare_transfer(model, TransferConfig(batch_norm="sync"), torch.device("cuda"))
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm)]
    assert all(isinstance(part, nn.SyncBatchNorm) for part in norms)
    assert all(before[name] is p for name, p in model.named_parameters())
    assert not any(part.training for part in model.stages()["stem"][0].modules())
    save_names = create_model("r2plus1d_10", num_classes=3, width=4).state_dict().keys()
    assert model.state_dict().keys() == save_names


# -- the classifier, and what is said of it --


def test_rows_of_the_classifier_follow_their_labels() -> None:
    weights = {"fc.weight": torch.tensor([[1.0], [2.0], [3.0]]), "fc.bias": torch.tensor([1.0, 2.0, 3.0])}
    fresh = {"fc.weight": torch.zeros(3, 1), "fc.bias": torch.zeros(3)}
    moved = classifier_weights(weights, fresh, ("a", "b", "c"), ("c", "a", "b"))
    assert moved["fc.bias"].tolist() == [3, 1, 2]
    assert moved["fc.weight"].flatten().tolist() == [3, 1, 2]
    anew = classifier_weights(weights, fresh, ("a", "b", "c"), ("c", "a", "d"))
    assert anew["fc.bias"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("was", "count", "expected"),
    [
        (None, 0, "begins anew with 2 classes: the checkpoint names none"),
        (None, 400, "that of the checkpoint has 400, which have no names"),
        (("a", "b"), 2, "is kept: the same 2 classes"),
        (("b", "a"), 2, "is kept: the same 2 classes in another order"),
        (("a", "c", "d"), 3, "begins anew with 2 classes: the checkpoint has 3, of which 1 are the same"),
    ],
)
def test_what_became_of_the_classifier(was: tuple[str, ...] | None, count: int, expected: str) -> None:
    assert classifier_note(was, count, ("a", "b")).endswith(expected)


def test_what_is_trained_is_said(config: TrainConfig) -> None:
    notes: list[str] = []
    changed = config.changed(freeze_to="layer3", batch_norm="frozen", layer_lr={"fc": 10}, mixup=0.2, epochs=1)
    train(changed, on_note=notes.append)
    origin, trained, norms, rates, mixup = notes
    assert origin.startswith(
        f"starts from {config.transfer.init_from}, a r2plus1d_10; its classifier begins anew with 2"
    )
    assert origin.endswith("the checkpoint has 3, of which 0 are the same")
    model = build_model(changed, ("move_left", "move_right")).model
    tail = sum(p.numel() for n, p in model.named_parameters() if n.startswith(("layer4.", "fc.")))
    every = sum(p.numel() for p in model.parameters())
    assert trained == f"trained: layer4, fc, {tail:,} of {every:,} weights; frozen: stem, layer1, layer2, layer3"
    assert "statistics, which stay" in norms
    assert rates == "learning rates by stage: fc x 10, all others x 1"
    assert mixup.startswith("mixup 0.2: clips are blended in pairs")
    assert plan_run(changed).notes == tuple(notes), "--dry-run says the same"
    assert plan_run(changed).trained_parameters == tail


def test_nothing_is_said_of_a_plain_run(train_config: TrainConfig) -> None:
    assert plan_run(train_config).notes == ()


def test_every_architecture_can_be_frozen_but_for_its_classifier() -> None:
    assert len(ARCHITECTURES) > 20
    for name in distinct_architectures():
        model = small(name, width=8).train()
        freeze(model, TransferConfig(fc_only=True))
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}, name
        assert not any(p.training for p in model.modules() if isinstance(p, _BatchNorm)), name
