"""The numbers of DistInit's section 3.2."""

from __future__ import annotations

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.distill import DistillConfig
from tenclip_training.models import ARCHITECTURES
from tenclip_training.recipes import all_recipes, find_recipe
from tenclip_training.recipes.resolve import resolve_config
from tenclip_training.runs.schedules import build_schedule

NAMES = [name for name in all_recipes() if name.startswith("distinit/")]


def rates(name: str, epochs: tuple[float, ...], *, gpus: int) -> list[float]:
    """The rate at those epochs, of all GPUs together, over that of one."""
    config = find_recipe(name)("videos", "run")
    schedule = build_schedule(
        config.schedule, config.optimizer, epochs=config.epochs, steps_per_epoch=100, world_size=gpus
    )
    return [schedule.rate(int(epoch * 100), []) / gpus for epoch in epochs]


def test_pre_training() -> None:
    recipe = find_recipe("distinit/pretrain/r2plus1d-18")
    config = recipe("videos", "run")
    assert isinstance(config, DistillConfig)
    assert (recipe.gpus, config.batch_size, config.epochs, config.sampling.draws) == (64, 24, 45, 1_000_000)
    assert (config.optimizer.weight_decay, config.optimizer.momentum) == (1e-4, 0.9)
    spec = config.resolve_clip_spec()
    assert (spec.num_frames, spec.crop, spec.resize.height, spec.resize.width) == (8, 112, 128, 171)
    assert (config.teaching.teacher_frames, config.teaching.teacher_frame_count) == ("random", 1)
    assert (config.teaching.distill_loss, config.teaching.temperature) == ("cross-entropy", 1)
    expected = [0.01, 0.01, 0.001, 0.0001, 0.00001, 0.000001]
    assert rates(recipe.name, (0, 9.99, 10, 20, 30, 44), gpus=64) == pytest.approx(expected)


def test_variants_of_the_tables() -> None:
    def of(name: str) -> DistillConfig:
        config = find_recipe(f"distinit/pretrain/{name}")("videos", "run")
        assert isinstance(config, DistillConfig)
        return config

    assert of("r2plus1d-18-center").teaching.teacher_frames == "center"
    assert of("r2plus1d-18-2random").teaching.teacher_frame_count == 2
    mse = of("r3d-18-mse")
    assert (mse.teaching.distill_loss, mse.optimizer.lr) == ("mse", 0.001)
    assert of("r3d-18-entropy").teaching.max_entropy == (2.7,)
    assert of("r2plus1d-18-32f").resolve_clip_spec().num_frames == 32
    flow = of("r2plus1d-18-flow").resolve_clip_spec()
    assert (flow.modality, flow.mean, flow.std, flow.value_range) == ("flow", (128.0,) * 3, (128.0,) * 3, "0-255")
    inflated = find_recipe("distinit/finetune-inflated/hmdb-flow")("list.csv", "run")
    assert (inflated.clip.modality, inflated.transfer.inflate) == ("flow", True)


def test_fine_tuning() -> None:
    for target in ("hmdb", "ucf"):
        recipe = find_recipe(f"distinit/finetune/{target}")
        config = recipe("list.csv", "run")
        assert (recipe.gpus, config.epochs, config.sampling.draws) == (16, 8, 40_000)
        assert config.optimizer.weight_decay == 5e-3
        expected = [0.002, 0.002, 0.0002, 0.00002, 0.000002]
        assert rates(recipe.name, (0, 1.99, 2, 4, 6), gpus=16) == pytest.approx(expected)
    assert find_recipe("distinit/finetune/hmdb-32f")("l", "r").resolve_clip_spec().num_frames == 32


def test_from_scratch_and_inflated() -> None:
    scratch = find_recipe("distinit/scratch/hmdb-r2plus1d-18")
    config = scratch("list.csv", "run")
    assert (config.epochs, config.optimizer.lr, config.optimizer.weight_decay) == (45, 0.01, 5e-3)
    assert rates(scratch.name, (0, 10, 20, 30, 40), gpus=16) == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
    inflated = find_recipe("distinit/finetune-inflated/ucf")("list.csv", "run")
    assert (inflated.transfer.inflate, inflated.transfer.inflate_scale) == (True, False)
    assert inflated.optimizer.lr == 0.002


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_makes_a_config(name: str) -> None:
    recipe = find_recipe(name)
    config = recipe("videos", "run")
    assert config.architecture in ARCHITECTURES
    assert (config.optimizer.nesterov, config.optimizer.decay_all, config.schedule.warmup_epochs) == (False, True, 0)
    assert config.augmentation.flip is True
    assert recipe.to_dict()["command"] == ("distill" if "/pretrain/" in name else "train")
    assert recipe.ours


def test_recipes_of_distillation_are_not_those_of_training() -> None:
    with pytest.raises(InvalidRequest, match="is for tenclip distill"):
        resolve_config({"manifest": "v", "out": "r"}, recipe="distinit/pretrain/r3d-18")
