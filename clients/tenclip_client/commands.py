"""The client's sub-commands: `tenclip predict`, `tenclip features`, `tenclip models`."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

if TYPE_CHECKING:
    from tenclip_api.errors import TenclipError
    from tenclip_client._extraction import ClipChoice, EarlierRows, ExtractionReport, Progress
    from tenclip_client._inputs import VideoInput
    from tenclip_client._types import Prediction

Command = TypeVar("Command", bound=Callable[..., None])

_SELECTION, _CONNECTION, _OUTPUT, _CHANGE = "Which clips", "Connection", "Output", "Change what is served"

_VIDEOS = typer.Argument(metavar="VIDEO", help="Files, folders, or patterns such as 'clips/*.mp4'.", show_default=False)
Server = Annotated[
    str,
    typer.Option(
        envvar="TENCLIP_SERVER", metavar="HOST:PORT", help="Where the server is.", rich_help_panel=_CONNECTION
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0, help="Seconds to wait for each video; 0: for ever.", rich_help_panel=_CONNECTION)
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for a server that is not up yet.", rich_help_panel=_CONNECTION)
]
ServerPaths = Annotated[
    bool,
    typer.Option(
        "--server-path", help="The videos are paths on the server's machine, or URIs.", rich_help_panel=_CONNECTION
    ),
]
Model = Annotated[
    str, typer.Option(metavar="NAME[:VERSION]", help="Which model; not needed where the server holds one.")
]
Selection = Annotated[
    Literal["uniform", "center", "windows", "salient"] | None,
    typer.Option(help="How clips are chosen. Default: as the model's protocol says.", rich_help_panel=_SELECTION),
]
NumClips = Annotated[int | None, typer.Option(min=1, help="How many clips.", rich_help_panel=_SELECTION)]
WindowStep = Annotated[
    int | None,
    typer.Option(min=1, help="Frames from one window to the next. Default: no overlap.", rich_help_panel=_SELECTION),
]
Start = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Only from here on.", rich_help_panel=_SELECTION)
]
End = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Only up to here.", rich_help_panel=_SELECTION)
]
FullyConvolutional = Annotated[
    bool | None,
    typer.Option(
        "--fully-convolutional/--pooled",
        help="Slide over the larger crop, or take the centre crop only. Default: as the model's protocol says.",
        rich_help_panel=_SELECTION,
    ),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="A named test protocol instead of the options above.", rich_help_panel=_SELECTION
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.", rich_help_panel=_OUTPUT)]
Concurrency = Annotated[
    int, typer.Option(min=1, max=256, help="Videos in flight at once.", rich_help_panel=_CONNECTION)
]

# Of every command that calls a server; each has its variable, too.
_SECURITY: dict[str, tuple[Any, Any, str]] = {
    "tls": (bool, False, "Encrypt the connection. Implied by the next three."),
    "ca": (Path | None, None, "Trust servers that this authority (PEM) vouches for, and no others."),
    "certificate": (Path | None, None, "Our own certificate (PEM), for servers that ask for one."),
    "key": (Path | None, None, "The key of --certificate (PEM)."),
    "server_name": (str, "", "The name in the server's certificate, where --server is not it (a forwarded port, say)."),
    "token_file": (Path | None, None, "File with the token to send; or the variable TENCLIP_TOKEN has it."),
    "insecure_token": (bool, False, "Send the token to other machines without TLS, too."),
}


def secured(command: Command) -> Command:
    """Gives a command with `**security` the options of `_SECURITY`."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [_security_option(name, *about) for name, about in _SECURITY.items()]
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return command


