"""The config of a run from a recipe, options and `--set`, each winning over the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenclip_api.errors import InvalidRequest
from tenclip_settings import flag_values, parse_assignments
from tenclip_training.recipes import find_recipe
from tenclip_training.recipes.recipe import build_config
from tenclip_training.runs.config import TrainConfig


def resolve_config(
    flags: Mapping[str, Any], *, recipe: str | None = None, assignments: Sequence[str] = ()
) -> TrainConfig:
    """flags: options as typer gives them, manifest and out among them; assignments: texts of `--set`.

    Raises ValueError for a value that cannot work; InvalidRequest for a recipe that does not exist, and for one that
    fine-tunes where nothing says from what.
    """
    values = {**flag_values(TrainConfig, flags), **parse_assignments(TrainConfig, assignments)}
    if recipe is None:
        return build_config(values)
    found = find_recipe(recipe)
    # --model-option adds to the recipe's.
    if "model" in values and "model" in found.values:
        values["model"] = {**found.values["model"], **values["model"]}
    config = build_config({**found.values, **values})
    if found.starts_from and config.transfer.init_from is None:
        raise InvalidRequest(
            f"recipe {recipe} fine-tunes {found.starts_from}: name its checkpoint, or your own, with --init-from"
        )
    return config
