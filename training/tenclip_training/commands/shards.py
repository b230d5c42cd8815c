"""`tenclip shards`: a group of sub-commands about videos in tar files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_settings import with_option_groups
from tenclip_training.commands.options import Json, ManifestOptions, print_json

if TYPE_CHECKING:
    from tenclip_training.data.failures import Failure
    from tenclip_training.data.shards.check import CheckResult

SHOWN = 20  # rows of a list that still fit on a screen
INCOMPLETE = 1  # exit code of a check that found something

shards = typer.Typer(
    name="shards",
    help="""Videos in tar files (WebDataset shards), to be read from a few large files or from URLs.

    `tenclip train` and `tenclip evaluate` take a folder or URL of shards in
    the place of a manifest, and unpack nothing.

    \b
    Examples:
      tenclip shards write videos/manifest.csv --out shards
      tenclip shards check shards
      tenclip train shards --out run
    """,
    no_args_is_help=True,
)


@shards.command()
@with_option_groups
def write(
    *,
    manifest: Annotated[
        Path, typer.Argument(help="Labelled videos, in any form that tenclip train reads.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards.", show_default=False)],
    shard_size: Annotated[
        float | None, typer.Option(min=0.001, help="MB of a shard at most.", show_default="500", metavar="MB")
    ] = None,
    videos_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Videos of a shard at most, whatever their size.", show_default=False)
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Write this split; may be said again.", show_default="all")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(help="Columns with a label each, for a network with a classifier for each.", show_default=False),
    ] = None,
    in_order: Annotated[
        bool, typer.Option("--in-order", help="Keep the manifest's order; else videos are mixed, by --seed.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Shards written at once.")] = 4,
    reading: ManifestOptions,
    json: Json = False,
) -> None:
    """Write labelled videos into tar shards with an index.

    Each shard holds videos of one split: the file as it is, a .json with its
    name, labels and parts, and a .cls with the number of its class where it
    has one. The same call gives the same bytes. One that was stopped goes on
    where it was. Videos that cannot be read are left out, and are listed in
    failures.jsonl.

    \b
    Examples:
      tenclip shards write videos/manifest.csv --out shards
      tenclip shards write kinetics/ --out shards --shard-size 1000
      tenclip shards write list.csv --out shards --split train --videos-per-shard 2000 --keep-missing
      tenclip shards write EPIC_100_train.csv --videos epic --heads verb,noun --out shards
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.console import reporting
    from tenclip_training.data.shards.index import split_counts
    from tenclip_training.data.shards.places import find_index
    from tenclip_training.data.shards.plan import DEFAULT_SHARD_MB
    from tenclip_training.data.shards.write import FAILURES_NAME, write_shards

    if shard_size is not None and videos_per_shard is not None:
        raise InvalidRequest("give --shard-size or --videos-per-shard, not both")
    if find_index(manifest) is not None:
        raise InvalidRequest(f"{manifest}: holds shards already; name the list or the folder of the videos themselves")
    columns = tuple(name.strip() for name in heads.split(",")) if heads else ()
    read = _of_splits(reading.read(manifest, heads=columns), split)
    megabytes = shard_size or (DEFAULT_SHARD_MB if videos_per_shard is None else None)
    with reporting() as reporter:
        result = write_shards(
            read,
            out,
            shard_bytes=None if megabytes is None else int(megabytes * 1e6),
            videos_per_shard=videos_per_shard,
            shuffle_seed=None if in_order else reading.seed,
            threads=threads,
            progress=lambda done, total: reporter.update("writing", done, total, "videos"),
        )
    index, failures = result.index, result.failures
    summary: dict[str, Any] = {
        "out": str(out),
        "shards": len(index.shards),
        "shards_kept": result.kept,
        "bytes": sum(s.num_bytes for s in index.shards),
        "samples": len(index.rows),
        "splits": split_counts(index.rows),
        "labels": len(index.labels),
        "failed": len(failures),
    }
    if json:
        print_json({**summary, "failures": [vars(f) for f in failures]})
        return
    splits = ", ".join(f"{count:,} {name or 'without a split'}" for name, count in summary["splits"].items())
    kept = f", {result.kept} of them there already" if result.kept else ""
    typer.echo(
        f"{out}: {summary['samples']:,} samples ({splits}) in {summary['shards']:,} shards{kept}, "
        f"{summary['bytes'] / 1e6:,.1f} MB"
    )
    _print_failures(failures, f"could not be read and are left out: {out / FAILURES_NAME}")


