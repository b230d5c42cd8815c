"""`tenclip bench`: load on a server, and a report of what it answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_client.cli.options import (
    CONNECTION,
    ConnectionOptions,
    Json,
    Model,
    NumClips,
    Protocol,
    Selection,
)
from tenclip_client.cli.output import output_console, print_json
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_client._aio import AsyncClient
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._load import LoadPlan, LoadReport, LoadVideo, Send

_LOAD = "Load"
_DEFAULT_SECONDS, _DEFAULT_WARMUP_SECONDS = 10.0, 2.0


@with_option_groups
def bench(
    *,
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO[@WEIGHT]",
            help="Files, folders or patterns; with a weight, that many times as often as another of weight 1.",
            show_default=False,
        ),
    ],
    connection: ConnectionOptions,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=100_000,
            help="Closed loop: requests in flight at once, each followed by the next. Default: 1.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", "-r", help="Open loop: requests per second, however slow the answers.", rich_help_panel=_LOAD
        ),
    ] = None,
    arrivals: Annotated[
        Literal["poisson", "constant"],
        typer.Option(help="With --rate: random or equal times between requests.", rich_help_panel=_LOAD),
    ] = "poisson",
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", "-d", metavar="SECONDS", help="How long to measure. Default: 10.", rich_help_panel=_LOAD
        ),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="How many requests to measure.", rich_help_panel=_LOAD)
    ] = None,
    warmup: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Load before the measurement begins.", rich_help_panel=_LOAD),
    ] = _DEFAULT_WARMUP_SECONDS,
    max_in_flight: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="With --rate: a request beyond it is not sent and counts as failed.",
            rich_help_panel=_LOAD,
        ),
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seeds the choice of videos and arrival times.", rich_help_panel=_LOAD)] = 0,
    method: Annotated[Literal["predict", "features"], typer.Option(help="Which call to send.")] = "predict",
    model: Model = "",
    selection: Selection = None,
    num_clips: NumClips = None,
    protocol: Protocol = None,
    server_path: Annotated[
        bool,
        typer.Option("--server-path", help="The videos are paths on the server's machine.", rich_help_panel=CONNECTION),
    ] = False,
    deadline: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Deadline of every request; 0: none.", rich_help_panel=CONNECTION),
    ] = 60.0,
    connections: Annotated[
        int, typer.Option(min=1, max=1000, help="Connections, used in turn.", rich_help_panel=CONNECTION)
    ] = 1,
    as_json: Json = False,
) -> None:
    """Put load on a server and report latency, throughput, stages and errors.

    Videos are read once, before it begins. With --rate, latency counts from the moment a request was due, so a server
    that stalls is charged with all that waited; nothing is retried. Requests in flight at the end are waited for.
    Throughput counts good answers that arrived while it was measured. Ctrl-C ends it early, with a report.
    Exit code 1 when no request succeeded.

    Examples:

    \b
      tenclip bench archery.avi
      tenclip bench clips/ --concurrency 8 --duration 60
      tenclip bench clips/ --rate 25 --arrivals constant --requests 1000
      tenclip bench short.mp4@9 two-hours.mp4@1 --rate 4 --deadline 10 --json > bench.json
      tenclip bench --server gpu-box:7411 --server-path /videos/a.mp4 --method features -c 32 --connections 4
    """
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._load import LoadPlan
    from tenclip_client._load_videos import weighted_videos
    from tenclip_client.cli.bench_report import print_report

    plan = LoadPlan(
        videos=weighted_videos(videos, server_path=server_path),
        concurrency=1 if concurrency is None and rate is None else concurrency,
        rate=rate,
        arrivals=arrivals,
        seconds=_DEFAULT_SECONDS if duration is None and requests is None else duration,
        num_requests=requests,
        warmup_seconds=warmup,
        max_in_flight=max_in_flight,
        seed=seed,
    )
    choice = ClipChoice(model=model, clips=selection, num_clips=num_clips, protocol=protocol)
    report = asyncio.run(_run(plan, connection.client_settings(deadline), connections, method, choice))
    if as_json:
        head = {"server": connection.server, "method": method, "deadline": deadline or None}
        print_json(head | report.to_dict())
    else:
        print_report(output_console(), connection.server, method, report)
    if not report.num_ok:
        raise typer.Exit(1)


async def _run(
    plan: LoadPlan, settings: dict[str, Any], connections: int, method: str, choice: ClipChoice
) -> LoadReport:
    from tenclip_client import AsyncClient
    from tenclip_client._load import generate
    from tenclip_client.cli.bench_report import bench_progress

    # gRPC shares a connection between channels to one address unless it is told not to. A retry would hide an error.
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(**settings, retries=0, options=own)) for _ in range(connections)
        ]
        # A server that is not there, or has no such model, is one error and no load.
        await asyncio.gather(*(client.get_model(choice.model) for client in clients))
        with bench_progress() as on_tick:
            return await generate(sender(clients, method, choice), plan, on_tick=on_tick)


def sender(clients: Sequence[AsyncClient], method: str, choice: ClipChoice) -> Send:
    """A function that sends a video over the clients in turn.

    Predictions ask for the scores of clips too, so that clips can be counted.
    """
    from tenclip_client._load import Answer

    turns = itertools.cycle(clients)
    arguments: dict[str, Any] = vars(choice)

    async def predict(video: LoadVideo) -> Answer:
        result = await next(turns).predict(video.data, name=video.name, clip_scores=True, **arguments)
        made = result.provenance
        return Answer(num_clips=len(result.clips), stage_seconds=made.timings, model=_model(made))

    async def features(video: LoadVideo) -> Answer:
        result = await next(turns).extract_features(video.data, name=video.name, **arguments)
        made = result.provenance
        return Answer(num_clips=len(result.features.clips), stage_seconds=made.timings, model=_model(made))

    return predict if method == "predict" else features


def _model(provenance: Any) -> str:
    return f"{provenance.model}:{provenance.version} on {provenance.runtime}, {provenance.protocol}"
