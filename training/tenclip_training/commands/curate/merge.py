"""`tenclip curate merge`: several datasets become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_training.commands.curate.options import LabelColumn, with_notes_printed
from tenclip_training.commands.options import Json, KeepMissing, print_json

if TYPE_CHECKING:
    from tenclip_data.samples import Missing


def merge(
    datasets: Annotated[list[str], typer.Argument(help="NAME=MANIFEST, two or more.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The manifest to write, .csv or .parquet.")],
    unify: Annotated[
        bool, typer.Option("--unify", help="Make one class of equal names; case, blanks and signs do not count.")
    ] = False,
    videos: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER that relative paths of a dataset start from.")
    ] = None,
    label_column: LabelColumn = None,
    keep_missing: KeepMissing = False,
    json: Json = False,
) -> None:
    """Merge datasets into one, with the union of their label spaces.

    Labels become NAME/label, so that classes of equal names stay two, as in
    the K+M sets of the mega-scale paper; --unify makes them one. Names that
    collide and videos that are in several datasets are reported. The classes
    are also written to OUT.labels.txt, the first dataset's first, for
    `tenclip train --labels`.

    \b
    Examples:
      tenclip curate merge K=kinetics.csv M=mit.csv --out km.csv
      tenclip curate merge K=kinetics.csv S=stair.csv --unify --out ks.parquet
    """
    from tenclip_data.atomic import write_text
    from tenclip_training.curation.manifests import read_labelled, write_manifest
    from tenclip_training.curation.merging import merge as merged

    folders = {name: Path(folder) for name, folder in map(_named, videos or ())}
    sources = _unique(map(_named, datasets))
    _refuse_unknown(folders, sources)
    missing: Missing = "keep" if keep_missing else "error"
    read = {
        name: with_notes_printed(
            read_labelled(path, videos=folders.get(name), label_column=label_column, missing=missing, images=True)
        )
        for name, path in sources.items()
    }
    result = merged(read, unify=unify)
    write_manifest(out, result.samples)
    class_file = out.with_name(f"{out.name}.labels.txt")
    write_text(class_file, "".join(f"{label}\n" for label in result.labels))
    summary = {
        "manifest": str(out),
        "labels": str(class_file),
        "videos": len(result.samples),
        "classes": len(result.labels),
        "datasets": {n: {"videos": len(m.samples), "classes": len(m.labels)} for n, m in read.items()},
        "collisions": [
            {"name": name, "classes": [f"{d}/{label}" for d, label in members], "one_class": unify}
            for name, members in result.collisions.items()
        ],
        "videos_in_several": list(result.videos_twice),
        "splits_changed": list(result.splits_changed),
    }
    if json:
        print_json(summary)
    else:
        _print_merge(summary)


def _named(text: str) -> tuple[str, Path]:
    from tenclip_api.errors import InvalidRequest

    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise InvalidRequest(f"{text!r} is not NAME=PATH; a dataset is given as K=kinetics.csv")
    return name, Path(path)


def _unique(pairs: Any) -> dict[str, Path]:
    from tenclip_api.errors import InvalidRequest

    found: dict[str, Path] = {}
    for name, path in pairs:
        if name in found:
            raise InvalidRequest(f"two datasets are called {name!r}; give each a name of its own")
        found[name] = path
    return found


def _refuse_unknown(folders: dict[str, Path], sources: dict[str, Path]) -> None:
    from tenclip_api.errors import InvalidRequest

    for name in folders:
        if name not in sources:
            raise InvalidRequest(f"--videos {name}=...: no dataset is called {name!r}; there are {', '.join(sources)}")


def _print_merge(summary: dict[str, Any]) -> None:
    for name, counts in summary["datasets"].items():
        typer.echo(f"{name}: {counts['videos']} videos, {counts['classes']} classes")
    typer.echo(f"merged: {summary['videos']} videos, {summary['classes']} classes")
    for collision in summary["collisions"]:
        made = "one class" if collision["one_class"] else "stay apart"
        typer.echo(f"  same name: {', '.join(collision['classes'])} ({made})")
    if summary["videos_in_several"]:
        typer.echo(f"videos in several datasets, each one row now: {len(summary['videos_in_several'])}")
    if summary["splits_changed"]:
        typer.echo(f"  of these in different splits, kept where they are held out: {len(summary['splits_changed'])}")
    typer.echo(f"{summary['manifest']}\n{summary['labels']}")
