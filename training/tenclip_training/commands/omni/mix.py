"""`tenclip omni mix`: auxiliary sets of equal size, of one source and of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tenclip_training.commands.curate.options import LabelColumn, Videos, print_notes
from tenclip_training.commands.options import Json, print_json

if TYPE_CHECKING:
    from tenclip_training.omni.mixes import Mixes


def mix(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Manifests of labelled files; the source of a row is its column source, else the manifest's name.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the manifests.")],
    ratio: Annotated[
        list[str] | None,
        typer.Option(help="Of a mixture, in the order of the sources. Repeat for more.", show_default="equal parts"),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Files in each manifest.", show_default="as many as all can have"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which files are taken where there are more.")] = 0,
    videos: Videos = None,
    label_column: LabelColumn = None,
    json: Json = False,
) -> None:
    """Compare one source with several: write manifests of equal size.

    OUT gets a manifest of each source alone and of mixtures of all, each with
    the same number of files of every class, and mixes.json. A mixture holds
    parts of the sources' own manifests, so that files are replaced and none
    added (OmniSource, figure 4). Train on each with tenclip train --aux.

    \b
    Examples:
      tenclip omni mix kept-google.parquet kept-instagram.parquet --out mixes
      tenclip omni mix kept.parquet --out mixes --ratio 3:1 --ratio 1:1 --ratio 1:3
      tenclip omni mix kept.parquet --out mixes --size 5000
    """
    from json import dumps

    from tenclip_data.atomic import write_text
    from tenclip_training.curation.manifests import write_manifest
    from tenclip_training.omni.mixes import mix_sources, read_sources

    ratios = [_ratio(text) for text in ratio or ()]
    web = read_sources(sources, videos=videos, label_column=label_column)
    print_notes(web.notes)
    mixes = mix_sources(web, ratios=ratios, size=size, seed=seed)
    for name, samples in mixes.sets.items():
        write_manifest(out / f"{name}.parquet", samples)
    values = {**mixes.to_dict(), "manifests": {name: str(out / f"{name}.parquet") for name in mixes.sets}}
    write_text(out / "mixes.json", dumps(values, indent=2) + "\n")
    if json:
        print_json(values)
    else:
        _print(mixes, out)


def _ratio(text: str) -> tuple[float, ...]:
    from tenclip_api.errors import InvalidRequest

    try:
        return tuple(float(part) for part in text.split(":"))
    except ValueError:
        raise InvalidRequest(f"--ratio {text!r} is not numbers with colons between them, as 3:1") from None


def _print(mixes: Mixes, out: Path) -> None:
    typer.echo(f"{mixes.size} files of {len(mixes.classes)} classes in each manifest")
    for name, shares in mixes.shares.items():
        typer.echo(f"{out / name}.parquet: {', '.join(f'{count} of {source}' for source, count in shares.items())}")
    if mixes.left_out:
        shown = ", ".join(mixes.left_out[:5]) + (", ..." if len(mixes.left_out) > 5 else "")
        typer.echo(f"classes left out, for some source has none of them: {len(mixes.left_out)} ({shown})")
