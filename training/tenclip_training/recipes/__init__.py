"""Recipes: the settings of the papers' runs, each a function that returns a TrainConfig.

>>> config = find_recipe("ig65m/table8/ig-kinetics-65m")("videos.csv", "run")
>>> config.epochs, config.optimizer.lr, config.schedule.lr_steps
(58, 3e-05, (16.0, 16.0))
"""

from __future__ import annotations

import difflib
from functools import cache

from tenclip_api.errors import InvalidRequest
from tenclip_training.recipes import distinit, ig65m, megascale, omnisource
from tenclip_training.recipes.demo import DEMO
from tenclip_training.recipes.recipe import Recipe

__all__ = ["Recipe", "all_recipes", "find_recipe"]


@cache
def all_recipes() -> dict[str, Recipe]:
    """Every recipe by its name, in the order of the papers."""
    papers = (*ig65m.recipes(), *omnisource.recipes(), *megascale.recipes(), *distinit.recipes())
    return {r.name: r for r in (DEMO, *papers)}


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises InvalidRequest, with names that are near."""
    known = all_recipes()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`tenclip recipes` lists them"
        raise InvalidRequest(f"no recipe {name!r}; {hint}")
    return known[name]
