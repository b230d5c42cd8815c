"""Models that change in a real server process, through the client and the command line; health that follows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tenclip_api.errors import DeadlineExceeded, ModelError, ModelNotFound, PermissionDenied
from tenclip_api.inference import open_inference_pb2 as inference
from tenclip_api.inference import open_inference_pb2_grpc
from tenclip_client import AsyncClient, Client, ModelChanges, ServerPath
from tenclip_client.cli.main import main
from tenclip_serving.api.health import LIVENESS
from tests.soak import reload
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, running_server, stop
from tests.tenclip_serving.test_server import health, metric, wait_until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_bundle(tmp_path / "models", "tiny", "1")
    return tmp_path / "models"


@pytest.fixture
def manageable(root: Path, videos: Path) -> Iterator[ServerProcess]:
    """A server of `root` that lets clients manage; ONNX Runtime loads fastest."""
    with running_server(root, "--runtime", "onnxruntime", "--allow-manage", "--allow-root", str(videos)) as server:
        yield server


def names(client: Client) -> list[str]:
    return [model.ref for model in client.list_models()]


def test_load_unload_reload_default(manageable: ServerProcess, root: Path) -> None:
    with Client(manageable.address) as client:
        make_bundle(root, "tiny", "2")
        assert client.load_model("tiny:2") == ModelChanges(loaded=("tiny:2",), unloaded=(), failed=())
        assert client.predict(ServerPath("colors.mp4")).provenance.version == "2"
        client.set_default_version("tiny:1")
        assert client.predict(ServerPath("colors.mp4")).provenance.version == "1"
        assert [m.is_default_version for m in client.list_models()] == [False, True]
        assert client.unload_model("tiny:2").unloaded == ("tiny:2",)
        make_bundle(root, "other", "1")
        make_bundle(root, "drifted", "1", golden_shift=3.0)
        changes = client.reload_models()
        assert (changes.loaded, changes.unloaded) == (("other:1",), ())
        assert [f.name for f in changes.failed] == ["drifted"]
        assert names(client) == ["other:1", "tiny:1"]
        with pytest.raises(ModelNotFound, match="no bundle 'huge'"):
            client.load_model("huge")
        assert metric(manageable, "tenclip_model_info") == 2
        assert metric(manageable, "tenclip_model_load_failures_total", model="drifted") == 1
        assert metric(manageable, "tenclip_model_load_seconds_count", model="tiny") == 2


def test_a_failed_reload_shows_in_the_models_state(manageable: ServerProcess, root: Path) -> None:
    (root / "tiny" / "1" / "model.onnx").write_bytes(b"no graph")
    with Client(manageable.address) as client:
        assert client.get_model("tiny").state == "READY"
        with pytest.raises(ModelError, match=r"SHA-256 .*the copy loaded before is still served"):
            client.load_model("tiny")
        state = client.get_model("tiny").state
        assert state.startswith("READY (an older copy; ")
        assert "SHA-256" in state
        assert client.predict(ServerPath("colors.mp4")).label


def test_not_permitted_unless_the_server_says_so(server: ServerProcess) -> None:
    with Client(server.address) as client:
        orders: tuple[Callable[[], Any], ...] = (
            lambda: client.load_model("tiny"),
            lambda: client.unload_model("tiny"),
            client.reload_models,
            lambda: client.set_default_version("tiny:2"),
        )
        for order in orders:
            with pytest.raises(PermissionDenied, match="--allow-manage"):
                order()
        assert "tiny:10" in names(client)


def test_the_async_client_manages_too(manageable: ServerProcess, root: Path) -> None:
    make_bundle(root, "tiny", "2")

    async def test() -> None:
        async with AsyncClient(manageable.address) as client:
            assert (await client.load_model("tiny:2")).loaded == ("tiny:2",)
            await client.set_default_version("tiny:1")
            assert (await client.unload_model("tiny:2")).unloaded == ("tiny:2",)
            assert await client.reload_models() == ModelChanges(loaded=(), unloaded=(), failed=())

    asyncio.run(test())


def test_command_line(manageable: ServerProcess, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tenclip(*arguments: str) -> tuple[int, str]:
        code = 0
        try:
            code = int(main(["models", "--server", manageable.address, *arguments]) or 0)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    make_bundle(root, "tiny", "2")
    assert tenclip("--load", "tiny:2") == (0, "loaded tiny:2\n")
    assert tenclip("--default", "tiny:1") == (0, "the default is tiny:1\n")
    assert tenclip("--default", "tiny") == (0, "the default is tiny's highest version\n")
    assert tenclip("--unload", "tiny:2") == (0, "unloaded tiny:2\n")
    assert tenclip("--reload") == (0, "Nothing to change.\n")
    make_bundle(root, "drifted", "1", golden_shift=3.0)
    code, out = tenclip("--reload", "--json")
    assert code == 1
    assert [f["name"] for f in json.loads(out)["failed"]] == ["drifted"]
    code, out = tenclip("--reload")
    assert code == 1
    assert "not loaded: drifted:1: " in out
    code, out = tenclip("--load", "huge")
    assert code == 1
    assert "no bundle 'huge'" in out
    code, out = tenclip("--load", "tiny", "--reload")
    assert code == 2
    assert "only one of" in out


# -- health -----------------------------------------------------------------------------------------------------------


class Watch:
    """What Health.Watch said of a service so far."""

    def __init__(self, channel: grpc.Channel, service: str) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        self._call = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=240)
        self.said: list[str] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for answer in self._call:
                self.said.append(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def close(self) -> None:
        self._call.cancel()
        self._thread.join()


@contextlib.contextmanager
def watching(channel: grpc.Channel, *services: str) -> Iterator[dict[str, Watch]]:
    watches = {service: Watch(channel, service) for service in services}
    try:
        yield watches
    finally:
        for watch in watches.values():
            watch.close()


def test_watchers_hear_of_loads_unloads_and_failures(manageable: ServerProcess, root: Path) -> None:
    services = ("", "tiny", "tiny/1", "tiny/2", "late", "tenclip.v1.VideoRecognition", LIVENESS)
    with grpc.insecure_channel(manageable.address) as channel, Client(manageable.address) as client:
        with watching(channel, *services) as watches:

            def heard(**said: list[str]) -> None:
                for service, expected in said.items():
                    watch = watches[service.replace("_", "/")]
                    wait_until(lambda watch=watch, expected=expected: watch.said == expected)  # type: ignore[misc]

            heard(tiny=["SERVING"], tiny_1=["SERVING"], tiny_2=["SERVICE_UNKNOWN"], late=["SERVICE_UNKNOWN"])
            make_bundle(root, "tiny", "2")
            make_bundle(root, "late", "1", golden_shift=3.0)
            client.reload_models()
            heard(tiny_2=["SERVICE_UNKNOWN", "SERVING"], late=["SERVICE_UNKNOWN", "NOT_SERVING"])
            client.unload_model("tiny:2")
            heard(tiny_2=["SERVICE_UNKNOWN", "SERVING", "NOT_SERVING"], tiny=["SERVING"])
            client.unload_model("tiny")
            heard(tiny=["SERVING", "NOT_SERVING"], tiny_1=["SERVING", "NOT_SERVING"])
            # No model is left.
            wait_until(lambda: watches[""].said == ["SERVING", "NOT_SERVING"])
            assert health(channel, LIVENESS) == "SERVING"
            shutil.rmtree(root / "late" / "1")
            make_bundle(root, "late", "1")
            client.load_model("late")
            heard(late=["SERVICE_UNKNOWN", "NOT_SERVING", "SERVING"])
            for service in ("", "tenclip.v1.VideoRecognition"):
                overall = watches[service]
                wait_until(lambda overall=overall: overall.said == ["SERVING", "NOT_SERVING", "SERVING"])  # type: ignore[misc]
            assert watches[LIVENESS].said == ["SERVING"]
        assert health(channel, "tiny") == "NOT_SERVING"
        assert health(channel, "late/1") == "SERVING"


# -- under load -------------------------------------------------------------------------------------------------------


def test_reloads_under_load_lose_no_request() -> None:
    """The short form of tests/soak/reload.py: every change in every round, under callers that never pause."""
    report = reload.run(3)
    assert report.failures == []
    assert report.answers["OK"] > 20
    assert report.rounds == 3


def test_a_stream_that_is_open_and_idle_does_not_hold_a_stopping_server(root: Path) -> None:
    """Its grace would be an hour; `stop` gives up long before and kills."""
    arguments = ["--runtime", "onnxruntime", "--shutdown-grace-seconds", "3600"]
    with running_server(root, *arguments) as server, grpc.insecure_channel(server.address) as channel:
        asked: queue.Queue[inference.ModelInferRequest] = queue.Queue()
        stream = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        asked.put(inference.ModelInferRequest(model_name="tiny", id="only"))
        answer = next(stream)
        assert (answer.infer_response.id, answer.error_message[:17]) == ("only", "inputs: got none;")
        assert stop(server.process) == 0
        with pytest.raises(grpc.RpcError):
            next(stream)


def test_a_load_that_never_ends_does_not_hold_a_stopping_server(root: Path) -> None:
    """A bundle on a file system that hangs: here a pipe that nobody writes to. The old copy serves on meanwhile."""
    arguments = ["--runtime", "onnxruntime", "--allow-manage", "--shutdown-grace-seconds", "0.5"]
    with running_server(root, *arguments) as server, Client(server.address) as client:
        (root / "tiny" / "1" / "labels.txt").unlink()
        os.mkfifo(root / "tiny" / "1" / "labels.txt")
        assert client.get_model("tiny").state == "READY"  # connected: all of the second is the load's
        with pytest.raises(DeadlineExceeded):
            client.load_model("tiny", timeout=1)
        assert client.get_model("tiny").state == "READY"
        assert stop(server.process) == 0
        assert "a model is still being loaded; not waited for" in server.log
