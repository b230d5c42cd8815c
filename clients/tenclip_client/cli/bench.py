"""`tenclip bench`: load on a server, and a report of what it answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tenclip_client.commands import Model, NumClips, ProtocolName, Selection, Server, Wait, _connection, secured

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tenclip_client._aio import AsyncClient
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._histogram import Histogram
    from tenclip_client._load import LoadPlan, LoadReport, LoadVideo, Send, Snapshot

_LOAD, _CONNECTION, _OUTPUT = "Load", "Connection", "Output"
_SECONDS, _WARMUP = 10.0, 2.0
# All videos are held in memory, so that no disk is measured.
_MOST_BYTES = 2**31
_SECONDS_BETWEEN_LINES = 10.0
# Beyond these the generator says that it was the bottleneck itself: seconds and share of the median; share of a core.
_LAG_SECONDS, _LAG_SHARE, _CPU_SHARE = 0.005, 0.05, 0.9
_PERCENTILES = (50, 90, 95, 99, 99.9)


@secured
def bench(
    videos: Annotated[
        list[str],
        typer.Argument(
            metavar="VIDEO[@WEIGHT]",
            help="Files, folders or patterns; with a weight, that many times as often as another of weight 1.",
            show_default=False,
        ),
    ],
    server: Server = "127.0.0.1:7411",
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            "-c",
            min=1,
            max=100_000,
            help="Closed loop: so many requests in flight, each followed by the next. Default: 1.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", "-r", help="Open loop: so many requests a second, come what may.", rich_help_panel=_LOAD
        ),
    ] = None,
    arrivals: Annotated[
        Literal["poisson", "constant"],
        typer.Option(help="Of --rate: random or equal times between requests.", rich_help_panel=_LOAD),
    ] = "poisson",
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", "-d", metavar="SECONDS", help="Measure so long. Default: 10.", rich_help_panel=_LOAD
        ),
    ] = None,
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="Measure so many requests.", rich_help_panel=_LOAD)
    ] = None,
    warmup: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Load before the measurement begins.", rich_help_panel=_LOAD),
    ] = _WARMUP,
    max_in_flight: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="Of --rate: a request beyond it is not sent and counts as failed.",
            rich_help_panel=_LOAD,
        ),
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the choice of videos and times.", rich_help_panel=_LOAD)] = 0,
    method: Annotated[Literal["predict", "features"], typer.Option(help="What is asked for.")] = "predict",
    model: Model = "",
    selection: Selection = None,
    num_clips: NumClips = None,
    protocol: ProtocolName = None,
    server_path: Annotated[
        bool,
        typer.Option(
            "--server-path", help="The videos are paths on the server's machine.", rich_help_panel=_CONNECTION
        ),
    ] = False,
    deadline: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Of every request; 0: none.", rich_help_panel=_CONNECTION),
    ] = 60.0,
    connections: Annotated[
        int, typer.Option(min=1, max=1000, help="Connections, used in turn.", rich_help_panel=_CONNECTION)
    ] = 1,
    wait: Wait = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output, nothing else.", rich_help_panel=_OUTPUT)
    ] = False,
    **security: Any,
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

    plan = LoadPlan(
        videos=weighted_videos(videos, server_path=server_path),
        concurrency=1 if concurrency is None and rate is None else concurrency,
        rate=rate,
        arrivals=arrivals,
        seconds=_SECONDS if duration is None and requests is None else duration,
        num_requests=requests,
        warmup_seconds=warmup,
        max_in_flight=max_in_flight,
        seed=seed,
    )
    choice = ClipChoice(model=model, clips=selection, num_clips=num_clips, protocol=protocol)
    connection = _connection(server, deadline, wait, **security)
    report = asyncio.run(_run(plan, connection, connections, method, choice))
    if as_json:
        print(
            json.dumps({"server": server, "method": method, "deadline": deadline or None} | report.to_dict(), indent=2)
        )
    else:
        _print_report(server, method, report)
    if not report.num_ok:
        raise typer.Exit(1)


# --- videos ---------------------------------------------------------------------------------------------------------


def weighted_videos(arguments: Sequence[str], *, server_path: bool = False) -> list[LoadVideo]:
    """What is sent. The videos of one argument share its weight.

    Raises what is wrong with the first video that cannot be read, and InvalidRequest for a weight that is none.
    """
    from tenclip_client._inputs import expand_inputs
    from tenclip_client._load import LoadVideo
    from tenclip_client._types import ServerPath
    from tenclip_client._video import load_video

    found: list[LoadVideo] = []
    num_bytes = 0
    for argument in arguments:
        pattern, weight = split_weight(argument, server_path=server_path)
        inputs = expand_inputs([pattern], server_paths=server_path)
        for video in inputs:
            if video.error is not None:
                raise video.error
            payload = load_video(video.source, video.name)
            num_bytes += len(payload.data)
            _check_size(num_bytes)
            data = ServerPath(payload.path) if payload.path else payload.data
            found.append(LoadVideo(name=payload.name, data=data, group=argument, weight=weight / len(inputs)))
    return found


def split_weight(argument: str, *, server_path: bool = False) -> tuple[str, float]:
    """`clips/@3` -> (`clips/`, 3). What is there under its whole name has no weight. Raises InvalidRequest."""
    from tenclip_api.errors import InvalidRequest

    name, at, text = argument.rpartition("@")
    if not at or not name or (not server_path and Path(argument).exists()):
        return argument, 1.0
    try:
        weight = float(text)
    except ValueError:
        return argument, 1.0  # an @ in the name; if that is no file, the error will say so
    if not (math.isfinite(weight) and weight > 0):
        raise InvalidRequest(f"{argument}: a weight must be positive, got {text}")
    return name, weight


def _check_size(num_bytes: int) -> None:
    from tenclip_api.errors import InvalidRequest

    if num_bytes > _MOST_BYTES:
        raise InvalidRequest(
            f"the videos take more than {_MOST_BYTES >> 30} GiB, and bench holds them all in memory; name fewer, or "
            "let the server read them (--server-path)"
        )


# --- load -----------------------------------------------------------------------------------------------------------


async def _run(
    plan: LoadPlan, connection: dict[str, Any], connections: int, method: str, choice: ClipChoice
) -> LoadReport:
    from tenclip_client import AsyncClient
    from tenclip_client._load import generate

    # gRPC shares a connection between channels to one address unless it is told not to. A retry would hide an error.
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(**connection, retries=0, options=own))
            for _ in range(connections)
        ]
        # A server that is not there, or has no such model, is one error and no load.
        await asyncio.gather(*(client.get_model(choice.model) for client in clients))
        with _progress() as on_tick:
            return await generate(sender(clients, method, choice), plan, on_tick=on_tick)


def sender(clients: Sequence[AsyncClient], method: str, choice: ClipChoice) -> Send:
    """Sends a video over the clients in turn. Predictions ask for the scores of clips too, to count the clips."""
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


@contextmanager
def _progress() -> Iterator[Callable[[Snapshot], None]]:
    """On standard error: one line that changes, on a terminal; elsewhere a line every ten seconds."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with Live(Text("bench"), console=console, transient=True, redirect_stdout=False, auto_refresh=False) as live:
            yield lambda snapshot: live.update(Text(progress_line(snapshot)), refresh=True)
        return
    said = time.monotonic()

    def on_tick(snapshot: Snapshot) -> None:
        nonlocal said
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            console.print(progress_line(snapshot), markup=False)

    yield on_tick


