"""`tenclip serve`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tenclip_serving.config import ServerConfig


class RuntimeOption(StrEnum):
    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    onnxruntime_cuda = "onnxruntime-cuda"
    onnxruntime_tensorrt = "onnxruntime-tensorrt"
    tensorrt = "tensorrt"
    torch = "torch"


class VariantOption(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class LogFormatOption(StrEnum):
    text = "text"
    json = "json"


def serve(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of bundles, NAME/VERSION/bundle.json.")],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one.")] = 7411,
    metrics_port: Annotated[int, typer.Option(help="Prometheus metrics; 0 takes a free port, -1 serves none.")] = 9411,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Directory whose files clients may name by path. Repeatable."),
    ] = None,
    runtime: Annotated[
        RuntimeOption, typer.Option(help="What executes the models; auto: the fastest one that answers as it should.")
    ] = RuntimeOption.auto,
    variant: Annotated[
        VariantOption,
        typer.Option(help="Precision; auto: fp32, or a lower one that passed its bound and was measured to be faster."),
    ] = VariantOption.auto,
    threads: Annotated[int, typer.Option(help="Threads of the runtime; 0: it chooses.")] = 0,
    decode_workers: Annotated[int, typer.Option(help="Processes that decode; 0: one for each two cores.")] = 0,
    max_message_mb: Annotated[int, typer.Option(help="Largest request in MiB, inline video included.")] = 64,
    max_clips: Annotated[int, typer.Option(help="Most clips of one request.")] = 512,
    max_decode_seconds: Annotated[float, typer.Option(help="Longest that one video may decode.")] = 120.0,
    max_request_seconds: Annotated[float, typer.Option(help="Longest that one request may take in all.")] = 600.0,
    shutdown_grace_seconds: Annotated[float, typer.Option(help="On SIGTERM, time for the requests that run.")] = 30.0,
    log_format: Annotated[LogFormatOption, typer.Option(help="Log lines on stderr.")] = LogFormatOption.text,
    check_only: Annotated[
        bool, typer.Option("--check-only", help="Load every bundle, replay its golden clips, say so and exit.")
    ] = False,
) -> None:
    """Serve a directory of bundles over gRPC.

    Prints one line when it is ready, and logs to stderr. SIGTERM or Ctrl-C finishes the requests that run and stops.

    \b
    Examples:
      tenclip serve models/
      tenclip serve models/ --port 0 --allow-root /data/videos
      tenclip serve models/ --runtime onnxruntime --threads 4 --log-format json
      tenclip serve models/ --runtime openvino --variant int8
      tenclip serve models/ --check-only
    """
    import asyncio

    from tenclip_api.errors import InvalidRequest
    from tenclip_serving.config import ServerConfig
    from tenclip_serving.logs import configure_logs
    from tenclip_serving.server import Server, run_server

    try:
        config = ServerConfig(
            directory=directory,
            host=host,
            port=port,
            metrics_port=metrics_port,
            allow_roots=tuple(allow_root or ()),
            runtime=runtime.value,
            variant=variant.value,
            threads=threads,
            decode_workers=decode_workers,
            max_message_mb=max_message_mb,
            max_clips=max_clips,
            max_decode_seconds=max_decode_seconds,
            max_request_seconds=max_request_seconds,
            shutdown_grace_seconds=shutdown_grace_seconds,
            log_format=log_format.value,
        )
    except ValueError as err:
        raise InvalidRequest(str(err)) from err
    configure_logs(config.log_format)
    if check_only:
        _check(config)
        return

    def announce(server: Server) -> None:
        metrics = "off" if server.metrics_port is None else f"on {host}:{server.metrics_port}"
        count = len(server.engine.repository)
        print(f"tenclip serving {count} models on {host}:{server.port}, metrics {metrics}", flush=True)

    asyncio.run(run_server(config, on_ready=announce))


def _check(config: ServerConfig) -> None:
    """A line for each bundle; exit code 1 when one cannot be served."""
    from tenclip_serving.repository import load_repository

    repository = load_repository(
        config.directory, runtime=config.runtime, variant=config.variant, threads=config.threads
    )
    for model in repository:
        form = f"{model.runtime.name} {model.variant}"
        print(f"ok      {model.name}/{model.version}: {form}, {model.runtime_reason}")
    for failure in repository.failed:
        print(f"failed  {failure.name}/{failure.version}: {failure.error}")
    if repository.failed or not len(repository):
        raise typer.Exit(1)
