from __future__ import annotations

import pytest

from tenclip_training.models import ARCHITECTURES
from tenclip_training.recipes import all_recipes, find_recipe


@pytest.mark.parametrize("name", [n for n in all_recipes() if n.startswith("megascale/")])
def test_the_settings_are_those_of_section_3_4(name: str) -> None:
    config = find_recipe(name)("videos.csv", "run")
    spec = config.resolve_clip_spec()
    assert (spec.num_frames, spec.crop) == (16, 112)
    assert (config.optimizer.algorithm, config.optimizer.momentum) == ("sgd", 0.9)
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (0.003, 0.001)
    assert (config.schedule.kind, config.schedule.plateau_patience) == ("plateau", 10)
    augmentation = config.augmentation
    assert augmentation.scales == pytest.approx((1, 2**-0.25, 2**-0.5, 2**-0.75, 0.5))
    assert (augmentation.crop_at, augmentation.flip) == ("corners", True)
    assert config.architecture in ARCHITECTURES


def test_all_depths_of_both_networks_are_there() -> None:
    names = [n for n in all_recipes() if n.startswith("megascale/")]
    for kind in ("r3d", "r2plus1d"):
        assert [n for n in names if n.startswith(f"megascale/pretrain/{kind}-")] == [
            f"megascale/pretrain/{kind}-{depth}" for depth in (18, 34, 50, 101, 152, 200)
        ]


def test_variants_of_the_fine_tuning_train_fewer_layers() -> None:
    fc = find_recipe("megascale/finetune-fc/r3d-50")("v.csv", "run")
    last = find_recipe("megascale/finetune-layer4/r3d-50")("v.csv", "run")
    assert (fc.transfer.fc_only, last.transfer.freeze_to) == (True, "layer3")
