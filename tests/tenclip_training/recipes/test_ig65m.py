"""Every row of tables 8 to 17, typed from the paper a second time: as text, as the tables print it."""

from __future__ import annotations

import pytest

from tenclip_training.recipes import all_recipes, find_recipe
from tenclip_training.runs.schedules import build_schedule

# name | architecture | frames | batch a GPU | total length | LR per GPU | warm-up | LR steps | rate on 64 GPUs
TABLES = """
table8/ig-kinetics-500k          | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table8/ig-kinetics-1m            | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table8/ig-kinetics-5m            | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table8/ig-kinetics-10m           | r2plus1d_34  |  8 | 16 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table8/ig-kinetics-19m           | r2plus1d_34  |  8 | 16 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table8/ig-kinetics-65m           | r2plus1d_34  |  8 | 16 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table9/r2plus1d-18               | r2plus1d_18  | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table9/r2plus1d-34               | r2plus1d_34  | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table9/r2plus1d-101              | r2plus1d_101 | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table9/r2plus1d-152              | r2plus1d_152 | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table10/675-labels               | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table10/1350-labels              | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table10/2700-labels              | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table10/5400-labels              | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table10/10653-labels             | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table11/20-labels                | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table11/45-labels                | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table11/90-labels                | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table11/180-labels               | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table11/359-labels               | r2plus1d_34  |  8 | 16 |  58 | 0.0003   | 16 | 16,16    | 0.0192
table12/imagenet                 | torchvision_r3d_18 | 8 | 16 | 167 | 0.01    | 20 | 40,40,40 | 0.64
table12/ig-kinetics-19m-images   | torchvision_r3d_18 | 8 | 16 |  96 | 0.00025 | 20 | 20,20,20 | 0.016
table12/ig-kinetics-250m-images  | torchvision_r3d_18 | 8 | 16 |  96 | 0.0025  | 20 | 20,20,20 | 0.16
table12/ig-kinetics-19m-frames   | torchvision_r3d_18 | 8 | 16 |  96 | 0.0005  | 20 | 20,20,20 | 0.032
table12/ig-kinetics-19m-clips    | torchvision_r3d_18 | 8 | 16 | 188 | 0.01    | 40 | 40,40,40 | 0.64
table13/r2plus1d-34-sports-1m    | r2plus1d_34  | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table13/r2plus1d-34-ig-kinetics  | r2plus1d_34  | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table13/r2plus1d-152-ig-kinetics | r2plus1d_152 | 32 |  6 |  58 | 0.00003  | 16 | 16,16    | 0.00192
table14/ig-kinetics-500k         | r2plus1d_34  |  8 | 16 |  27 | 0.0005/0.0005    | 0 | 9,9,9 | 0.032/0.032
table14/ig-kinetics-1m           | r2plus1d_34  |  8 | 16 |  27 | 0.0005/0.0005    | 0 | 9,9,9 | 0.032/0.032
table14/ig-kinetics-5m           | r2plus1d_34  |  8 | 16 |  27 | 0.0005/0.0001    | 0 | 9,9,9 | 0.032/0.0064
table14/ig-kinetics-10m          | r2plus1d_34  |  8 | 16 |  27 | 0.00025/0.0001   | 0 | 9,9,9 | 0.016/0.0064
table14/ig-kinetics-19m          | r2plus1d_34  |  8 | 16 |  27 | 0.00025/0.0001   | 0 | 9,9,9 | 0.016/0.0064
table14/ig-kinetics-65m          | r2plus1d_34  |  8 | 16 |  27 | 0.00025/0.0001   | 0 | 9,9,9 | 0.016/0.0064
table14/kinetics                 | r2plus1d_34  |  8 | 16 |  27 | 0.00025/0.0001   | 0 | 9,9,9 | 0.016/0.0064
table15/r2plus1d-18              | r2plus1d_18  | 32 |  6 |  27 | 0.00005/0.00025  | 0 | 9,9,9 | 0.0032/0.016
table15/r2plus1d-34              | r2plus1d_34  | 32 |  6 |  27 | 0.000025/0.00025 | 0 | 9,9,9 | 0.0016/0.016
table15/r2plus1d-101             | r2plus1d_101 | 32 |  6 |  27 | 0.000025/0.0001  | 0 | 9,9,9 | 0.0016/0.0064
table15/r2plus1d-152             | r2plus1d_152 | 32 |  6 |  27 | 0.00005/0.0001   | 0 | 9,9,9 | 0.0032/0.0064
table16/r2plus1d-34-kinetics     | r2plus1d_34  | 32 |  6 |  27 | 0.0025/0.0025    | 0 | 9,9,9 | 0.16/0.16
table16/r2plus1d-34-sports-1m    | r2plus1d_34  | 32 |  6 |  27 | 0.0025/0.0025    | 0 | 9,9,9 | 0.16/0.16
table16/r2plus1d-34-ig-kinetics  | r2plus1d_34  | 32 |  6 |  27 | 0.000025/0.00025 | 0 | 9,9,9 | 0.0016/0.016
table16/r2plus1d-152-ig-kinetics | r2plus1d_152 | 32 |  6 |  27 | 0.00005/0.0001   | 0 | 9,9,9 | 0.0032/0.0064
table17/r2plus1d-34-kinetics     | r2plus1d_34  | 32 |  6 |  16 | 0.001   | 0 | 6,6 | 0.064
table17/r2plus1d-34-sports-1m    | r2plus1d_34  | 32 |  6 |  16 | 0.001   | 0 | 6,6 | 0.064
table17/r2plus1d-34-ig-kinetics  | r2plus1d_34  | 32 |  6 |  16 | 0.00025 | 0 | 6,6 | 0.016
table17/r2plus1d-152-ig-kinetics | r2plus1d_152 | 32 |  6 |  16 | 0.00013 | 0 | 12  | 0.00832
"""


