"""What every request of the page passes: its host, its origin, its token; and the headers of every answer."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tenclip_api.errors import PermissionDenied, ServerError, TenclipError, Unauthenticated
from tenclip_ui.answers import error_response
from tenclip_ui.settings import PageSettings

# A page of another site cannot send it without asking first, and is refused when it asks.
PAGE_HEADER = "x-tenclip-page"
_API, _VIDEOS = "/api/", "/videos/"
_LOG = logging.getLogger("tenclip_ui")
# Scripts, styles and pictures come from the page itself, and nothing may run or be shown that came another way.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class Guard:
    """Around the app. Refuses before a body is read."""

    def __init__(self, app: ASGIApp, settings: PageSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # Scripts of one version must not meet answers of another.
                headers["Cache-Control"] = "no-store" if scope["path"].startswith(_API) else "no-cache"
            await send(message)

        try:
            self._check(scope)
        except TenclipError as err:
            await error_response(err)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            # uvicorn would log it without saying of what, and Starlette shows nothing of it in any case.
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            if not started:
                error = ServerError("a fault of the page's own server; its log says more")
                await error_response(error)(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._settings.host_names.accepts(host):
            option = self._settings.names_option
            raise PermissionDenied(f"this page is not to be called as {host!r}; {option} allows a name")
        if scope["path"].startswith((_API, _VIDEOS)):
            check_origin(headers, host, changes=scope["method"] not in ("GET", "HEAD"))
        if scope["path"].startswith(_API):
            check_page_token(headers, self._settings)


def check_origin(headers: Mapping[str, str], host: str, *, changes: bool) -> None:
    """Raises PermissionDenied for what another site had a browser send."""
    site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
    if site != "same-origin" or foreign:
        raise PermissionDenied("this page answers its own scripts only, and not those of other sites")
    if changes and PAGE_HEADER not in headers:
        raise PermissionDenied(f"this request lacks the header {PAGE_HEADER}, by which the page knows its own")


def token_of(headers: Mapping[str, str]) -> str | None:
    """The bearer token of a request."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def check_page_token(headers: Mapping[str, str], settings: PageSettings) -> None:
    """Raises Unauthenticated without the page's token, PermissionDenied for a token that was sent in plain text."""
    token = token_of(headers)
    if token is not None and not settings.takes_tokens:
        raise PermissionDenied(
            "this page is not encrypted, so it takes no tokens: it must be started with --page-certificate and "
            "--page-key, or with --insecure-page where something in front of it encrypts"
        )
    if settings.token is None:
        return
    if token is None:
        raise Unauthenticated("this page wants a token")
    if not hmac.compare_digest(token.encode("utf-8", "replace"), settings.token.encode()):
        raise Unauthenticated("the token is not the one of this page")
