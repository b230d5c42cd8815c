"""Whom the page answers: what their requests may do is what the server lets their token do."""

from __future__ import annotations

from starlette.requests import Request

from tenclip_api.errors import PermissionDenied, Unauthenticated
from tenclip_client import AsyncClient, ModelList
from tenclip_ui.guard import token_of
from tenclip_ui.link import ServerLink
from tenclip_ui.settings import PageSettings


def client_of(request: Request, link: ServerLink, settings: PageSettings) -> AsyncClient:
    """The client that speaks for whoever sent the request. A token for the page itself goes no further."""
    return link.client(None if settings.token is not None else token_of(request.headers))


async def models_for(request: Request, link: ServerLink, settings: PageSettings) -> ModelList:
    """The server's models, which shows that the server knows the visitor.

    Raises Unauthenticated where the visitor's token will help, PermissionDenied where only the page's own would, and
    whatever else the server says.
    """
    try:
        return await client_of(request, link, settings).list_models()
    except Unauthenticated as err:
        if settings.token is None and settings.takes_tokens:
            raise
        if settings.token is not None:
            raise PermissionDenied(
                f"the server refuses the page: {err.message}; the page must be started with --token-file"
            ) from err
        raise PermissionDenied(
            "the server wants a token, and this page takes none, for it is not encrypted: it must be started with "
            "--page-certificate and --page-key, or with --insecure-page where something in front of it encrypts"
        ) from err
