"""The option groups of `tenclip bench`: the load, and the request that it consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tenclip_client.cli.options import CONNECTION, Model, NumClips, Protocol, Selection

if TYPE_CHECKING:
    from tenclip_client._extraction import ClipChoice
    from tenclip_client._load import LoadPlan

_LOAD = "Load"
_DEFAULT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """When requests are sent, and how many."""

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
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate", "-r", help="Open loop: requests per second, however slow the answers.", rich_help_panel=_LOAD
        ),
    ] = None
    arrivals: Annotated[
        Literal["poisson", "constant"],
        typer.Option(help="With --rate: random or equal times between requests.", rich_help_panel=_LOAD),
    ] = "poisson"
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration", "-d", metavar="SECONDS", help="How long to measure. Default: 10.", rich_help_panel=_LOAD
        ),
    ] = None
    requests: Annotated[
        int | None, typer.Option("--requests", "-n", min=1, help="How many requests to measure.", rich_help_panel=_LOAD)
    ] = None
    warmup: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Load before the measurement begins.", rich_help_panel=_LOAD),
    ] = 2.0
    max_in_flight: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="With --rate: a request beyond it is not sent and counts as failed.",
            rich_help_panel=_LOAD,
        ),
    ] = 1000
    seed: Annotated[int, typer.Option(help="Seeds the choice of videos and arrival times.", rich_help_panel=_LOAD)] = 0

    def plan(self, videos: Sequence[str], *, server_path: bool, without_videos: bool = False) -> LoadPlan:
        """The load of these videos (files, folders or patterns, each with `@WEIGHT` or without).

        server_path: the videos are paths on the server's machine. without_videos: there need be none, for requests of
        made-up tensors. Raises InvalidRequest.
        """
        from tenclip_client._load import LoadPlan, LoadVideo
        from tenclip_client._load_videos import weighted_videos

        found = weighted_videos(videos, server_path=server_path)
        if without_videos and not found:
            found = [LoadVideo(name="tensors", data=b"", group="tensors")]
        return LoadPlan(
            videos=found,
            concurrency=1 if self.concurrency is None and self.rate is None else self.concurrency,
            rate=self.rate,
            arrivals=self.arrivals,
            seconds=_DEFAULT_SECONDS if self.duration is None and self.requests is None else self.duration,
            num_requests=self.requests,
            warmup_seconds=self.warmup,
            max_in_flight=self.max_in_flight,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The call that every request makes, and how it reaches the server."""

    method: Annotated[
        Literal["predict", "features", "infer"],
        typer.Option(help="Which call to send; infer: the Open Inference Protocol's, to any server that speaks it."),
    ] = "predict"
    input: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:TYPE]",
            help="With infer: an input to send. Default: a file if one is taken, else all. With its type (video:BYTES) "
            "where the server names none. Repeatable.",
        ),
    ] = None
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:SIZES", help="With infer: the shape of an input, clips:1,16,112,112,3. Repeatable."),
    ] = None
    model: Model = ""
    selection: Selection = None
    num_clips: NumClips = None
    protocol: Protocol = None
    server_path: Annotated[
        bool,
        typer.Option("--server-path", help="The videos are paths on the server's machine.", rich_help_panel=CONNECTION),
    ] = False
    deadline: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="Deadline of every request; 0: none.", rich_help_panel=CONNECTION),
    ] = 60.0
    connections: Annotated[
        int, typer.Option(min=1, max=1000, help="Connections, used in turn.", rich_help_panel=CONNECTION)
    ] = 1

    def choice(self) -> ClipChoice:
        """The model and the clips that every request names."""
        from tenclip_client._extraction import ClipChoice

        return ClipChoice(model=self.model, clips=self.selection, num_clips=self.num_clips, protocol=self.protocol)

    def check(self) -> None:
        """Raises InvalidRequest for options that the method has not."""
        from tenclip_api.errors import InvalidRequest

        clips = {"selection": self.selection, "num-clips": self.num_clips, "protocol": self.protocol}
        tensors = {"input": self.input, "shape": self.shape}
        others = {**clips, "server-path": self.server_path or None} if self.method == "infer" else tensors
        if given := [f"--{name}" for name, value in others.items() if value]:
            raise InvalidRequest(f"--method {self.method} takes no {', '.join(given)}")
