"""`tenclip index`: a group of sub-commands about an index of clips on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tenclip_client.cli.neighbours import NeighbourOptions, RowOptions
from tenclip_client.cli.options import ClipOptions, ConnectionOptions, Json, TimeoutSeconds
from tenclip_settings import with_option_groups

# As in `build`, which cannot be imported for --help alone.
_MAX_EXACT_ROWS = 1_000_000

index = typer.Typer(
    name="index",
    help="""An index of clips by their features: neighbours of videos, and near-duplicates.

    It is a folder: index.json, vectors.faiss, rows.parquet.

    \b
    Examples:
      tenclip index build features.parquet --out index --labels labels.csv
      tenclip index query index --id clips/archery.avi --by-video
      tenclip similar new.mp4 --index index
      tenclip index duplicates index --threshold 0.98
    """,
    no_args_is_help=True,
)
Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FEATURES", help="Parquet files that tenclip features wrote, or folders of such.", show_default=False
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.", show_default=False)]
MaxExactRows = Annotated[
    int,
    typer.Option(
        min=1, help="Up to so many clips every search looks at all of them; beyond, at the nearest lists of them."
    ),
]


@index.command()
@with_option_groups
def build(
    *,
    features: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the index.", show_default=False)],
    rows: RowOptions,
    exact_float32: Annotated[
        bool,
        typer.Option(
            "--exact-float32", help="Keep float32, twice the size of float16; every search looks at all clips."
        ),
    ] = False,
    max_exact_rows: MaxExactRows = _MAX_EXACT_ROWS,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an index that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Build an index of the clips of tables of features.

    All tables must be of one model. Up to --max-exact-rows clips the index
    keeps float16 and looks at every one; beyond, it keeps 8 bits a number in
    lists, and looks into as many of them as find 98% of the ten nearest. What
    share it finds is measured and written into index.json. Either the whole
    index is written or none of it.

    \b
    Examples:
      tenclip index build features.parquet --out index
      tenclip index build train.parquet test.parquet --out index --labels labels.csv
      tenclip index build dataset/ --out index --source web --max-exact-rows 200000
      tenclip index build features.parquet --out index --exact-float32 --overwrite
    """
    from tenclip_client.cli.neighbours import print_index, rows_progress
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_index.build import build_index

    with rows_progress() as progress:
        info = build_index(
            features,
            out,
            **rows.settings(),
            precision="float32" if exact_float32 else "fp16",
            max_exact_rows=max_exact_rows,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        print_json(info.to_dict())
    else:
        print_index(output_console(), out, info)


@index.command()
@with_option_groups
def add(
    *,
    folder: Folder,
    features: Inputs,
    rows: RowOptions,
    max_exact_rows: MaxExactRows = _MAX_EXACT_ROWS,
    as_json: Json = False,
) -> None:
    """Add the clips of more tables to an index: all of them, or none if one is refused.

    Clips that the index has already, with the same features, are passed over,
    so that a table that has grown can be given again. An index that is being
    searched is searched as it was; a server opens it again when it reloads
    its models.

    \b
    Examples:
      tenclip index add index more.parquet
      tenclip index add index new.parquet --labels labels.csv --source camera-3
    """
    from tenclip_client.cli.neighbours import print_index, rows_progress
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_index.build import add_to_index

    with rows_progress() as progress:
        done = add_to_index(folder, features, **rows.settings(), max_exact_rows=max_exact_rows, progress=progress)
    if as_json:
        print_json({"added": done.added, "known": done.known, "index": done.info.to_dict()})
        return
    typer.echo(f"{done.added} clips added, {done.known} were there already")
    print_index(output_console(), folder, done.info)


@index.command()
@with_option_groups
def query(
    *,
    folder: Folder,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="VIDEO|FEATURES",
            help="A video, whose features a server extracts, or a Parquet file of features.",
            show_default=False,
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="VIDEO", help="A video that the index has, as it names it.", show_default=False),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="With --id, only its clips that show this moment.", show_default="all of its clips"
        ),
    ] = None,
    neighbours: NeighbourOptions,
    clip_options: ClipOptions,
    connection: ConnectionOptions,
    timeout: TimeoutSeconds = 600.0,
    as_json: Json = False,
) -> None:
    """The clips of an index that are nearest to those of a video.

    Each is found once, with the clip of the video that it is nearest to. With
    --by-video, the nearest videos are found instead. Equal scores come in the
    order of the index.

    \b
    Examples:
      tenclip index query index new.mp4 --server 127.0.0.1:7411
      tenclip index query index features.parquet --by-video --json
      tenclip index query index --id clips/archery.avi --at 3.5 --top-k 5
      tenclip index query index --id clips/archery.avi --label archery --other-videos
    """
    from tenclip_client._similar import neighbours_of_indexed, neighbours_of_table
    from tenclip_client.cli.neighbours import print_neighbours
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_index import open_index

    if (what is None) == (id_ is None):
        raise typer.BadParameter("name a video or a table of features, or a video of the index with --id: one of them")
    if at is not None and id_ is None:
        raise typer.BadParameter("--at is a moment of the video of --id")
    opened, wanted = open_index(folder), neighbours.wanted()
    if id_ is not None:
        answers = [neighbours_of_indexed(opened, id_, at, wanted)]
    elif what is not None and what.lower().endswith(".parquet"):
        from tenclip_features.table import read_feature_table

        answers = neighbours_of_table(opened, read_feature_table([what]), wanted)
    else:
        from tenclip_client._client import Client
        from tenclip_client._concurrent import retry_blocking
        from tenclip_client._similar import neighbours_of_video

        assert what is not None
        choice = clip_options.choice()
        with Client(**connection.client_settings(timeout)) as client:
            ask = partial(neighbours_of_video, client, opened, what, Path(what), choice, wanted)
            answers = [retry_blocking(ask, max_wait_seconds=timeout or 60)]
    if as_json:
        print_json(answers)
    else:
        print_neighbours(output_console(), answers)


