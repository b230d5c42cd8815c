"""`tenclip live`."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_client.cli.options import CONNECTION, OUTPUT, ConnectionOptions, Json, Model
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_client._live import LiveUpdate
    from tenclip_client.cli.live_view import View
    from tenclip_client.cli.webhook import Webhook

    Watch = Callable[[str], AsyncGenerator[LiveUpdate, None]]

EVENTS, STREAM = "Events", "Stream"


def _seconds(text: str, panel: str) -> Any:
    return typer.Option(min=0.001, metavar="SECONDS", help=text, rich_help_panel=panel)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventOptions:
    """When scores become an event."""

    smooth: Annotated[
        int, typer.Option(min=1, help="Events are made of the mean over so many windows.", rich_help_panel=EVENTS)
    ] = 3
    on: Annotated[
        float, typer.Option(min=0, max=1, help="An event begins when its mean reaches this.", rich_help_panel=EVENTS)
    ] = 0.6
    off: Annotated[
        float, typer.Option(min=0, max=1, help="It ends when its mean falls below this.", rich_help_panel=EVENTS)
    ] = 0.4
    min_seconds: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="A shorter one is none.", rich_help_panel=EVENTS)
    ] = 0.0
    gap: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="It ends when the stream is gone for longer; 0: at every interruption.",
            rich_help_panel=EVENTS,
        ),
    ] = 5.0
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Only events of this class. Repeatable.", rich_help_panel=EVENTS),
    ] = None

    def arguments(self) -> dict[str, Any]:
        return {
            "smooth_windows": self.smooth,
            "on": self.on,
            "off": self.off,
            "min_seconds": self.min_seconds,
            "max_gap_seconds": self.gap,
            "labels": tuple(self.label or ()),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How streams are read."""

    step: Annotated[
        int | None,
        typer.Option(min=1, help="Frames from one window to the next. Default: no overlap.", rich_help_panel=STREAM),
    ] = None
    max_latency: Annotated[
        float, _seconds("A window that has waited so long for the model is skipped, and counted.", STREAM)
    ] = 2.0
    paced: Annotated[
        Literal["on", "off"],
        typer.Option(
            help="on: a file is played at its own speed, and what the model cannot keep up with is skipped. "
            "off: as fast as windows run, and nothing is skipped.",
            rich_help_panel=STREAM,
        ),
    ] = "on"
    follow: Annotated[
        bool,
        typer.Option("--follow", help="A file still grows: read on where it ends.", rich_help_panel=STREAM),
    ] = False
    reconnect: Annotated[
        str,
        typer.Option(metavar="N|forever", help="Attempts in a row before giving up.", rich_help_panel=STREAM),
    ] = "5"
    backoff: Annotated[float, _seconds("Longest pause between two attempts.", STREAM)] = 30.0
    idle: Annotated[float, _seconds("A stream that sends nothing for so long is broken.", STREAM)] = 10.0
    heartbeat: Annotated[float, _seconds("Say that it lives when nothing happened for so long.", STREAM)] = 5.0

    def arguments(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "max_latency_seconds": self.max_latency,
            "lossless": self.paced == "off",
            "reconnect": _attempts(self.reconnect),
            "max_backoff_seconds": self.backoff,
            "idle_seconds": self.idle,
            "heartbeat_seconds": self.heartbeat,
        }