@shards.command()
def check(
    source: Annotated[str, typer.Argument(metavar="SHARDS", help="Folder or URL of shards with an index.")],
    json: Json = False,
) -> None:
    """Compare shards with their index, byte by byte.

    Shards that are gone, cut off or changed are named, with the number of
    samples that are lost. The exit code is 1 where any are.

    \b
    Examples:
      tenclip shards check shards
      tenclip shards check https://host/shards --json
    """
    import dataclasses
    import tempfile

    from tenclip_api.errors import DatasetError
    from tenclip_training.console import reporting
    from tenclip_training.data.shards.check import check_shards
    from tenclip_training.data.shards.places import find_index
    from tenclip_training.data.shards.read import CacheOptions, open_shards
    from tenclip_training.data.shards.storage import RemoteShards

    index_place = find_index(source)
    if index_place is None:
        raise DatasetError(f"{source}: no index of shards is there; make one with: tenclip shards index {source}")
    with tempfile.TemporaryDirectory(prefix="tenclip-shards-") as scratch, reporting() as reporter:
        index, storage = open_shards(index_place, CacheOptions(folder=scratch))
        if isinstance(storage, RemoteShards):  # none is needed once it was looked at
            storage = dataclasses.replace(storage, max_bytes=max(s.num_bytes for s in index.shards))
        result = check_shards(
            index, storage, progress=lambda done, total: reporter.update("checking", done, total, "shards")
        )
    if json:
        print_json(_check_values(result))
    else:
        _print_check(result)
    if result.findings:
        raise typer.Exit(INCOMPLETE)


@shards.command()
def index(
    sources: Annotated[
        list[str], typer.Argument(metavar="TARS...", help="A folder of .tar files, or URLs, {0000..0012} in them too.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the index.", show_default="that of the tars"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="File with the classes in order, which numbers count.", show_default=False)
    ] = None,
    label_field: Annotated[
        str | None,
        typer.Option(help="Field of .json with the label.", show_default=".cls, label in .json, or .txt"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of all samples.", show_default="as the tars' names or .json say")
    ] = None,
    json: Json = False,
) -> None:
    """Make an index for WebDataset tars that have none, whoever wrote them.

    The members of a sample share a key: one video, and .cls, .json or .txt
    with its label. Every tar is read once. Tars behind URLs stay there. Samples
    that cannot be used are listed in index_failures.jsonl beside the index.

    \b
    Examples:
      tenclip shards index tars/
      tenclip shards index tars/ --label-field action --labels classes.txt
      tenclip shards index "https://host/data/train-{0000..0127}.tar" --out indexed
    """
    from tenclip_api.errors import InvalidRequest
    from tenclip_training.console import reporting
    from tenclip_training.data.shards.build import PROBLEMS_NAME, build_index, find_tars, save_index
    from tenclip_training.data.shards.index import split_counts

    tars = find_tars(sources)
    if out is None and not isinstance(tars.base, Path):
        raise InvalidRequest("tars behind URLs stay where they are: give --out, the folder of the index")
    with reporting() as reporter:
        result = build_index(
            tars,
            labels=labels,
            label_field=label_field,
            split=split,
            progress=lambda done, total: reporter.update("reading", done, total, "tars"),
        )
    path = save_index(result, tars, out)
    for warning in result.warnings:
        typer.echo(warning, err=True)
    summary: dict[str, Any] = {
        "index": str(path),
        "shards": len(result.index.shards),
        "samples": len(result.index.rows),
        "splits": split_counts(result.index.rows),
        "labels": len(result.index.labels),
        "failed": len(result.problems),
    }
    if json:
        print_json({**summary, "failures": [vars(f) for f in result.problems]})
        return
    splits = ", ".join(f"{count:,} {name or 'without a split'}" for name, count in summary["splits"].items())
    typer.echo(
        f"{path}: {summary['samples']:,} samples ({splits}) of {summary['labels']} labels in {summary['shards']:,} tars"
    )
    _print_failures(result.problems, f"are left out: {path.parent / PROBLEMS_NAME}")


def _of_splits(manifest: Any, names: Sequence[str] | None) -> Any:
    """The samples of these splits. Raises DatasetError where one has none."""
    import dataclasses

    if not names:
        return manifest
    parts = [manifest.split(name) for name in dict.fromkeys(names)]
    return dataclasses.replace(manifest, samples=tuple(s for part in parts for s in part.samples))


def _print_failures(failures: Sequence[Failure], what: str) -> None:
    if not failures:
        return
    typer.echo(f"{len(failures):,} {what}", err=True)
    for failure in failures[:SHOWN]:
        typer.echo(f"  {failure.message} ({failure.reason})", err=True)
    if len(failures) > SHOWN:
        typer.echo(f"  and {len(failures) - SHOWN:,} more", err=True)


def _check_values(result: CheckResult) -> dict[str, Any]:
    return {
        "shards": result.shards,
        "samples": result.samples,
        "shards_damaged": len(result.findings),
        "samples_lost": result.lost,
        "findings": [
            {
                "shard": f.shard,
                "message": f.message,
                "samples": f.total,
                "samples_lost": len(f.lost),
                "lost": [row.name for row in f.lost],
            }
            for f in result.findings
        ],
    }


def _print_check(result: CheckResult) -> None:
    for finding in result.findings:
        typer.echo(f"{finding.message}; {len(finding.lost):,} of {finding.total:,} samples are lost")
    if result.findings:
        typer.echo(
            f"{len(result.findings):,} of {result.shards:,} shards are not as their index says; "
            f"{result.lost:,} of {result.samples:,} samples are lost"
        )
    else:
        typer.echo(f"{result.shards:,} shards and {result.samples:,} samples are as their index says")