@index.command()
def duplicates(
    folder: Folder,
    threshold: Annotated[
        float, typer.Option(min=-1, max=1, help="Cosine from which on two clips count as the same.")
    ] = 0.98,
    by_video: Annotated[
        bool, typer.Option("--by-video", help="Of each two videos, only the pair of clips that is most alike.")
    ] = False,
    within_videos: Annotated[bool, typer.Option("--within-videos", help="Also two clips of one video.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The most pairs to show; all are counted.")] = 100,
    as_json: Json = False,
) -> None:
    """Pairs of clips in an index that are nearly the same, the most alike first.

    In an exact index all clips are compared with all others: the time grows
    with the square of their number. In one of lists, clips are compared with
    those of the lists near them.

    \b
    Examples:
      tenclip index duplicates index --threshold 0.98
      tenclip index duplicates index --by-video --json
    """
    from tenclip_client.cli.neighbours import print_duplicates, rows_progress
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_index import open_index
    from tenclip_index.duplicates import find_duplicates

    opened = open_index(folder)
    with rows_progress() as progress:
        found = find_duplicates(
            opened,
            threshold,
            within_videos=within_videos,
            by_video=by_video,
            limit=limit,
            progress=lambda done, total: progress("comparing", done, total),
        )
    if as_json:
        pairs: list[dict[str, Any]] = [pair.to_dict() for pair in found.pairs]
        print_json({"threshold": threshold, "found": found.found, "compared": found.compared, "pairs": pairs})
    else:
        print_duplicates(output_console(), found)


@index.command()
def info(
    folder: Folder,
    verify: Annotated[bool, typer.Option("--verify", help="Also read every file, and compare its SHA-256.")] = False,
    as_json: Json = False,
) -> None:
    """What an index is: of which model, how large, how it searches and how well.

    \b
    Examples:
      tenclip index info index
      tenclip index info index --verify --json
    """
    from tenclip_client.cli.neighbours import print_index
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_index.folder import check_files
    from tenclip_index.metadata import read_info

    found = read_info(folder)
    check_files(folder, found, contents=verify)
    if as_json:
        print_json(found.to_dict())
    else:
        print_index(output_console(), folder, found)