def _security_option(name: str, kind: Any, default: Any, help_text: str) -> inspect.Parameter:
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(
        flag, envvar=f"TENCLIP_{name.upper()}", show_envvar=True, help=help_text, rich_help_panel=_CONNECTION
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


@secured
def predict(
    videos: Annotated[list[str], _VIDEOS],
    server: Server = "127.0.0.1:7411",
    model: Model = "",
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    clips: Annotated[bool, typer.Option("--clips", help="Also the best classes of every clip.")] = False,
    features: Annotated[bool, typer.Option("--features", help="Also the feature vectors.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also the salience over time.")] = False,
    selection: Selection = None,
    num_clips: NumClips = None,
    window_step: WindowStep = None,
    start: Start = None,
    end: End = None,
    fully_convolutional: FullyConvolutional = None,
    protocol: ProtocolName = None,
    server_path: ServerPaths = False,
    timeout: Timeout = 60.0,
    concurrency: Concurrency = 2,
    wait: Wait = False,
    as_json: Json = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="JSON, one line a video, as they finish.", rich_help_panel=_OUTPUT)
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="Print every clip as soon as it is done, one video at a time.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    **security: Any,
) -> None:
    """Recognise the actions in videos.

    A video that cannot be used gets its error printed in its place, and the others go on; the exit code is then 1.
    With --stream and --jsonl the clips are lines of their own, {"input": ..., "clip": {...}}.

    Examples:

    \b
      tenclip predict archery.avi
      tenclip predict clips/ --top-k 3 --json
      tenclip predict match.mp4 --selection salient --num-clips 10 --timeline --clips
      tenclip predict --server gpu-box:7411 --server-path /videos/match.mp4
      tenclip predict match.mp4 --selection windows --stream
    """
    if stream and as_json and not jsonl:
        raise typer.BadParameter("--json prints everything at the end; with --stream, use --jsonl")
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._inputs import expand_inputs

    choice = ClipChoice(
        model=model,
        clips=selection,
        num_clips=num_clips,
        window_step=window_step,
        start=start,
        end=end,
        fully_convolutional=fully_convolutional,
        protocol=protocol,
    )
    inputs = expand_inputs(videos, server_paths=server_path)
    asked = {"top_k": top_k, "clip_scores": clips, "features": features, "timeline": timeline}
    connection = _connection(server, timeout, wait, **security)
    arguments = {**vars(choice), **asked}
    if stream:
        failed = _stream_all(inputs, connection, arguments, jsonl)
    else:
        failed = asyncio.run(_predict_all(inputs, connection, arguments, concurrency, as_json, jsonl))
    if failed:
        typer.secho(f"{failed} of {len(inputs)} videos failed", fg="red", err=True)
        raise typer.Exit(1)


@secured
def features(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="F.parquet", help="The file to write.", rich_help_panel=_OUTPUT)
    ],
    videos: Annotated[list[str] | None, _VIDEOS] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Take the videos from a .csv or .parquet with a column 'path', or a .txt of one a line."),
    ] = None,
    server: Server = "127.0.0.1:7411",
    model: Model = "",
    selection: Selection = None,
    num_clips: NumClips = None,
    window_step: WindowStep = None,
    start: Start = None,
    end: End = None,
    fully_convolutional: FullyConvolutional = None,
    protocol: ProtocolName = None,
    server_path: ServerPaths = False,
    timeout: Timeout = 600.0,
    concurrency: Concurrency = 4,
    wait: Wait = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also the videos that failed in an earlier run.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again, whatever is there.", rich_help_panel=_OUTPUT)
    ] = False,
    by_content: Annotated[
        bool,
        typer.Option(
            "--by-content", help="Tell changed videos by their SHA-256, not by size and time of change alone."
        ),
    ] = False,
    trust_unstamped: Annotated[
        bool,
        typer.Option("--trust-unstamped", help="Keep the rows of a file that says nothing of its videos' state."),
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop the rows of videos that are gone or not named any more.")
    ] = False,
    as_json: Json = False,
    **security: Any,
) -> None:
    """Extract features of many videos into one Parquet file.

    One row a clip: video, clip_index, start_seconds, end_seconds, features, model, version, and the size and time of
    change of the video's file (video_bytes, video_mtime_ns; with --by-content video_sha256).
    Stopped at any moment, the same command goes on where it was and ends with the same file. Until every video is
    done, the state is in F.parquet.partial/. Videos that fail are listed at the end, and the exit code is then 1.
    A finished file is brought up to date: videos that are new or have changed are extracted; rows of videos that are
    gone or not named any more are kept and said. Paths on the server and URIs are not looked at again.

    Examples:

    \b
      tenclip features clips/ --out clips.parquet
      tenclip features --manifest train.csv --out train.parquet --concurrency 16
      tenclip features clips/ --out clips.parquet --retry-failed
    """
    from tenclip_client._extraction import ClipChoice, EarlierRows
    from tenclip_client._inputs import expand_inputs, read_manifest

    choice = ClipChoice(
        model=model,
        clips=selection,
        num_clips=num_clips,
        window_step=window_step,
        start=start,
        end=end,
        fully_convolutional=fully_convolutional,
        protocol=protocol,
    )
    if (manifest is None) == (not videos):
        raise typer.BadParameter("name videos (files, folders, patterns) or a --manifest: one of the two")
    if manifest is None:
        inputs = expand_inputs(videos or (), server_paths=server_path)
    else:
        inputs = read_manifest(manifest, server_paths=server_path)
    connection = _connection(server, timeout, wait, **security)
    earlier = EarlierRows(by_content=by_content, trust_unstamped=trust_unstamped, prune=prune)
    report = asyncio.run(_extract_all(inputs, out, connection, choice, concurrency, retry_failed, overwrite, earlier))
    _print_extraction(report, as_json)
    if report.failures:
        raise typer.Exit(1)


