"""`tenclip serve`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenclip_serving.config import OTHER_VARIABLES, ServerConfig
from tenclip_settings import load_settings, to_toml, with_options_of

if TYPE_CHECKING:
    from tenclip_serving.server import Server
    from tenclip_settings import Loaded


@with_options_of(ServerConfig)
def serve(
    config: Annotated[
        Path | None,
        typer.Option(envvar="TENCLIP_CONFIG", metavar="FILE", help="Settings in TOML, e.g. port = 7411."),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings and where they come from, as TOML, and exit.")
    ] = False,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Load every bundle, replay its golden clips, say so and exit.")
    ] = False,
    **settings: Any,
) -> None:
    """Serve a directory of bundles over gRPC and, where asked to, HTTP.

    Prints one line when it is ready, and logs to stderr. SIGTERM or Ctrl-C finishes the requests that run and stops.
    Every option is also a key of the file of --config (max_clips = 64) and a variable (TENCLIP_MAX_CLIPS=64);
    options win over variables, and those over the file.

    \b
    Examples:
      tenclip serve models/
      tenclip serve models/ --port 0 --allow-root /data/videos
      tenclip serve models/ --http-port 8080
      tenclip serve models/ --runtime onnxruntime --threads 4 --log-format json
      tenclip serve models/ --runtime openvino --variant int8
      tenclip serve --config server.toml --print-config
      tenclip serve models/ --watch-seconds 10 --default-version actions:3
      tenclip serve models/ --ui 8050
      tenclip serve models/ --check-only
      tenclip serve models/moves/1 --name moves
    """
    import asyncio

    from tenclip_serving.server import run_server
    from tenclip_serving.telemetry.log_capture import log_everything
    from tenclip_serving.telemetry.logs import configure_logs, log

    if print_config:
        loaded = _load(config, settings, stand_ins={"directory": Path()})
        print(to_toml(loaded), end="")
        return
    with _errors_logged(settings["log_format"] or os.environ.get("TENCLIP_LOG_FORMAT", "")):
        loaded = _load(config, settings)
    log_format = loaded.settings.log_format
    configure_logs(log_format)
    log_everything(log_format)
    with _errors_logged(log_format):
        for variable in loaded.empty:
            log(logging.WARNING, f"{variable} is set to nothing: that counts as not set")
        if check_only:
            _check(loaded.settings)
            return
        asyncio.run(run_server(loaded.settings, origins=loaded.origins, on_ready=_announce))


@contextlib.contextmanager
def _errors_logged(log_format: str) -> Iterator[None]:
    """Logs an error that ends the server, where the log is JSON; otherwise the command line prints it."""
    from tenclip_api.errors import TenclipError
    from tenclip_serving.telemetry.logs import LOGGER, configure_logs, log

    try:
        yield
    except (TenclipError, OSError) as err:
        if log_format != "json":
            raise
        if not LOGGER.handlers:
            configure_logs("json")
        message = err.message if isinstance(err, TenclipError) else str(err)
        log(logging.ERROR, f"not started: {message}", error=type(err).__name__)
        raise typer.Exit(1) from err


def _load(
    file: Path | None, flags: dict[str, Any], stand_ins: Mapping[str, Any] = MappingProxyType({})
) -> Loaded[ServerConfig]:
    from tenclip_api.errors import InvalidRequest

    try:
        return load_settings(
            ServerConfig,
            file=file,
            environment=os.environ,
            others=OTHER_VARIABLES,
            flags=flags,
            stand_ins=stand_ins,
        )
    except ValueError as err:
        raise InvalidRequest(f"{err}{_whose_variables()}") from err


def _whose_variables() -> str:
    """A hint, where an orchestrator has set variables in our name: `TENCLIP_PORT=tcp://10.0.0.1:7411` and more."""
    if any(v.startswith("tcp://") for k, v in os.environ.items() if k.startswith("TENCLIP_")):
        return "; Kubernetes sets such for a Service named tenclip, unless the pod has enableServiceLinks: false"
    return ""


def _announce(server: Server) -> None:
    from tenclip_serving.security.addresses import with_port

    host = server.config.host
    metrics = "off" if server.metrics_port is None else f"on {with_port(host, server.metrics_port)}"
    http = "" if server.http_port is None else f", HTTP on {with_port(host, server.http_port)}"
    count = len(server.engine.repository)
    print(f"tenclip serving {count} models on {with_port(host, server.port)}, metrics {metrics}{http}", flush=True)
    if server.page_url is not None:
        print(f"tenclip page on {server.page_url}", flush=True)


def _check(config: ServerConfig) -> None:
    """A line for each bundle; exit code 1 when one cannot be served."""
    from tenclip_serving.models.repository import load_repository
    from tenclip_serving.runtimes import create_runtime

    repository = load_repository(
        config.directory,
        runtime=config.runtime,
        variant=config.variant,
        threads=config.threads,
        instances=config.instance_counts,
        name=config.name,
        create=partial(create_runtime, gpu_memory_mb=config.gpu_memory_mb),
    )
    for model in repository:
        form = f"{model.runtime.name} {model.variant}"
        print(f"ok      {model.name}/{model.version}: {form}, {model.runtime_reason}")
    for failure in repository.failed:
        which = f"{failure.name}/{failure.version}" if failure.version else failure.name
        print(f"failed  {which}: {failure.error}")
    if repository.failed or not len(repository):
        raise typer.Exit(1)
