"""A real TorchServe of its own process group, and its gRPC without generated code."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.ports import free_ports

START_SECONDS = 240
SERVICE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"


def absent() -> str:
    """Why TorchServe cannot run here; empty when it can."""
    if shutil.which("java") is None:
        return "no java on PATH; TorchServe needs Java 11 or newer"
    missing = [name for name in ("ts", "yaml") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: pip install 'tenclip[torchserve]'" if missing else ""


@dataclass(frozen=True, kw_only=True)
class TorchServe:
    inference: str  # host:port
    management: str
    grpc: str
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def register(self, archive: Path) -> None:
        """Returns when the model's worker is ready."""
        status, body = http_post(self.management, f"/models?url={archive.name}&initial_workers=1&synchronous=true", b"")
        assert status == 200, f"{body!r}\n{self.log}"

    def predict(self, model: str, inputs: Mapping[str, bytes], *, timeout: float = 240) -> bytes:
        """Over gRPC. Raises grpc.RpcError."""
        with grpc.insecure_channel(self.grpc) as channel:
            call: Any = channel.unary_unary(
                f"{SERVICE}/Predictions",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=_RESPONSE.FromString,
            )
            answer = call(_REQUEST(model_name=model, input=dict(inputs)), timeout=timeout)
        prediction: bytes = answer.prediction
        return prediction


def http_post(address: str, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body, whatever the status."""
    connection = http.client.HTTPConnection(address, timeout=240)
    with contextlib.closing(connection):
        connection.request("POST", path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()


@contextlib.contextmanager
def running_torchserve(model_store: Path, *, open_inference: bool = False) -> Iterator[TorchServe]:
    """TorchServe on free ports of 127.0.0.1, gone with all its processes afterwards.

    open_inference: gRPC speaks the Open Inference Protocol, too.
    """
    # A short path: it holds the workers' sockets, and pytest's own directories are too long for those.
    with tempfile.TemporaryDirectory(prefix="ts-") as folder:
        home = Path(folder)
        inference, management, metrics, grpc_inference, grpc_management = free_ports(5)
        (home / "config.properties").write_text(
            f"inference_address=http://127.0.0.1:{inference}\n"
            f"management_address=http://127.0.0.1:{management}\n"
            f"metrics_address=http://127.0.0.1:{metrics}\n"
            "grpc_inference_address=127.0.0.1\n"
            f"grpc_inference_port={grpc_inference}\n"
            "grpc_management_address=127.0.0.1\n"
            f"grpc_management_port={grpc_management}\n"
            "max_request_size=67108864\n"
            "number_of_gpu=0\n"
            "disable_system_metrics=true\n"
            "vmargs=-Xmx512m\n" + ("ts_open_inference_protocol=true\n" if open_inference else "")
        )
        command = [sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs", "--disable-token-auth"]
        command += [
            "--enable-model-api",
            "--model-store",
            str(model_store),
            "--ts-config",
            str(home / "config.properties"),
        ]
        # TMPDIR is where its Python half keeps the one pid file, TEMP where its Java half unpacks archives.
        environment = {
            **os.environ,
            "TMPDIR": folder,
            "TEMP": folder,
            "LOG_LOCATION": folder,
            "METRICS_LOCATION": folder,
        }
        environment.pop("TS_CONFIG_FILE", None)
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            server = TorchServe(
                inference=f"127.0.0.1:{inference}",
                management=f"127.0.0.1:{management}",
                grpc=f"127.0.0.1:{grpc_inference}",
                log_path=home / "log",
                process=process,
            )
            _wait_until_up(server)
            yield server
        finally:
            stop_group(process)


def members(group: int) -> list[psutil.Process]:
    """The living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stop_group(process: subprocess.Popen[bytes], *, seconds: float = 10) -> None:
    """SIGTERM to the whole group, then SIGKILL to what is left of it."""
    group = process.pid
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    psutil.wait_procs(members(group), timeout=seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    process.wait()
    psutil.wait_procs(members(group), timeout=seconds)


def _wait_until_up(server: TorchServe) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert server.process.poll() is None, f"TorchServe ended\n{server.log}"
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://{server.management}/models", timeout=5).close()
            return
        time.sleep(0.1)
    raise AssertionError(f"TorchServe did not come up\n{server.log}")


def _messages() -> tuple[Any, Any]:
    """PredictionsRequest and PredictionResponse of TorchServe's inference.proto, as far as they are used here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="torchserve_inference.proto", package="org.pytorch.serve.grpc.inference", syntax="proto3"
    )
    request = file.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry = request.nested_type.add(name="InputEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kinds.TYPE_STRING, label=kinds.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    type_name = f".{file.package}.PredictionsRequest.InputEntry"
    request.field.add(name="input", number=3, type=kinds.TYPE_MESSAGE, label=kinds.LABEL_REPEATED, type_name=type_name)
    response = file.message_type.add(name="PredictionResponse")
    response.field.add(name="prediction", number=1, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = [pool.FindMessageTypeByName(f"{file.package}.{m.name}") for m in file.message_type]
    return message_factory.GetMessageClass(found[0]), message_factory.GetMessageClass(found[1])


_REQUEST, _RESPONSE = _messages()
