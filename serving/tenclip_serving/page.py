"""`tenclip serve --ui`: the page for browsers, in the server's own process.

It is a client like others, except that it reaches the server by a socket in a folder that only this user can open. So
it needs neither a certificate of its own nor the server's name, and tokens are checked there as everywhere: the page
sends on what its visitors give it. Its own port has the TLS of the gRPC port, certificates of clients included.
"""

from __future__ import annotations

import importlib.util
import logging
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tenclip_api.errors import MissingDependency
from tenclip_serving.config import ServerConfig
from tenclip_serving.security.tls import ServerTls
from tenclip_serving.telemetry.logs import log

if TYPE_CHECKING:
    from tenclip_ui.link import ServerLink
    from tenclip_ui.runner import PageServer


def check_installed() -> None:
    """Raises MissingDependency where the page cannot be shown."""
    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(f"--ui needs {module}, which is not installed: pip install 'tenclip[ui]'")


class Page:
    """Made before the gRPC server listens, for that must listen at `socket`, too; shown from `start` to `stop`."""

    def __init__(self, config: ServerConfig, tls: ServerTls | None) -> None:
        check_installed()
        self._config, self._tls = config, tls
        self._folder = tempfile.TemporaryDirectory(prefix="tenclip-page-")  # of mode 0700
        self.socket = f"unix:{Path(self._folder.name) / 'grpc'}"
        self.url = ""
        self._link: ServerLink | None = None
        self._page: PageServer | None = None

    async def start(self) -> None:
        """Raises ServerUnavailable where the port cannot be had."""
        from tenclip_ui.app import create_app
        from tenclip_ui.link import ServerLink
        from tenclip_ui.runner import PageServer
        from tenclip_ui.settings import PageSettings

        config = self._config
        settings = PageSettings(
            host=config.host,
            port=config.ui_port,
            names=config.browser_names,
            names_option="--browser-name",
            tls=None if self._tls is None else reloaded_context(self._tls),
            insecure=config.insecure_tokens,
            samples=config.ui_samples,
            videos=config.ui_videos,
            max_upload_bytes=config.max_upload_mb << 20,
        )
        if settings.warning and config.tokens_file is None:
            log(logging.WARNING, settings.warning)
        self._link = ServerLink({"target": self.socket, "timeout": config.max_request_seconds, "proxy": False})
        app, grace = create_app(self._link, settings), config.shutdown_grace_seconds
        self._page = PageServer(app, settings, option="--ui", grace_seconds=grace)
        await self._page.start()
        self.url = settings.url(self._page.port)
        log(logging.INFO, f"the page is on {self.url}")

    def begin_stop(self) -> None:
        """Accept nothing more."""
        if self._page is not None:
            self._page.begin_stop()

    async def stop(self) -> None:
        """Returns when nothing of the page runs any more."""
        if self._page is not None:
            await self._page.stop()
        if self._link is not None:
            await self._link.close()
        self._folder.cleanup()


def reloaded_context(tls: ServerTls) -> ssl.SSLContext:
    """A context for a listener, of which each connection gets the certificate that is in the files by then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = tls.context().verify_mode

    def take_current(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, first: ssl.SSLContext) -> None:
        connection.context = tls.context()

    context.sni_callback = take_current
    return context
