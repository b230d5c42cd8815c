"""Options that several commands of the client share, and groups of them for `with_option_groups`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from tenclip_client._extraction import ClipChoice

CLIPS, CONNECTION, OUTPUT = "Which clips", "Connection", "Output"

VIDEO_ARGUMENT = typer.Argument(
    metavar="VIDEO", help="Files, folders, lists of videos, or patterns such as 'clips/*.mp4'.", show_default=False
)
ListRoot = Annotated[
    Path | None,
    typer.Option(
        "--videos",
        help="Folder that relative paths in a list start from.",
        show_default="the list's",
    ),
]
TimeoutSeconds = Annotated[
    float,
    typer.Option("--timeout", min=0, help="Seconds to wait for each video; 0: for ever.", rich_help_panel=CONNECTION),
]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Videos in flight at once.", rich_help_panel=CONNECTION)]
ServerPaths = Annotated[
    bool,
    typer.Option(
        "--server-path", help="The videos are paths on the server's machine, or URIs.", rich_help_panel=CONNECTION
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else.", rich_help_panel=OUTPUT)]
ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="PAGE.html|FOLDER",
        help="Also write what was found as HTML: one page with a section for each video, or a folder with a page for "
        "each and index.html.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
Model = Annotated[
    str, typer.Option(metavar="NAME[:VERSION]", help="Which model; not needed where the server holds one.")
]
Selection = Annotated[
    Literal["uniform", "center", "windows", "salient"] | None,
    typer.Option(help="How clips are chosen. Default: as the model's protocol says.", rich_help_panel=CLIPS),
]
NumClips = Annotated[int | None, typer.Option(min=1, help="How many clips.", rich_help_panel=CLIPS)]
Protocol = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A named test protocol instead of the options above.", rich_help_panel=CLIPS),
]


def _connection_option(name: str, help_text: str) -> Any:
    """An option that has a variable, too: `--server-name` is TENCLIP_SERVER_NAME."""
    variable = f"TENCLIP_{name.upper().replace('-', '_')}"
    return typer.Option(f"--{name}", envvar=variable, show_envvar=True, help=help_text, rich_help_panel=CONNECTION)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """The options of a command that connects to a server."""

    server: Annotated[
        str,
        typer.Option(
            envvar="TENCLIP_SERVER", metavar="HOST:PORT", help="Where the server is.", rich_help_panel=CONNECTION
        ),
    ] = "127.0.0.1:7411"
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a server that is not up yet.", rich_help_panel=CONNECTION)
    ] = False
    tls: Annotated[bool, _connection_option("tls", "Encrypt the connection. Implied by the next three.")] = False
    ca: Annotated[
        Path | None,
        _connection_option("ca", "Trust servers that this authority (PEM) vouches for, and no others."),
    ] = None
    certificate: Annotated[
        Path | None,
        _connection_option("certificate", "The client's own certificate (PEM), for servers that ask for one."),
    ] = None
    key: Annotated[Path | None, _connection_option("key", "The key of --certificate (PEM).")] = None
    server_name: Annotated[
        str,
        _connection_option(
            "server-name", "The name in the server's certificate, where --server is not it (a forwarded port, say)."
        ),
    ] = ""
    token_file: Annotated[
        Path | None,
        _connection_option("token-file", "File with the token to send; or the variable TENCLIP_TOKEN has it."),
    ] = None
    insecure_token: Annotated[
        bool, _connection_option("insecure-token", "Send the token to other machines without TLS, too.")
    ] = False
    no_proxy: Annotated[
        bool, _connection_option("no-proxy", "Connect directly, whatever http_proxy and its like say.")
    ] = False

    def client_settings(self, timeout_seconds: float) -> dict[str, Any]:
        """The arguments of `Client` and `AsyncClient`. timeout_seconds: 0 for no deadline. Raises InvalidRequest."""
        from tenclip_client._security import token_from_file

        # A token is never an option: every user of the machine sees the options of a process.
        token = os.environ.get("TENCLIP_TOKEN") or None
        return {
            "target": self.server,
            "timeout": timeout_seconds or None,
            "wait_for_ready": self.wait,
            "tls": self.tls or None,
            "ca": self.ca,
            "certificate": self.certificate,
            "key": self.key,
            "server_name": self.server_name,
            "token": token if self.token_file is None else token_from_file(self.token_file),
            "insecure_token": self.insecure_token,
            "proxy": False if self.no_proxy else None,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Which model, and which clips of every video."""

    model: Model = ""
    selection: Selection = None
    num_clips: NumClips = None
    window_step: Annotated[
        int | None,
        typer.Option(min=1, help="Frames from one window to the next. Default: no overlap.", rich_help_panel=CLIPS),
    ] = None
    start: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Only from here on.", rich_help_panel=CLIPS)
    ] = None
    end: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Only up to here.", rich_help_panel=CLIPS)
    ] = None
    fully_convolutional: Annotated[
        bool | None,
        typer.Option(
            "--fully-convolutional/--pooled",
            help="Slide over the larger crop, or take the centre crop only. Default: as the model's protocol says.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    adaptive: Annotated[
        bool,
        typer.Option(
            "--adaptive",
            help="Stop when the salient clips that are done settle the classes, by the model's own stopping rule.",
            rich_help_panel=CLIPS,
        ),
    ] = False
    error_bound: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Of --adaptive: in how many videos the class may differ from that of all clips; one of the bounds "
            "that `tenclip models NAME` lists. Default: the model's own.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[/VERSION]",
            help="Score windows with the sampler of this model, or with `motion-energy`. Default: the model's own.",
            rich_help_panel=CLIPS,
        ),
    ] = None
    protocol: Protocol = None

    def choice(self) -> ClipChoice:
        from tenclip_client._extraction import ClipChoice

        values = dataclasses.asdict(self)
        return ClipChoice(clips=values.pop("selection"), **values)
