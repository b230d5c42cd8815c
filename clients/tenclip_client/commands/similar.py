"""`tenclip similar`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tenclip_client.cli.neighbours import NeighbourOptions
from tenclip_client.cli.options import (
    VIDEO_ARGUMENT,
    ClipOptions,
    ConnectionOptions,
    Json,
    ServerPaths,
    TimeoutSeconds,
)
from tenclip_settings import with_option_groups


@with_option_groups
def similar(
    *,
    videos: Annotated[list[str], VIDEO_ARGUMENT],
    index: Annotated[
        str,
        typer.Option(
            metavar="INDEX",
            help="Folder of an index on this machine, or else the name of one that the server has.",
            show_default="the server's only one",
        ),
    ] = "",
    neighbours: NeighbourOptions,
    clip_options: ClipOptions,
    connection: ConnectionOptions,
    server_path: ServerPaths = False,
    timeout: TimeoutSeconds = 600.0,
    as_json: Json = False,
) -> None:
    """Find the clips of an index that are nearest to those of videos.

    The server extracts the features of each video. With the folder of an
    index, the search is done here; else the server searches its own index
    (tenclip serve --index), and this needs no extra. Without --model, the
    model is the one that the index is of.

    \b
    Examples:
      tenclip similar new.mp4 --index index
      tenclip similar new.mp4 --index clips --server gpu-1:7411 --by-video
      tenclip similar new.mp4 --label archery --top-k 3 --json
    """
    from tenclip_api.errors import TenclipError
    from tenclip_client._client import Client
    from tenclip_client._concurrent import SYSTEMIC
    from tenclip_client._inputs import expand_inputs
    from tenclip_client._similar import neighbours_of_video, neighbours_on_server
    from tenclip_client.cli.neighbours import print_neighbours
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_client.cli.render import print_error

    inputs, choice, wanted = expand_inputs(videos, server_paths=server_path), clip_options.choice(), neighbours.wanted()
    local = _local_index(index)
    console = output_console()
    answers: list[dict[str, Any]] = []
    failed = 0
    with Client(**connection.client_settings(timeout)) as client:
        for video in inputs:
            try:
                if video.error is not None:
                    raise video.error
                if local is not None:
                    answer = neighbours_of_video(client, local, video.name, video.source, choice, wanted)
                else:
                    answer = neighbours_on_server(client, index, video.name, video.source, choice, wanted)
            except TenclipError as err:
                if len(inputs) == 1 or isinstance(err, SYSTEMIC):
                    raise
                failed += 1
                answers.append({"video": video.name, "error": err.reason, "message": err.message})
                if not as_json:
                    print_error(console, video.name, err)
                continue
            answers.append(answer)
            if not as_json:
                print_neighbours(console, [answer])
    if as_json:
        print_json(answers)
    if failed:
        typer.secho(f"{failed} of {len(inputs)} videos failed", fg="red", err=True)
        raise typer.Exit(1)


def _local_index(index: str) -> Any:
    """The index on this machine, where that is what was named. Raises IndexNotFound for a folder that is none."""
    path = Path(index)
    if not index or not (path.is_dir() or path.name != index):
        return None
    from tenclip_index import open_index

    return open_index(path)
