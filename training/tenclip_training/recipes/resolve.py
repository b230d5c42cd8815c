"""The config of a run from a recipe, options and `--set`, each winning over the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tenclip_api.errors import InvalidRequest
from tenclip_settings import build, flag_values, parse_assignments
from tenclip_training.recipes import find_recipe
from tenclip_training.runs.config import Config, TrainConfig


def resolve_config(
    flags: Mapping[str, Any], *, recipe: str | None = None, assignments: Sequence[str] = ()
) -> TrainConfig:
    """That of `tenclip train`, see `resolve_config_of`."""
    return resolve_config_of(TrainConfig, flags, recipe=recipe, assignments=assignments)


def resolve_config_of(
    kind: type[Config], flags: Mapping[str, Any], *, recipe: str | None = None, assignments: Sequence[str] = ()
) -> Config:
    """flags: options as typer gives them, manifest and out among them; assignments: texts of `--set`.

    Raises ValueError for a value that cannot work; InvalidRequest for a recipe that does not exist or is for another
    command, and for one that fine-tunes where nothing says from what.
    """
    values = {**flag_values(kind, flags), **parse_assignments(kind, assignments)}
    if recipe is None:
        return build(kind, values)
    found = find_recipe(recipe)
    if found.config_type is not kind:
        raise InvalidRequest(f"recipe {recipe} is for tenclip {found.command}")
    # --model-option adds to the recipe's.
    if "model" in values and "model" in found.values:
        values["model"] = {**found.values["model"], **values["model"]}
    config = build(kind, {**found.values, **values})
    if found.starts_from and config.transfer.init_from is None:
        raise InvalidRequest(
            f"recipe {recipe} fine-tunes {found.starts_from}: name its checkpoint, or your own, with --init-from"
        )
    return config
