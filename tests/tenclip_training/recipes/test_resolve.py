from __future__ import annotations

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_training.recipes import find_recipe
from tenclip_training.recipes.resolve import resolve_config

PLACE = {"manifest": "m.csv", "out": "run"}


def test_assignments_win_over_options_and_those_over_the_recipe() -> None:
    plain = resolve_config(PLACE, recipe="demo")
    assert (plain.optimizer.lr, plain.model, plain.epochs) == (0.002, {"width": 16, "stem_pool": True}, 30)
    flags = {**PLACE, "lr": 0.1, "epochs": 20, "model": ["bn_eps=1e-5"]}
    config = resolve_config(flags, recipe="demo", assignments=["optimizer.lr=0.5", "seed=3", "val_split=none"])
    assert (config.optimizer.lr, config.epochs, config.seed, config.val_split) == (0.5, 20, 3, None)
    assert config.model == {"width": 16, "stem_pool": True, "bn_eps": 1e-5}


def test_defaults_follow_from_the_other_values() -> None:
    assert resolve_config({**PLACE, "epochs": 4}).schedule.warmup_epochs == 2
    assert resolve_config(PLACE, assignments=["epochs=4"]).schedule.warmup_epochs == 2


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.learning=1", r"no field is called optimizer\.learning"),
        ("schedule.lr=1", r"no field is called schedule\.lr; did you mean"),
        ("optimizer.lr", "write FIELD=VALUE"),
        ("optimizer.lr=fast", r"--set optimizer\.lr must be a number, got 'fast'"),
        ("optimizer.lr=-1", r"--set optimizer\.lr: lr must be above 0"),
        ("lr_steps=3,x", "write epochs with commas"),
        ("optimizer.algorithm=adam", "not one of sgd, adamw"),
        ("epochs=none", "must be a whole number"),
    ],
)
def test_assignments_that_cannot_work_are_named(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_config(PLACE, assignments=[assignment])


def test_a_recipe_that_fine_tunes_needs_something_to_start_from() -> None:
    name = "ig65m/table17/r2plus1d-152-ig-kinetics"
    with pytest.raises(InvalidRequest, match=r"fine-tunes R\(2\+1\)D-152 pre-trained on IG-Kinetics-65M"):
        resolve_config(PLACE, recipe=name)
    assert resolve_config({**PLACE, "init_from": "x.pt"}, recipe=name).epochs == 16


def test_unknown_recipes_suggest_others() -> None:
    with pytest.raises(InvalidRequest, match="did you mean ig65m/table8/ig-kinetics-65m"):
        find_recipe("ig65m/table8/ig-kinetic-65m")
    with pytest.raises(InvalidRequest, match="`tenclip recipes` lists them"):
        find_recipe("?")