def progress_line(snapshot: Snapshot) -> str:
    phase = "warm-up" if snapshot.warming_up else f"{snapshot.share_done:4.0%}"
    median = "" if math.isnan(snapshot.median_seconds) else f", median {_ms(snapshot.median_seconds)} ms"
    return (
        f"bench {phase}: {snapshot.num_ok} ok, {snapshot.num_failed} failed, {snapshot.num_in_flight} in flight, "
        f"{snapshot.per_second:.1f} answers/s{median}"
    )


# --- report ---------------------------------------------------------------------------------------------------------


def _print_report(server: str, method: str, report: LoadReport) -> None:
    from tenclip_client.commands import _console

    print_report(_console(), server, method, report)


def print_report(console: Console, server: str, method: str, report: LoadReport) -> None:
    """Throughput, latency by video, stages of the server, failures, and what makes any of it doubtful."""
    from rich.text import Text

    console.print(Text(f"{server}  {'; '.join(sorted(report.models))}".rstrip(), style="bold"))
    console.print(Text(f"{method}, {describe_load(report)}", style="dim"))
    sent = report.num_ok + report.num_failed
    console.print(
        f"\n{report.num_ok} of {sent} requests succeeded; {report.requests_per_second:.4g} requests/s, "
        f"{report.clips_per_second:.4g} clips/s\n"
    )
    if report.num_ok:
        console.print(_latency_table(report), "", _stage_table(report), "", sep="\n")
    if report.failures:
        console.print(_failure_table(report))
    for warning in warnings(report):
        console.print(Text(f"note: {warning}", style="yellow"))


