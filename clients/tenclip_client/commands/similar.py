"""`tenclip similar`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.exits import SOME_FAILED
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

if TYPE_CHECKING:
    from tenclip_api.errors import TenclipError
    from tenclip_client._client import Client
    from tenclip_client._inputs import VideoInput
    from tenclip_client._similar import Answer


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
    model is the one that the index is of. A server that is busy is asked
    again, for as long as --timeout. Exit code 3 when one of several videos
    failed.

    \b
    Examples:
      tenclip similar new.mp4 --index index
      tenclip similar new.mp4 --index clips --server gpu-1:7411 --by-video
      tenclip similar new.mp4 --label archery --top-k 3 --json
    """
    from tenclip_api.errors import TenclipError
    from tenclip_client._client import Client
    from tenclip_client._concurrent import SYSTEMIC, retry_blocking
    from tenclip_client._inputs import expand_inputs
    from tenclip_client._similar import neighbours_of_video, neighbours_on_server

    inputs, choice, wanted = expand_inputs(videos, server_paths=server_path), clip_options.choice(), neighbours.wanted()
    local = _local_index(index)
    failed = 0

    def ask(client: Client, video: VideoInput) -> Answer:
        if video.error is not None:
            raise video.error
        if local is not None:
            return neighbours_of_video(client, local, video.name, video.source, choice, wanted)
        return neighbours_on_server(client, index, video.name, video.source, choice, wanted)

    with Client(**connection.client_settings(timeout)) as client, _writer(as_json) as write:
        for video in inputs:
            try:
                answer = retry_blocking(partial(ask, client, video), max_wait_seconds=timeout or 60)
            except TenclipError as err:
                if len(inputs) == 1 or isinstance(err, SYSTEMIC):
                    raise
                failed += 1
                write(video.name, err)
            else:
                write(video.name, answer)
    if failed:
        typer.secho(f"{failed} of {len(inputs)} videos failed", fg="red", err=True)
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _writer(as_json: bool) -> Iterator[Callable[[str, Answer | TenclipError], None]]:
    """A function that prints what came of one video. As JSON all are printed at the end, however that comes."""
    from tenclip_api.errors import TenclipError
    from tenclip_client.cli.neighbours import print_neighbours
    from tenclip_client.cli.output import output_console, print_json
    from tenclip_client.cli.render import print_error

    console = output_console()
    entries: list[Answer] = []

    def write(name: str, outcome: Answer | TenclipError) -> None:
        if as_json:
            entries.append(
                {"video": name, "error": outcome.reason, "message": outcome.message}
                if isinstance(outcome, TenclipError)
                else outcome
            )
        elif isinstance(outcome, TenclipError):
            print_error(console, name, outcome)
        else:
            print_neighbours(console, [outcome])

    try:
        yield write
    finally:
        if as_json:
            print_json(entries)


def _local_index(index: str) -> Any:
    """The index on this machine, where that is what was named. Raises IndexNotFound for a folder that is none."""
    path = Path(index)
    if not index or not (path.is_dir() or path.name != index):
        return None
    from tenclip_index import open_index

    return open_index(path)
