"""`tenclip ui`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_client.cli.options import ConnectionOptions
from tenclip_settings import with_option_groups

if TYPE_CHECKING:
    from tenclip_ui.settings import PageSettings

_PAGE = "Page"
# Longest of a video, its upload included.
_TIMEOUT_SECONDS = 900.0


@with_option_groups
def ui(
    *,
    connection: ConnectionOptions,
    host: Annotated[str, typer.Option(help="Address that the page is shown on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 8050,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    samples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of videos to pick from.", show_default=False)
    ] = None,
    videos: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Folder that neighbours are played from, where the server has an index. Repeatable.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0, help="Seconds for each video, its upload included; 0: for ever.")
    ] = _TIMEOUT_SECONDS,
    page_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with a token that visitors are asked for.", rich_help_panel=_PAGE),
    ] = None,
    page_certificate: Annotated[
        Path | None, typer.Option(help="Show the page over HTTPS, with this certificate (PEM).", rich_help_panel=_PAGE)
    ] = None,
    page_key: Annotated[
        Path | None, typer.Option(help="The key of --page-certificate (PEM).", rich_help_panel=_PAGE)
    ] = None,
    insecure_page: Annotated[
        bool,
        typer.Option(
            "--insecure-page", help="Take tokens without HTTPS from other machines, too.", rich_help_panel=_PAGE
        ),
    ] = False,
    page_names: Annotated[
        list[str] | None,
        typer.Option(
            "--page-name",
            metavar="NAME",
            help="Host name that browsers may call the page by (a proxy's, say). Repeatable.",
            rich_help_panel=_PAGE,
        ),
    ] = None,
) -> None:
    """A page in the browser: drop a video, see its prediction over time.

    Pictures, salience, clips, classes over time and timings; two models side by side; a report to save. Everything
    comes from this process: nothing is fetched from elsewhere, and videos go to the server only.

    Where the server wants a token, the page asks its visitors for theirs, unless it is given one itself (--token-file).
    A page for other machines lends its own token to nobody who does not know --page-token-file.

    \b
    Examples:
      tenclip ui
      tenclip ui --server gpu-box:7411 --open
      tenclip ui --samples clips/ --videos /data/videos --port 0
      tenclip ui --server gpu-box:7411 --tls --token-file token.txt
      tenclip ui --host 0.0.0.0 --page-token-file page.txt --page-certificate page.pem --page-key page.key
    """
    import asyncio

    from tenclip_client._security import token_from_file
    from tenclip_ui.settings import PageSettings, page_tls

    client = connection.client_settings(timeout)
    settings = PageSettings(
        host=host,
        port=port,
        names=tuple(page_names or ()),
        token=None if page_token_file is None else token_from_file(page_token_file)(),
        lends_token=client["token"] is not None,
        tls=page_tls(page_certificate, page_key),
        insecure=insecure_page,
        samples=samples,
        videos=tuple(videos or ()),
    )
    if settings.warning:
        typer.secho(f"Warning: {settings.warning}", fg="yellow", err=True)
    asyncio.run(_run(client, settings, open_browser=open_browser))


async def _run(client: dict[str, Any], settings: PageSettings, *, open_browser: bool) -> None:
    """Show the page until SIGTERM or Ctrl-C."""
    import asyncio
    import signal
    import webbrowser

    from tenclip_ui.app import create_app
    from tenclip_ui.link import ServerLink
    from tenclip_ui.runner import PageServer

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with ServerLink(client) as link:
        page = PageServer(create_app(link, settings), settings, option="--port", grace_seconds=3)
        await page.start()
        url = settings.url(page.port)
        print(f"tenclip page on {url} for the server at {client['target']}", flush=True)
        if open_browser:
            await asyncio.to_thread(webbrowser.open, url)
        await stopping.wait()
        await page.stop()