@secured
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME[:VERSION]]", help="Show this one in full.", show_default=False)
    ] = None,
    catalog: Annotated[
        bool, typer.Option("--catalog", help="No server: every architecture and family that can be loaded or trained.")
    ] = False,
    load: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:VERSION]", help="Load this from the server's disk, or again.", rich_help_panel=_CHANGE
        ),
    ] = None,
    unload: Annotated[
        str | None,
        typer.Option(metavar="NAME[:VERSION]", help="Serve this no longer.", rich_help_panel=_CHANGE),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="Load what is new or changed on the server's disk; drop what has vanished.",
            rich_help_panel=_CHANGE,
        ),
    ] = False,
    default: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:VERSION]",
            help="Requests without a version get this one; without VERSION, the highest again.",
            rich_help_panel=_CHANGE,
        ),
    ] = None,
    server: Server = "127.0.0.1:7411",
    timeout: Timeout = 60.0,
    wait: Wait = False,
    as_json: Json = False,
    **security: Any,
) -> None:
    """List the models of a server, show one of them, or change which are served.

    Changes need a server with --allow-manage, or a token that may manage. What fails to load leaves the copy that was
    served before in its place; the exit code is then 1.

    Examples:

    \b
      tenclip models
      tenclip models actions:2 --json
      tenclip models --load actions:3
      tenclip models --default actions:2
      tenclip models --reload --json
      tenclip models --catalog
    """
    if catalog and name is not None:
        raise typer.BadParameter("--catalog lists everything; leave the name out")
    if sum(map(bool, (name, catalog, load, unload, reload, default))) > 1:
        raise typer.BadParameter("only one of NAME, --catalog, --load, --unload, --reload and --default")
    if load or unload or reload or default:
        _change_models(_connection(server, timeout, wait, **security), load, unload, default, as_json)
        return
    if catalog:
        _print_catalog(as_json)
        return
    from tenclip_client import Client
    from tenclip_client.cli.render import print_model, print_models

    with Client(**_connection(server, timeout, wait, **security)) as client:
        if name is None:
            listed = client.list_models()
            _print_json(listed.to_dict()) if as_json else print_models(_console(), listed)
        else:
            model = client.get_model(name)
            _print_json(model.to_dict()) if as_json else print_model(_console(), model)


def _change_models(
    connection: dict[str, Any], load: str | None, unload: str | None, default: str | None, as_json: bool
) -> None:
    """One change; where none is named, a reload of everything. Exit code 1 when something failed to load."""
    from tenclip_client import Client, ModelChanges
    from tenclip_client.cli.render import print_changes

    with Client(**connection) as client:
        if load:
            changes = client.load_model(load)
        elif unload:
            changes = client.unload_model(unload)
        elif default:
            client.set_default_version(default)
            changes = ModelChanges(loaded=(), unloaded=(), failed=())
        else:
            changes = client.reload_models()
    _print_json(changes.to_dict()) if as_json else print_changes(_console(), changes, default)
    if changes.failed:
        raise typer.Exit(1)


def _print_catalog(as_json: bool) -> None:
    from tenclip_client.cli.catalog import load_catalog, print_catalog

    rows = load_catalog()
    _print_json({"models": rows}) if as_json else print_catalog(_console(), rows)


# --- predict --------------------------------------------------------------------------------------------------------


async def _predict_all(
    inputs: Sequence[VideoInput],
    connection: dict[str, Any],
    arguments: dict[str, Any],
    concurrency: int,
    as_json: bool,
    jsonl: bool,
) -> int:
    """Predict and print every video in order. Returns how many failed."""
    from tenclip_api.errors import TenclipError
    from tenclip_client.cli.progress import spinner

    failed = 0
    with _writer(as_json, jsonl) as write, spinner(len(inputs)) as step:
        async with aclosing(_predictions(inputs, connection, arguments, concurrency)) as outcomes:
            async for video, outcome in outcomes:
                failed += isinstance(outcome, TenclipError)
                step(partial(write, video.name, outcome))
    return failed


