"""`tenclip recipes`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenclip_training.commands.options import Json, print_json


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, or the beginning of its name.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List the settings of published runs, or print one of them with its source.

    Rates are those of one GPU, as the papers print them; the number of their
    GPUs is beside it. `tenclip train --recipe NAME` trains with one.

    \b
    Examples:
      tenclip recipes
      tenclip recipes ig65m/table8
      tenclip recipes ig65m/table8/ig-kinetics-65m
      tenclip recipes megascale/pretrain/r3d-50 --json
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.recipes import all_recipes, find_recipe

    known = all_recipes()
    found = [r for r in known.values() if name is None or r.name.startswith(name)]
    if name in known:
        found = [known[name]]
    if name is not None and not found:
        find_recipe(name)
        raise InvalidRequest(f"no recipe begins with {name!r}")
    if json:
        print_json({"recipes": [r.to_dict() for r in found]})
    elif len(found) == 1:
        _print_one(found[0].to_dict())
    else:
        _print_table([r.to_dict() for r in found])


def _print_table(recipes: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("recipe", "source", "network", "frames", "epochs", "lr a GPU", "GPUs"):
        table.add_column(column, overflow="fold", justify="right" if column in _NUMBERS else "left")
    for r in recipes:
        config = r["config"]
        frames = config["clip"]["num_frames"]
        table.add_row(
            r["name"],
            f"{r['paper']}, {r['place']}",
            config["architecture"],
            str(frames),
            str(config["epochs"]),
            f"{config['optimizer']['lr']:g}",
            str(r["gpus"]),
        )
    Console().print(table)


_NUMBERS = ("frames", "epochs", "lr a GPU", "GPUs")


def _print_one(recipe: dict[str, Any]) -> None:
    typer.echo(f"{recipe['name']}: {recipe['summary']}")
    typer.echo(f"source: {recipe['paper']}, {recipe['place']}; {recipe['gpus']} GPUs")
    if recipe["starts_from"]:
        typer.echo(f"starts from: {recipe['starts_from']} (--init-from)")
    for line in recipe["ours"]:
        typer.echo(f"not the paper's: {line}")
    typer.echo(f"command: tenclip {recipe['command']}")
    for name, value in _set_values(recipe):
        typer.echo(f"  {name} = {value}")


def _set_values(recipe: dict[str, Any]) -> list[tuple[str, object]]:
    """The fields that differ from the defaults, with their sections, and those that every run has."""
    from tenclip_training.recipes import find_recipe

    kind = find_recipe(recipe["name"]).config_type
    default = kind(manifest="", out="").to_dict()
    flat: list[tuple[str, object]] = []
    for name, value in recipe["config"].items():
        if name in kind.sections():
            flat += [(f"{name}.{k}", v) for k, v in value.items() if v != default[name][k]]
        elif value != default[name] or name in ("architecture", "epochs", "batch_size"):
            flat.append((name, value))
    return flat