def describe_load(report: LoadReport) -> str:
    """`closed loop of 8, 10.0 s after 2.0 s of warm-up, seed 0`."""
    plan = report.plan
    if plan.rate is None:
        loop = f"closed loop of {plan.concurrency}"
    else:
        loop = f"open loop of {plan.rate:g} requests/s ({plan.arrivals})"
    return f"{loop}, {report.window_seconds:.1f} s after {plan.warmup_seconds:.1f} s of warm-up, seed {plan.seed}"


def warnings(report: LoadReport) -> Iterator[str]:
    """Why the figures may say less than they seem to."""
    if report.interrupted:
        yield f"stopped early, with {report.num_unanswered} requests unanswered"
    late, median = report.lag.percentile(99), report.latency.percentile(50)
    if late > max(_LAG_SECONDS, _LAG_SHARE * median):
        yield f"1% of the requests were sent {_ms(late)} ms late or more: this generator is short of CPU"
    if report.cpu_share > _CPU_SHARE:
        yield (
            f"this generator used {report.cpu_share:.0%} of a core: the server may be faster than these figures; run "
            "several, or on another machine"
        )
    if 0 < report.num_ok < 100:
        yield f"the 99th percentile of {report.num_ok} answers is their slowest or nearly so"


def _latency_table(report: LoadReport) -> Table:
    table = _table("latency, ms", "answers", "mean", *(f"p{p:g}" for p in _PERCENTILES), "max")
    _add_row(table, "all", report.latency, _PERCENTILES)
    if len(report.groups) > 1:
        for name, histogram in report.groups.items():
            _add_row(table, name, histogram, _PERCENTILES)
    return table


def _stage_table(report: LoadReport) -> Table:
    """Where the time goes. `elsewhere` is network, gRPC, parsing and this client."""
    percentiles = (50, 95, 99)
    table = _table("stage in the server, ms", "share", "mean", *(f"p{p}" for p in percentiles), "max")
    stages = {**report.stages, "elsewhere": report.elsewhere}
    whole = sum(h.total for h in stages.values())
    for name, histogram in stages.items():
        _add_row(table, name, histogram, percentiles, first=f"{histogram.total / whole:.1%}" if whole else "")
    return table


def _failure_table(report: LoadReport) -> Table:
    from rich.text import Text

    table = _table("failed", "requests", "p50, ms", "p99", "max")
    table.add_column("the first one", overflow="fold")
    for failure in sorted(report.failures.values(), key=lambda f: -f.seconds.count):
        seconds = failure.seconds
        table.add_row(
            Text(f"{failure.status} {failure.reason}", style="red"),
            str(seconds.count),
            *(_ms(seconds.percentile(p)) for p in (50, 99)),
            _ms(seconds.max),
            Text(failure.example),
        )
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    return table


def _add_row(
    table: Table, name: str, histogram: Histogram, percentiles: Sequence[float], *, first: str | None = None
) -> None:
    from rich.text import Text

    values = (histogram.mean, *(histogram.percentile(p) for p in percentiles), histogram.max)
    table.add_row(Text(name), str(histogram.count) if first is None else first, *map(_ms, values))


def _ms(seconds: float) -> str:
    """Three digits of milliseconds."""
    if math.isnan(seconds):
        return "-"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
