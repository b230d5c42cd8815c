"""The settings of the code that OmniSource's authors released, as `papers-spec` of the project has read them."""

from __future__ import annotations

import pytest

from tenclip_training.models import create_model
from tenclip_training.recipes import all_recipes, find_recipe
from tenclip_training.recipes.omnisource import STUDENTS
from tenclip_training.recipes.resolve import resolve_config
from tenclip_training.runs.config import TrainConfig
from tenclip_training.runs.joint import batch_sizes
from tenclip_training.runs.schedules import build_schedule

NAMES = [name for name in all_recipes() if name.startswith("omnisource/")]


def rate_at(config: TrainConfig, epoch: float, *, gpus: int = 8) -> float:
    schedule = build_schedule(
        config.schedule, config.optimizer, epochs=config.epochs, steps_per_epoch=100, world_size=gpus
    )
    return schedule.rate(round(epoch * 100))


def config_of(name: str) -> TrainConfig:
    return find_recipe(name)("target.csv", "run")


@pytest.mark.parametrize("name", NAMES)
def test_each_says_that_the_paper_has_none(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.ours[0].startswith("every value: the paper has no training settings")
    assert recipe.gpus == 8
    config = recipe("target.csv", "run")
    assert (config.optimizer.weight_decay, config.optimizer.decay_all) == (1e-4, True)
    assert (config.optimizer.momentum, config.optimizer.nesterov) == (0.9, False)


@pytest.mark.parametrize(
    ("name", "batch", "rate", "epochs"),
    [
        ("tsn-r50-3seg", 12, 0.01, 100),
        ("tsn-r50-8seg", 12, 0.00375, 100),
        ("slowonly-4x16-r50", 8, 0.1, 256),
        ("slowonly-8x8-r50", 12, 0.15, 256),
        ("slowonly-8x8-r101", 12, 0.15, 256),
        ("ir-csn-152", 3, 0.000125, 58),
    ],
)
def test_batches_rates_and_lengths(name: str, batch: int, rate: float, epochs: int) -> None:
    config = config_of(f"omnisource/target/{name}")
    assert (config.batch_size, config.epochs) == (batch, epochs)
    peak = 16 if name == "ir-csn-152" else 0
    assert rate_at(config, peak) == pytest.approx(rate, rel=1e-3)
    assert not config.joint.aux
    assert not config.joint.ratio


def test_tsn_falls_after_40_and_80_epochs() -> None:
    config = config_of("omnisource/omni/tsn-r50-8seg")
    assert [rate_at(config, e) / 0.00375 for e in (0, 39.9, 40.1, 79.9, 80.1, 99.9)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert config.optimizer.max_gradient_norm == 40
    assert (config.sampling.segments, config.resolve_clip_spec().num_frames) == (8, 1)
    assert config_of("omnisource/omni/tsn-r50-3seg").sampling.segments == 3


def test_csn_warms_up_for_16_epochs_and_falls_after_32_and_48() -> None:
    config = config_of("omnisource/target/ir-csn-152")
    assert rate_at(config, 0) == pytest.approx(0.0000125, rel=0.01)
    assert [rate_at(config, e) / 0.000125 for e in (16, 31.9, 32.1, 47.9, 48.1)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01], rel=1e-3
    )
    assert config_of("omnisource/target-bn-frozen/ir-csn-152").transfer.batch_norm == "frozen"


def test_clips_of_slowonly() -> None:
    for name, frames, stride in (("slowonly-4x16-r50", 4, 16), ("slowonly-8x8-r101", 8, 8), ("ir-csn-152", 32, 2)):
        spec = config_of(f"omnisource/target/{name}").resolve_clip_spec()
        assert (spec.num_frames, spec.frame_stride, spec.crop, spec.resize.short_edge) == (frames, stride, 224, 256)


def test_sources_at_2_1_1_1() -> None:
    aux = ["images.parquet", "clips.parquet", "untrimmed.parquet"]
    flags = {"manifest": "t.csv", "out": "run", "aux": aux, "init_from": "r50.pth"}
    config = resolve_config(flags, recipe="omnisource/omni/tsn-r50-3seg")
    assert batch_sizes(config) == (12, 6, 6, 6)
    assert (config.joint.turns, config.joint.aux_power, config.joint.cross_mixup) == ("union", 0.2, 0.0)
    assert config.stills.images == "replicate"
    config = resolve_config(flags, recipe="omnisource/omni-alternate/tsn-r50-3seg")
    assert batch_sizes(config) == (12, 64, 12, 12)
    assert (config.joint.turns, config.joint.parts) == ("alternate", (2, 1, 1, 1))
    del flags["init_from"]
    config = resolve_config(
        {**flags, "aux": aux[:1]}, recipe="omnisource/omni/slowonly-4x16-r50", assignments=["joint.ratio=2:1"]
    )
    assert batch_sizes(config) == (8, 4)
    assert config.joint.cross_mixup == 0.2, "from scratch"


def test_all_students_are_there_and_can_be_built() -> None:
    for student in STUDENTS:
        assert {f"omnisource/{kind}/{student.name}" for kind in ("target", "omni", "omni-alternate")} <= set(NAMES)
    import torch

    for architecture in {str(s.values["architecture"]) for s in STUDENTS}:
        with torch.device("meta"):
            create_model(architecture, num_classes=400)
