"""`tenclip models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenclip_client.cli.options import ConnectionOptions, Json, TimeoutSeconds
from tenclip_client.cli.output import output_console, print_json
from tenclip_settings import with_option_groups

_CHANGE = "Change what is served"


@with_option_groups
def models(
    *,
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
    connection: ConnectionOptions,
    timeout: TimeoutSeconds = 60.0,
    as_json: Json = False,
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
    if catalog:
        _print_catalog(as_json)
    elif load or unload or reload or default:
        _change_models(connection.client_settings(timeout), load, unload, default, as_json)
    else:
        _print_models(connection.client_settings(timeout), name, as_json)


def _print_models(settings: dict[str, Any], name: str | None, as_json: bool) -> None:
    from tenclip_client import Client
    from tenclip_client.cli.render import print_model, print_models

    with Client(**settings) as client:
        if name is None:
            listed = client.list_models()
            print_json(listed.to_dict()) if as_json else print_models(output_console(), listed)
        else:
            model = client.get_model(name)
            print_json(model.to_dict()) if as_json else print_model(output_console(), model)


def _change_models(
    settings: dict[str, Any], load: str | None, unload: str | None, default: str | None, as_json: bool
) -> None:
    """One change; where none is named, a reload of everything. Exit code 1 when something failed to load."""
    from tenclip_client import Client, ModelChanges
    from tenclip_client.cli.render import print_changes

    with Client(**settings) as client:
        if load:
            changes = client.load_model(load)
        elif unload:
            changes = client.unload_model(unload)
        elif default:
            client.set_default_version(default)
            changes = ModelChanges(loaded=(), unloaded=(), failed=())
        else:
            changes = client.reload_models()
    print_json(changes.to_dict()) if as_json else print_changes(output_console(), changes, default)
    if changes.failed:
        raise typer.Exit(1)


def _print_catalog(as_json: bool) -> None:
    from tenclip_client.cli.catalog import load_catalog, print_catalog

    rows = load_catalog()
    print_json({"models": rows}) if as_json else print_catalog(output_console(), rows)