def rows() -> list[tuple[str, list[str]]]:
    """A row for each recipe: those of EPIC-Kitchens are one for verbs and one for nouns."""
    found = []
    for line in TABLES.strip().splitlines():
        name, *cells = (cell.strip() for cell in line.split("|"))
        rates, totals = cells[4].split("/"), cells[7].split("/")
        for i, suffix in enumerate(("-verb", "-noun") if len(rates) == 2 else ("",)):
            found.append((f"ig65m/{name}{suffix}", [*cells[:4], rates[i], *cells[5:7], totals[i]]))
    return found


def test_there_is_a_recipe_for_every_row_and_no_other() -> None:
    names = [name for name, _ in rows()]
    assert len(names) == 62
    assert names == [name for name in all_recipes() if name.startswith("ig65m/table")]


@pytest.mark.parametrize(("name", "cells"), rows(), ids=[name for name, _ in rows()])
def test_the_row_is_that_of_the_paper(name: str, cells: list[str]) -> None:
    architecture, frames, batch, total, rate, warmup, steps, total_rate = cells
    recipe = find_recipe(name)
    assert recipe.place.startswith(f"table {name.split('/')[1].removeprefix('table')}, row ")
    config = recipe("videos.csv", "run")
    assert (config.architecture, config.batch_size, config.epochs) == (architecture, int(batch), int(total))
    assert config.resolve_clip_spec().num_frames == int(frames)
    assert (config.optimizer.lr, config.optimizer.lr_scaling) == (float(rate), "linear")
    assert config.schedule.warmup_epochs == float(warmup)
    assert ",".join(f"{s:g}" for s in config.schedule.lr_steps) == steps
    assert (config.schedule.lr_factor, config.optimizer.weight_decay) == (0.1, 1e-4)
    assert (config.optimizer.nesterov, config.optimizer.decay_all) == (False, True)
    schedule = build_schedule(
        config.schedule, config.optimizer, epochs=config.epochs, steps_per_epoch=10, world_size=recipe.gpus
    )
    assert schedule.rate(round(10 * float(warmup))) == pytest.approx(float(total_rate))
    assert recipe.starts_from
    assert config.label_column == (name.rsplit("-", 1)[1] if name.endswith(("-verb", "-noun")) else None)


@pytest.mark.parametrize(("frames", "batch"), [(8, 16), (32, 6)])
def test_pre_training_is_section_3_3(frames: int, batch: int) -> None:
    recipe = find_recipe(f"ig65m/pretrain/{frames}f")
    config = recipe("videos.parquet", "run")
    spec = config.resolve_clip_spec()
    assert (spec.num_frames, spec.crop, spec.resize.height, spec.resize.width) == (frames, 112, 128, 171)
    assert (recipe.gpus, config.batch_size) == (128, batch)
    assert config.sampling.draws is not None
    assert config.epochs * config.sampling.draws == 490_000_000
    assert (config.sampling.class_power, config.sampling.tags) == (0.5, "draw")
    schedule = build_schedule(
        config.schedule, config.optimizer, epochs=config.epochs, steps_per_epoch=100, world_size=128
    )
    rates = [schedule.rate(s) for s in range(schedule.warmup_steps, 49_000)]
    assert rates[0] == pytest.approx(0.192)
    assert rates[-1] == pytest.approx(0.192 / 2**13)
    assert len(set(rates)) == 14


def test_what_is_ours_is_said() -> None:
    for recipe in all_recipes().values():
        assert recipe.ours, recipe.name
        assert recipe.source
