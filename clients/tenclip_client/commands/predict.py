"""`tenclip predict`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.exits import SOME_FAILED
from tenclip_client.cli.options import (
    OUTPUT,
    VIDEO_ARGUMENT,
    ClipOptions,
    Concurrency,
    ConnectionOptions,
    Json,
    ListRoot,
    ReportPath,
    ServerPaths,
    TimeoutSeconds,
)
from tenclip_client.cli.output import output_console, print_json
from tenclip_client.cli.reports import pictured, reported
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_api.errors import TenclipError
    from tenclip_client._inputs import VideoInput
    from tenclip_client._types import ClipUpdate, Prediction
    from tenclip_client.report.writer import Report

    Outcome = Prediction | TenclipError
    Write = Callable[[str, Outcome], None]


@with_option_groups
def predict(
    *,
    videos: Annotated[list[str], VIDEO_ARGUMENT],
    list_root: ListRoot = None,
    connection: ConnectionOptions,
    clip_options: ClipOptions,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    clips: Annotated[bool, typer.Option("--clips", help="Also the best classes of every clip.")] = False,
    features: Annotated[bool, typer.Option("--features", help="Also the feature vectors.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also the salience over time.")] = False,
    server_path: ServerPaths = False,
    timeout: TimeoutSeconds = 60.0,
    concurrency: Concurrency = 2,
    as_json: Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="JSON, one line a video, as they finish.", rich_help_panel=OUTPUT)
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Print every clip as soon as it is done, one video at a time.", rich_help_panel=OUTPUT
        ),
    ] = False,
    report: ReportPath = None,
) -> None:
    """Recognise the actions in videos.

    A video that cannot be used gets its error printed in its place, and the others go on; the exit code is then 3.
    With --stream and --jsonl the clips are lines of their own, {"input": ..., "clip": {...}}.
    --report implies --clips and --timeline. Its pages hold pictures of the videos and need no network.

    Examples:

    \b
      tenclip predict archery.avi
      tenclip predict clips/ --top-k 3 --json
      tenclip predict match.mp4 --selection salient --num-clips 10 --timeline --clips
      tenclip predict --server gpu-box:7411 --server-path /videos/match.mp4
      tenclip predict match.mp4 --selection windows --stream
      tenclip predict match.mp4 --selection salient --report match.html
    """
    if stream and as_json and not jsonl:
        raise typer.BadParameter("--json prints everything at the end; with --stream, use --jsonl")
    if list_root is not None and server_path:
        raise typer.BadParameter("--videos is a folder on this machine; with --server-path, name whole paths")
    from tenclip_client._inputs import expand_inputs

    inputs = expand_inputs(videos, server_paths=server_path, videos=list_root)
    settings = connection.client_settings(timeout)
    asked = {"top_k": top_k, "clip_scores": clips, "features": features, "timeline": timeline}
    choice = clip_options.choice()
    arguments = {**vars(choice), **asked, **pictured(report)}
    with reported(report, [v.name for v in inputs], "Predictions of", settings, choice.model) as pages:
        if stream:
            failed = _stream_all(inputs, settings, arguments, jsonl, pages)
        else:
            failed = asyncio.run(_predict_all(inputs, settings, arguments, concurrency, as_json, jsonl, pages))
    if failed:
        typer.secho(f"{failed} of {len(inputs)} videos failed", fg="red", err=True)
        raise typer.Exit(SOME_FAILED)


async def _predict_all(
    inputs: Sequence[VideoInput],
    settings: dict[str, Any],
    arguments: dict[str, Any],
    concurrency: int,
    as_json: bool,
    jsonl: bool,
    pages: Report | None,
) -> int:
    """Predict and print every video in order. Returns how many failed."""
    from tenclip_api.errors import TenclipError
    from tenclip_client.cli.progress import spinner

    failed = 0
    with _writer(as_json, jsonl, pages) as write, spinner(len(inputs)) as step:
        async with aclosing(_predictions(inputs, settings, arguments, concurrency)) as outcomes:
            async for video, outcome in outcomes:
                failed += isinstance(outcome, TenclipError)
                step(partial(write, video.name, outcome))
    return failed


def _stream_all(
    inputs: Sequence[VideoInput],
    settings: dict[str, Any],
    arguments: dict[str, Any],
    jsonl: bool,
    pages: Report | None,
) -> int:
    """Predict one video after the other, and print every clip when it is done. Returns how many videos failed."""
    from tenclip_client import Client, ClipUpdate, TenclipError
    from tenclip_client._concurrent import SYSTEMIC, retry_blocking
    from tenclip_client.cli.render import print_update

    failed = 0
    console = output_console()

    def begin(video: VideoInput) -> Iterator[ClipUpdate | Prediction]:
        """The updates, the first of which has come: the server has taken the video."""
        updates = client.predict_stream(video.source, name=video.name, **arguments)
        return chain(list(islice(updates, 1)), updates)

    with Client(**settings) as client, _writer(False, jsonl, pages) as write:
        for video in inputs:
            try:
                if video.error is not None:
                    raise video.error
                for update in retry_blocking(partial(begin, video), max_wait_seconds=settings["timeout"] or 60):
                    if not isinstance(update, ClipUpdate):
                        write(video.name, update)
                    elif jsonl:
                        print(json.dumps({"input": video.name, "clip": update.to_dict()}), flush=True)
                    else:
                        print_update(console, video.name, update)
            except SYSTEMIC:
                raise
            except TenclipError as err:
                failed += 1
                write(video.name, err)
    return failed


async def _predictions(
    inputs: Sequence[VideoInput], settings: dict[str, Any], arguments: dict[str, Any], concurrency: int
) -> AsyncGenerator[tuple[VideoInput, Outcome], None]:
    from tenclip_client import AsyncClient
    from tenclip_client._concurrent import in_order, retry_with_backoff

    async with AsyncClient(**settings) as client:

        async def predict_one(video: VideoInput) -> Prediction:
            if video.error is not None:
                raise video.error
            return await retry_with_backoff(
                lambda: client.predict(video.source, name=video.name, **arguments),
                max_wait_seconds=settings["timeout"] or 60,
            )

        async with aclosing(in_order(inputs, predict_one, concurrency=concurrency)) as outcomes:
            async for video, outcome in outcomes:
                yield video, outcome


@contextmanager
def _writer(as_json: bool, jsonl: bool, pages: Report | None) -> Iterator[Write]:
    """A function that prints one (name, outcome). What it has printed is whole even if the next one never comes.

    pages: where each goes first; the pictures go nowhere else.
    """
    from tenclip_api.errors import TenclipError

    with _printer(as_json, jsonl) as write:

        def write_both(name: str, outcome: Outcome) -> None:
            if pages is not None:
                pages.add(name, outcome)
            write(name, outcome if isinstance(outcome, TenclipError) else replace(outcome, thumbnails=()))

        yield write_both


@contextmanager
def _printer(as_json: bool, jsonl: bool) -> Iterator[Write]:
    from tenclip_api.errors import TenclipError
    from tenclip_client.cli.render import print_error, print_prediction

    if jsonl:
        yield lambda name, outcome: print(json.dumps(_entry(name, outcome)), flush=True)
    elif as_json:
        entries: list[dict[str, Any]] = []
        try:
            yield lambda name, outcome: entries.append(_entry(name, outcome))
        finally:
            print_json(entries)
    else:
        console = output_console()

        def write(name: str, outcome: Outcome) -> None:
            if isinstance(outcome, TenclipError):
                print_error(console, name, outcome)
            else:
                print_prediction(console, name, outcome)

        yield write


def _entry(name: str, outcome: Outcome) -> dict[str, Any]:
    from tenclip_api.errors import TenclipError

    if not isinstance(outcome, TenclipError):
        return {"input": name, "ok": True, "prediction": outcome.to_dict()}
    error = {"type": type(outcome).__name__, "reason": outcome.reason, "message": outcome.message}
    if request_id := getattr(outcome, "request_id", ""):
        error["request_id"] = request_id
    return {"input": name, "ok": False, "error": error}
