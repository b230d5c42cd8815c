"""Runs the page on uvicorn, in an event loop that is somebody else's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.types import ASGIApp

from tenclip_api.errors import ServerUnavailable
from tenclip_api.listening import explain, with_port
from tenclip_ui.settings import PageSettings
from tenclip_ui.streamed import MAX_RUNNING

_MAX_CONNECTIONS = 256
_START_SECONDS = 30.0


class PageServer:
    """Answers from `start` on, until `stop`. `port`: the real one after `start`.

    grace_seconds: how long `stop` waits for answers that are on their way.
    """

    def __init__(self, app: ASGIApp, settings: PageSettings, *, option: str, grace_seconds: float) -> None:
        self.port = 0
        self._settings, self._option = settings, option
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # the app logs its own faults
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=max(1, round(grace_seconds)),
        )
        config.load()
        config.ssl = settings.tls
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises ServerUnavailable where the port cannot be had."""
        # What waits for the server's answers does so in threads of the loop's own pool, which has few.
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(MAX_RUNNING * 2, thread_name_prefix="page"))
        listener = self._listen()
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        started = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._task, started}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            self._task.result()

    def begin_stop(self) -> None:
        """Accept nothing more; what runs goes on."""
        self._server.should_exit = True

    async def stop(self) -> None:
        """Returns when nothing runs any more."""
        self.begin_stop()
        if self._task is not None:
            await self._task

    def _listen(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.setblocking(False)
            except OSError:
                listener.close()
                raise
        except (OSError, UnicodeError) as err:
            why = explain(err, option=self._option)
            raise ServerUnavailable(f"cannot show the page on {with_port(host, port)}: {why}") from err
        return listener


class _Uvicorn(uvicorn.Server):
    """Leaves signals to whoever runs the loop, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