@with_option_groups
def live(
    *,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="rtsp://, rtsps://, http://, https://, tcp:// or udp:// address; with --bundle also /dev/videoN, a "
            "file, or - for standard input.",
            show_default=False,
        ),
    ],
    connection: ConnectionOptions,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run this bundle here, without a server; needs tenclip[serve].",
            show_default=False,
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="With --bundle: threads of the runtime; 0: it chooses.")] = 0,
    model: Model = "",
    events: EventOptions,
    stream: StreamOptions,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    windows: Annotated[
        bool, typer.Option("--windows", help="Also the classes of every window.", rich_help_panel=OUTPUT)
    ] = False,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="POST every event there.", show_default=False, rich_help_panel=OUTPUT),
    ] = None,
    as_json: Json = False,
) -> None:
    """Watch streams, and tell what happens in them as it happens.

    Windows of the model's clip length slide over each stream. Their scores are smoothed, and become events that begin
    and end. On a terminal the scores are shown as they change; --json prints one object a line. A stream that breaks
    off is connected to again. Several streams share the model's batches. Ctrl-C ends it.

    \b
    Examples:
      tenclip live rtsp://camera.example/stream
      tenclip live rtsp://camera.example/stream --label fall --on 0.8 --json
      tenclip live tcp://encoder.example:9000 --reconnect forever --webhook https://alerts.example/tenclip
      tenclip live /dev/video0 --bundle models/moves/1
      tenclip live recording.ts --follow --bundle models/moves/1 --step 8
      tenclip live match.mp4 --bundle models/moves/1 --paced off --windows --json
    """
    from tenclip_client._live import live_request
    from tenclip_client.cli.live_view import open_view
    from tenclip_client.cli.webhook import Webhook

    if bundle is not None and model:
        raise typer.BadParameter("--model names a model of a server; --bundle is the model itself")
    _check_sources(sources, stream, has_bundle=bundle is not None)
    # The screen shows them; in lines of their own they are asked for.
    shown = {"windows": windows or not as_json, "top_k": top_k}
    arguments = {**events.arguments(), **stream.arguments(), **shown, "model": model}
    live_request(**arguments)  # what is wrong with it is said before anything is connected to
    hook = None if webhook is None else Webhook(webhook)
    try:
        with open_view(sources, json_lines=as_json, windows=windows) as view:
            settings = None if bundle is not None else connection.client_settings(0)
            failed = asyncio.run(_watch_all(sources, bundle, threads, settings, arguments, stream, view, hook))
    finally:
        if hook is not None:
            hook.close()
            typer.secho(hook.describe(), fg="red" if hook.failed or hook.dropped else None, err=True)
    if failed:
        raise typer.Exit(1)


def _attempts(text: str) -> int | None:
    if text == "forever":
        return None
    if not (text.isascii() and text.isdecimal()):
        raise typer.BadParameter(f"--reconnect {text}: write a number of attempts, or forever")
    return int(text)


def _check_sources(sources: Sequence[str], stream: StreamOptions, *, has_bundle: bool) -> None:
    if len(set(sources)) < len(sources):
        raise typer.BadParameter("a source is named twice")
    if has_bundle:
        return
    for source in sources:
        if "://" not in source:
            raise typer.BadParameter(f"{source}: a server reads addresses only; with --bundle DIR it is read here")
    if stream.follow:
        raise typer.BadParameter("--follow is for a file, which needs --bundle")


async def _watch_all(
    sources: Sequence[str],
    bundle: Path | None,
    threads: int,
    settings: dict[str, Any] | None,
    arguments: dict[str, Any],
    stream: StreamOptions,
    view: View,
    hook: Webhook | None,
) -> int:
    """Watch every source to its end. Returns how many failed."""
    from tenclip_api.uris import without_secrets

    async with AsyncExitStack() as held:
        watch = await _opened(held, bundle, threads, settings, arguments, stream)
        names = [without_secrets(s) if "://" in s else s for s in sources]
        tasks = [_watch(name, watch(source), view, hook) for name, source in zip(names, sources, strict=True)]
        return sum(await asyncio.gather(*tasks))


async def _watch(name: str, updates: AsyncGenerator[LiveUpdate, None], view: View, hook: Webhook | None) -> bool:
    """Whether it failed."""
    from tenclip_api.errors import TenclipError
    from tenclip_client._live import LiveEvent
    from tenclip_client.cli.live_view import as_json

    try:
        async with aclosing(updates):
            async for update in updates:
                view.show(name, update)
                if hook is not None and isinstance(update, LiveEvent):
                    hook.send(as_json(name, update))
    except TenclipError as err:
        view.fail(name, err)
        return True
    return False


async def _opened(
    held: AsyncExitStack,
    bundle: Path | None,
    threads: int,
    settings: dict[str, Any] | None,
    arguments: dict[str, Any],
    stream: StreamOptions,
) -> Watch:
    """A function that watches one source: here, or on the server."""
    from tenclip_client._live import live_request, live_update

    if bundle is not None:
        from tenclip_client.cli.local_live import load_local

        local = await held.enter_async_context(load_local()(bundle, threads=threads))
        request = live_request(**arguments)

        async def watch_here(source: str) -> AsyncGenerator[LiveUpdate, None]:
            messages = local.live(source, request, follow=stream.follow, paced=stream.paced == "on")
            async with aclosing(messages):
                async for message in messages:
                    yield live_update(message)

        return watch_here

    from tenclip_client import AsyncClient

    client = await held.enter_async_context(AsyncClient(**settings or {}))
    return lambda source: client.live(source, **arguments)
