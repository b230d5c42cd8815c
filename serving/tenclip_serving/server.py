"""Assembles a server, runs it until a signal, and takes it down in order."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tenclip_api.errors import ServerUnavailable
from tenclip_api.inference import open_inference_pb2_grpc
from tenclip_api.v1 import tenclip_pb2, tenclip_pb2_grpc
from tenclip_serving.api.connections import channel_options
from tenclip_serving.api.convert import SERVER_VERSION
from tenclip_serving.api.health import ModelHealth
from tenclip_serving.api.interceptor import Interceptor
from tenclip_serving.api.management import MANAGEMENT, ModelManagement, permitted
from tenclip_serving.api.open_inference import INFERENCE, OpenInference
from tenclip_serving.api.servicer import SERVICE, VideoRecognition
from tenclip_serving.config import ServerConfig
from tenclip_serving.engine import Engine
from tenclip_serving.http import check_installed as check_http_installed
from tenclip_serving.models.manager import ModelManager
from tenclip_serving.models.repository import Repository, load_repository
from tenclip_serving.neighbours.indexes import check_indexes
from tenclip_serving.page import Page
from tenclip_serving.page import check_installed as check_page_installed
from tenclip_serving.runtimes import create_runtime
from tenclip_serving.security.addresses import check_can_listen, explain, why_not_listen, with_port
from tenclip_serving.security.auth import AuthInterceptor, Tokens, read_tokens
from tenclip_serving.security.tls import ServerTls, TlsFiles, TlsMaterial, describe_expiry, read_tls
from tenclip_serving.telemetry.logs import log
from tenclip_serving.telemetry.metrics import Metrics
from tenclip_serving.telemetry.metrics_server import MetricsServer
from tenclip_serving.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from tenclip_serving.http.server import HttpServer

_HAND_OVER_SECONDS = 0.1
# For a batch that runs when the grace is over, which nothing can interrupt.
_LAST_BATCH_SECONDS = 5.0
# Methods that work on a video or clips, and so may be too much.
_WITH_VIDEO = frozenset(
    {f"/{SERVICE}/{method.name}" for method in tenclip_pb2.DESCRIPTOR.services_by_name["VideoRecognition"].methods}
    - {f"/{SERVICE}/{method}" for method in ("ListModels", "GetModel", "ListIndexes")}
    | {f"/{INFERENCE}/{method}" for method in ("ModelInfer", "ModelStreamInfer")}
)
# A thread that wants the interpreter gets it after so long. With Python's own 5 ms a rush of requests to refuse could
# keep the thread that runs clips waiting between one clip and the next. No benchmark has shown a difference yet.
_SWITCH_SECONDS = 0.0005
# The most file descriptors: where the system sets no limit, some programs look at every number up to it.
_MOST_FILES = 1 << 20


class Server:
    """A gRPC server over one engine, with health, reflection and metrics, and HTTP beside it.

    `port`, `metrics_port` and `http_port` are the real ones after `start`; the latter two are None when they are off.
    """

    def __init__(self, config: ServerConfig, repository: Repository) -> None:
        self.config = config
        self.engine = Engine(config, repository)
        self.port = 0
        self._stopping = False
        self._metrics: MetricsServer | None = None
        self._interceptor = Interceptor(
            self.engine.metrics,
            gate=self.engine.admission,
            gated=_WITH_VIDEO,
            arrival_seconds=config.max_arrival_seconds,
            write_seconds=min(config.upload_idle_seconds, config.max_request_seconds),
        )
        # Read here: what is wrong with them is said before anything starts.
        self._tls = _tls(config, self.engine.metrics)
        self._tokens = None if config.tokens_file is None else Tokens(config.tokens_file)
        self._tracing = Tracing() if config.tracing else None
        self._page = Page(config, self._tls) if config.ui_port >= 0 else None
        self._health = ModelHealth((SERVICE, MANAGEMENT, INFERENCE))
        self.manager = ModelManager(self.engine, on_change=self._health.update)
        self._grpc: grpc.aio.Server | None = None
        self._http = self._create_http() if config.http_port >= 0 else None

    @property
    def http_port(self) -> int | None:
        return None if self._http is None else self._http.port

    @property
    def metrics_port(self) -> int | None:
        return None if self._metrics is None else self._metrics.port

    @property
    def page_url(self) -> str | None:
        """Where the page for browsers is; None without one."""
        return None if self._page is None else self._page.url

    async def start(self) -> None:
        """Returns when requests are answered. Raises ServerUnavailable when a port is taken, DecodeWorkerDied."""
        self._grpc = self._create_grpc()
        self.port = self._listen(self._grpc)
        self.engine.metrics.describe_server(SERVER_VERSION)
        try:
            if self.config.metrics_port >= 0:
                self._metrics = self._serve_metrics()
            await self.engine.start()
            await self._health.update(self.engine.repository)
            await self._grpc.start()
            if self._http is not None:
                await self._listen_http(self._http)
            if self._page is not None:
                await self._page.start()
            self.manager.start()
        except BaseException:
            await self.stop(grace=0)
            raise

    async def stop(self, *, grace: float, delay: float = 0.0) -> bool:
        """Not serving -> `delay` seconds in which it still answers -> no new requests, `grace` seconds for those that
        run -> nothing left running.

        A batch that runs at the end of the grace has `_LAST_BATCH_SECONDS`. False when something is left, which only
        the end of the process interrupts: a model that is being loaded, a runtime that hangs, a name or a file of a
        caller's that does.
        """
        self._stopping = True
        await self._health.stop()
        await asyncio.sleep(delay)  # whoever watches health sends its requests elsewhere
        self.engine.streams.drain()  # they would last longer than any grace
        if self._page is not None:
            self._page.begin_stop()
        until = time.monotonic() + grace
        stopping = [] if self._http is None else [self._http.stop(grace)]
        if self._grpc is not None:
            stopping.append(self._stop_grpc(self._grpc, grace))
        await asyncio.gather(*stopping)
        if self._page is not None:
            await self._page.stop()
        ended = await self.manager.close()
        ended = await self.engine.close(max(_LAST_BATCH_SECONDS, until - time.monotonic())) and ended
        if self._tracing is not None:
            await self._tracing.close()
        if self._metrics is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._metrics.close)
        return ended

    async def _stop_grpc(self, server: grpc.aio.Server, grace: float) -> None:
        stopping = asyncio.create_task(server.stop(grace))  # from now on it accepts nothing
        if grace > 0:
            # Watchers of health never end by themselves, and nothing of theirs would be lost: they must not hold the
            # server for all of its grace.
            quiet = asyncio.create_task(self._interceptor.quiet(min(grace, _HAND_OVER_SECONDS)))
            await asyncio.wait([quiet, stopping], return_when=asyncio.FIRST_COMPLETED)
            quiet.cancel()
            await server.stop(None)
        await stopping

    def _create_grpc(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[*self._guards(), self._interceptor],
            options=channel_options(self.config),
            compression=grpc.Compression.Gzip if self.config.compression == "gzip" else None,
        )
        tenclip_pb2_grpc.add_VideoRecognitionServicer_to_server(VideoRecognition(self.engine), server)
        manager = self._permitted_manager()
        tenclip_pb2_grpc.add_ModelManagementServicer_to_server(ModelManagement(manager, self.engine.indexes), server)
        open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            OpenInference(
                self.engine,
                manager=manager,
                is_ready=lambda: not self._stopping,
                working=self._interceptor.in_flight,
            ),
            server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        names = (SERVICE, MANAGEMENT, INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        assert tenclip_pb2.DESCRIPTOR.services_by_name["VideoRecognition"].full_name == SERVICE
        if self.config.reflection != "off":
            reflection.enable_server_reflection(names, server)
        return server

    def _permitted_manager(self) -> Callable[[], ModelManager]:
        # A token with the permission to manage says as much as --allow-manage; without it the guard has refused.
        allow = self.config.allow_manage or self._tokens is not None
        return partial(permitted, self.manager, allow=allow)

    def _create_http(self) -> HttpServer:
        check_http_installed()
        from tenclip_serving.http.app import create_app
        from tenclip_serving.http.server import HttpServer

        config = self.config
        app = create_app(
            self.engine,
            tokens=self._tokens,
            tracing=self._tracing,
            manager=self._permitted_manager(),
            is_ready=lambda: not self._stopping,
            working=self._interceptor.in_flight,
        )
        keep_alive = config.max_connection_idle_seconds
        return HttpServer(app, host=config.host, port=config.http_port, tls=self._tls, keep_alive_seconds=keep_alive)

    async def _listen_http(self, server: HttpServer) -> None:
        try:
            await server.start()
        except OSError as err:
            raise ServerUnavailable(
                f"cannot serve HTTP on {with_port(self.config.host, self.config.http_port)}: "
                f"{explain(err, option='--http-port')}"
            ) from err

    def _guards(self) -> tuple[grpc.aio.ServerInterceptor, ...]:
        """Interceptors that come before the request is read: its trace, and authentication."""
        guards: list[grpc.aio.ServerInterceptor] = [] if self._tracing is None else [self._tracing.interceptor]
        if self._tokens is not None:
            guards.append(AuthInterceptor(self._tokens, self.engine.metrics, reflection=self.config.reflection))
        return tuple(guards)

    def _listen(self, server: grpc.aio.Server) -> int:
        host, port = self.config.host, self.config.port
        address = with_port(host, port)
        try:
            if self._page is not None:
                server.add_insecure_port(self._page.socket)
            if self._tls is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, self._tls.server_credentials())
        except RuntimeError as err:
            why = why_not_listen(host, port, option="--port") or f"gRPC says {err}"
            raise ServerUnavailable(f"cannot listen on {address}: {why}") from err

    def _serve_metrics(self) -> MetricsServer:
        config = self.config
        try:
            return MetricsServer(
                self.engine.metrics,
                host=config.host,
                port=config.metrics_port,
                names=config.browser_names,
                tokens=self._tokens if config.metrics_tokens else None,
                tls=self._tls if config.metrics_tls else None,
            )
        except OSError as err:
            raise ServerUnavailable(
                f"cannot serve metrics on {with_port(config.host, config.metrics_port)}: "
                f"{explain(err, option='--metrics-port')}, -1 serves none"
            ) from err


async def run_server(
    config: ServerConfig, *, on_ready: Callable[[Server], None], origins: Mapping[str, str] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then stop within the grace. A second signal ends the process at once.

    origins: where settings came from, for the log.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    raise_file_limit()
    loop = asyncio.get_running_loop()
    log(logging.INFO, f"configuration: {config.describe(origins)}")
    load = partial(
        load_repository,
        config.directory,
        runtime=config.runtime,
        variant=config.variant,
        threads=config.threads,
        instances=config.instance_counts,
        name=config.name,
        create=partial(create_runtime, gpu_memory_mb=config.gpu_memory_mb),
    )
    stopping = asyncio.Event()

    def on_signal(name: str) -> None:
        if stopping.is_set():
            log(logging.WARNING, f"{name} again: ending now")
            os._exit(1)  # decode workers end with their socket
        log(logging.INFO, f"{name}: stopping", grace_seconds=config.shutdown_grace_seconds)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    check_before_loading(config)
    loading = asyncio.ensure_future(loop.run_in_executor(None, load))
    stopped = asyncio.create_task(stopping.wait())
    futures: list[asyncio.Future[Any]] = [loading, stopped]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    if stopping.is_set():
        log(logging.INFO, "stopped before the models were loaded")
        _exit_now()
    stopped.cancel()
    server = Server(config, await loading)
    await server.start()
    on_ready(server)
    await stopping.wait()
    ended = await server.stop(grace=config.shutdown_grace_seconds, delay=config.shutdown_delay_seconds)
    log(logging.INFO, "stopped")
    if not ended:
        _exit_now()


def _exit_now() -> NoReturn:
    """Without waiting for threads, as Python would: of a model that is being loaded, say."""
    logging.shutdown()
    os._exit(0)


def check_before_loading(config: ServerConfig) -> None:
    """Find what would stop the start before models are loaded, which may take minutes.

    Raises ServerUnavailable for a port that cannot be had now, InvalidRequest for files of TLS and tokens,
    IndexNotFound or DatasetError for an index.
    """
    check_indexes(config.index_folders)
    if (files := _tls_files(config)) is not None:
        read_tls(files)
    if config.tokens_file is not None:
        read_tokens(config.tokens_file)
    check_can_listen(config.host, config.port, option="--port")
    if config.metrics_port >= 0:
        check_can_listen(config.host, config.metrics_port, option="--metrics-port")
    if config.http_port >= 0:
        check_http_installed()
        check_can_listen(config.host, config.http_port, option="--http-port")
    if config.ui_port >= 0:
        check_page_installed()
        check_can_listen(config.host, config.ui_port, option="--ui")


def _tls_files(config: ServerConfig) -> TlsFiles | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return TlsFiles(certificate=config.tls_certificate, key=config.tls_key, client_ca=config.tls_client_ca)


def raise_file_limit() -> None:
    """Raise the limit of file descriptors as far as the system allows: each request and each connection takes some.

    The usual soft limit of 1,024 is for programs that call select(), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as err:
        log(logging.WARNING, f"file descriptors stay limited to {soft}, cannot raise that to {wanted}: {err}")


def _tls(config: ServerConfig, metrics: Metrics) -> ServerTls | None:
    """Raises InvalidRequest for files that cannot be used."""
    files = _tls_files(config)
    if files is None:
        return None

    def on_load(material: TlsMaterial | None) -> None:
        metrics.tls_loads.labels("failed" if material is None else "ok").inc()
        if material is not None:
            metrics.tls_expiry.set(material.not_after)
            describe_expiry(material)

    return ServerTls(files, on_load=on_load)