def _stream_all(
    inputs: Sequence[VideoInput], connection: dict[str, Any], arguments: dict[str, Any], jsonl: bool
) -> int:
    """Predict one video after the other, and print every clip when it is done. Returns how many videos failed."""
    from tenclip_client import Client, ClipUpdate, TenclipError
    from tenclip_client._concurrent import SYSTEMIC
    from tenclip_client.cli.render import print_update

    failed = 0
    console = _console()
    with Client(**connection) as client, _writer(False, jsonl) as write:
        for video in inputs:
            try:
                if video.error is not None:
                    raise video.error
                for update in client.predict_stream(video.source, name=video.name, **arguments):
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
    inputs: Sequence[VideoInput], connection: dict[str, Any], arguments: dict[str, Any], concurrency: int
) -> AsyncGenerator[tuple[VideoInput, Prediction | TenclipError], None]:
    from tenclip_client import AsyncClient
    from tenclip_client._concurrent import in_order, patiently

    async with AsyncClient(**connection) as client:

        async def predict_one(video: VideoInput) -> Prediction:
            if video.error is not None:
                raise video.error
            return await patiently(
                lambda: client.predict(video.source, name=video.name, **arguments), patience=connection["timeout"] or 60
            )

        async with aclosing(in_order(inputs, predict_one, concurrency=concurrency)) as outcomes:
            async for video, outcome in outcomes:
                yield video, outcome


@contextmanager
def _writer(as_json: bool, jsonl: bool) -> Iterator[Any]:
    """A function that prints one (name, outcome). What it has printed is whole even if the next one never comes."""
    from tenclip_api.errors import TenclipError
    from tenclip_client.cli.render import print_error, print_prediction

    if jsonl:
        yield lambda name, outcome: print(json.dumps(_entry(name, outcome)), flush=True)
    elif as_json:
        entries: list[dict[str, Any]] = []
        try:
            yield lambda name, outcome: entries.append(_entry(name, outcome))
        finally:
            _print_json(entries)
    else:
        console = _console()

        def write(name: str, outcome: Prediction | TenclipError) -> None:
            if isinstance(outcome, TenclipError):
                print_error(console, name, outcome)
            else:
                print_prediction(console, name, outcome)

        yield write


def _entry(name: str, outcome: Prediction | TenclipError) -> dict[str, Any]:
    from tenclip_api.errors import TenclipError

    if not isinstance(outcome, TenclipError):
        return {"input": name, "ok": True, "prediction": outcome.to_dict()}
    error = {"type": type(outcome).__name__, "reason": outcome.reason, "message": outcome.message}
    if request_id := getattr(outcome, "request_id", ""):
        error["request_id"] = request_id
    return {"input": name, "ok": False, "error": error}


# --- features -------------------------------------------------------------------------------------------------------


async def _extract_all(
    inputs: Sequence[VideoInput],
    out: Path,
    connection: dict[str, Any],
    choice: ClipChoice,
    concurrency: int,
    retry_failed: bool,
    overwrite: bool,
    earlier: EarlierRows,
) -> ExtractionReport:
    from tenclip_client import AsyncClient
    from tenclip_client._extract import extract_to_parquet

    async with AsyncClient(**connection) as client:
        with _progress() as progress:
            return await extract_to_parquet(
                client,
                inputs,
                out,
                choice=choice,
                concurrency=concurrency,
                retry_failed=retry_failed,
                overwrite=overwrite,
                earlier=earlier,
                progress=progress,
            )


@contextmanager
def _progress() -> Iterator[Progress]:
    from tenclip_client.cli.progress import bar_progress, line_progress

    with bar_progress() if sys.stderr.isatty() else line_progress() as progress:
        yield progress


def _print_extraction(report: ExtractionReport, as_json: bool) -> None:
    from tenclip_client.cli.render import print_extraction

    if as_json:
        failures = [vars(f) for f in report.failures]
        _print_json({**vars(report), "out": str(report.out), "failures": failures})
    else:
        print_extraction(_console(), report)


# --- all ------------------------------------------------------------------------------------------------------------


def _connection(
    server: str,
    timeout: float,
    wait: bool,
    *,
    tls: bool,
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    server_name: str,
    token_file: Path | None,
    insecure_token: bool,
) -> dict[str, Any]:
    """Arguments of either client."""
    from tenclip_client._security import token_from_file

    return {
        "target": server,
        "timeout": timeout or None,
        "wait_for_ready": wait,
        "tls": tls or None,
        "ca": ca,
        "certificate": certificate,
        "key": key,
        "server_name": server_name,
        # Never an option: everyone on the machine sees those.
        "token": os.environ.get("TENCLIP_TOKEN") or None if token_file is None else token_from_file(token_file),
        "insecure_token": insecure_token,
    }


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # nobody's window: nothing to wrap for
    return console


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
