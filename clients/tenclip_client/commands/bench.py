"""`tenclip bench`: load on a server, and a report of what it answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.bench_options import LoadOptions, RequestOptions
from tenclip_client.cli.options import ConnectionOptions, Json
from tenclip_client.cli.output import output_console, print_json
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_client._aio import AsyncClient
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._load import LoadPlan, LoadReport, LoadVideo, Send


@with_option_groups
def bench(
    *,
    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VIDEO[@WEIGHT]",
            help="Files, folders or patterns; with a weight, that many times as often as another of weight 1.",
            show_default=False,
        ),
    ] = None,
    connection: ConnectionOptions,
    load: LoadOptions,
    request: RequestOptions,
    as_json: Json = False,
) -> None:
    """Put load on a server and report latency, throughput, stages and errors.

    Videos are read once, before it begins. With --rate, latency counts from the moment a request was due, so a server
    that stalls is charged with all that waited; nothing is retried. Requests in flight at the end are waited for.
    Throughput counts good answers that arrived while it was measured. Ctrl-C ends it early, with a report.
    Exit code 1 when no request succeeded.

    --method infer speaks the Open Inference Protocol (v2) by gRPC to any server that does: Triton, TorchServe (with
    ts_open_inference_protocol=true in its config.properties), those of KServe, this one. Inputs of type BYTES get the
    videos, others made-up numbers, and then no videos are named. Where the server does not say what a model takes, as
    TorchServe never does, --input NAME:TYPE declares it, with --shape for numbers.

    Examples:

    \b
      tenclip bench archery.avi
      tenclip bench clips/ --concurrency 8 --duration 60
      tenclip bench clips/ --rate 25 --arrivals constant --requests 1000
      tenclip bench short.mp4@9 two-hours.mp4@1 --rate 4 --deadline 10 --json > bench.json
      tenclip bench --server gpu-box:7411 --server-path /videos/a.mp4 --method features -c 32 --connections 4
      tenclip bench clips/ --server triton:8001 --method infer --model moves -c 8
      tenclip bench --server triton:8001 --method infer --model moves --input clips --shape clips:8,16,112,112,3
      tenclip bench clips/ --server torchserve:7070 --method infer --model moves --input video:BYTES
    """
    from tenclip_client.cli.bench_report import print_report

    if not videos and request.method != "infer":
        raise typer.BadParameter("name at least one video", param_hint="VIDEO[@WEIGHT]")
    request.check()
    plan = load.plan(videos or [], server_path=request.server_path, without_videos=request.method == "infer")
    settings = connection.client_settings(request.deadline)
    report = asyncio.run(_run(plan, settings, request, seed=load.seed, files=bool(videos)))
    if as_json:
        head = {"server": connection.server, "method": request.method, "deadline": request.deadline or None}
        print_json(head | report.to_dict())
    else:
        print_report(output_console(), connection.server, request.method, report)
    if not report.num_ok:
        raise typer.Exit(1)


async def _run(
    plan: LoadPlan, settings: dict[str, Any], request: RequestOptions, *, seed: int, files: bool
) -> LoadReport:
    from tenclip_client import AsyncClient
    from tenclip_client._load import generate
    from tenclip_client.cli.bench_report import bench_progress

    # gRPC shares a connection between channels to one address unless it is told not to. A retry would hide an error.
    own = [("grpc.use_local_subchannel_pool", 1)]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(AsyncClient(**settings, retries=0, options=own))
            for _ in range(request.connections)
        ]
        # A server that is not there, or has no such model, is one error and no load.
        if request.method == "infer":
            send = await _infer_sender(clients, request, seed=seed, files=files)
        else:
            choice = request.choice()
            await asyncio.gather(*(client.get_model(choice.model) for client in clients))
            send = sender(clients, request.method, choice)
        with bench_progress() as on_tick:
            return await generate(send, plan, on_tick=on_tick)


async def _infer_sender(clients: Sequence[AsyncClient], request: RequestOptions, *, seed: int, files: bool) -> Send:
    from tenclip_client._infer import infer_sender
    from tenclip_client._infer_tensors import parse_shapes

    return await infer_sender(
        clients,
        request.model,
        inputs=request.input or [],
        shapes=parse_shapes(request.shape or []),
        seed=seed,
        deadline=request.deadline or None,
        files=files,
    )


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
