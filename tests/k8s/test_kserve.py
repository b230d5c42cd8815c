"""KServe's two manifests, and a real server that is started as they say on what the storage initializer leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.k8s.manifests import Manifest, build, named, project_version
from tests.k8s.pods import memory_problems
from tests.tenclip_serving.helpers import LABELS, ServerProcess, make_bundle, make_video, running_server

# tritonclient registers the same protobuf package as our stubs: it gets a process of its own.
_ASK = """
import json, sys
import numpy as np
import tritonclient.grpc as triton
client = triton.InferenceServerClient(sys.argv[1])
video = triton.InferInput("VIDEO", [1], "BYTES")
video.set_data_from_numpy(np.array([open(sys.argv[3], "rb").read()], np.object_))
model = client.get_model_metadata(sys.argv[2])
answer = client.infer(sys.argv[2], [video])
print(json.dumps({
    "ready": client.is_server_ready() and client.is_model_ready(sys.argv[2]),
    "versions": list(model.versions),
    "inputs": [i.name for i in model.inputs],
    "labels": [label.decode() for label in answer.as_numpy("labels")],
    "sum": float(answer.as_numpy("probabilities").sum()),
}))
"""


def manifests() -> tuple[Manifest, Manifest]:
    found = build("kserve")
    return named(found, "ClusterServingRuntime"), named(found, "InferenceService")


def filled(text: str, service: Manifest) -> str:
    """A container's word with KServe's placeholder for the service's name in it filled."""
    return text.replace("{{.Name}}", service["metadata"]["name"])


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`/mnt/models` as the storage initializer leaves it: what lies below storageUri, without the folder's name."""
    root = tmp_path_factory.mktemp("storage")
    mounted = tmp_path_factory.mktemp("mnt") / "models"
    shutil.copytree(make_bundle(root, "moves", "1"), mounted)
    assert (mounted / "bundle.json").is_file()
    return mounted


@pytest.fixture(scope="module")
def server(initialized: Path) -> Iterator[ServerProcess]:
    runtime, service = manifests()
    (container,) = runtime["spec"]["containers"]
    program, command, folder = container["command"]
    assert (program, command, folder) == ("tenclip", "serve", "/mnt/models")
    # Where the manifest's ports are, a free one for the test; of an option given twice the last counts.
    own = ("--port=", "--metrics-port=", "--host=")
    arguments = [filled(a, service) for a in container["args"] if not a.startswith(own)]
    with running_server(initialized, *arguments) as running:
        yield running


def test_the_model_has_the_name_of_the_service_and_answers_by_v2(server: ServerProcess, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="pip install tritonclient")
    name = manifests()[1]["metadata"]["name"]
    video = make_video(tmp_path / "a.mp4")
    asked = subprocess.run(
        [sys.executable, "-c", _ASK, server.address, name, str(video)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert answer["ready"] is True
    assert answer["versions"] == ["1"]
    assert "VIDEO" in answer["inputs"]
    assert sorted(answer["labels"]) == sorted(LABELS)
    assert answer["sum"] == pytest.approx(1, abs=1e-5)


def test_the_probe_of_the_runtime_finds_the_server_ready(server: ServerProcess) -> None:
    (container,) = manifests()[0]["spec"]["containers"]
    asked = health_pb2.HealthCheckRequest(service=container["readinessProbe"]["grpc"]["service"])
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(asked, timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_port_makes_the_proxy_speak_http2() -> None:
    (container,) = manifests()[0]["spec"]["containers"]
    (port,) = container["ports"]  # Knative allows one
    assert port["name"] in ("h2c", "grpc")
    assert f"--port={port['containerPort']}" in container["args"]
    assert container["readinessProbe"]["grpc"]["port"] == port["containerPort"]


def test_the_metrics_are_where_the_annotation_says() -> None:
    spec = manifests()[0]["spec"]
    (container,) = spec["containers"]
    assert f"--metrics-port={spec['annotations']['prometheus.kserve.io/port']}" in container["args"]
    assert spec["annotations"]["prometheus.kserve.io/path"] == "/metrics"


def test_the_runtime_keeps_to_its_cores_and_its_memory() -> None:
    (container,) = manifests()[0]["spec"]["containers"]
    limits = container["resources"]["limits"]
    assert f"--threads={limits['cpu']}" in container["args"]
    assert list(memory_problems(container["args"], limits["memory"])) == []


def test_the_service_asks_for_this_runtime() -> None:
    runtime, service = manifests()
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"] in [
        {key: supported[key] for key in ("name", "version")} for supported in runtime["spec"]["supportedModelFormats"]
    ]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert (predictor["scaleMetric"], predictor["minReplicas"] >= 1) == ("concurrency", True)
    (grace,) = (
        int(a.partition("=")[2]) for a in runtime["spec"]["containers"][0]["args"] if "shutdown-grace-seconds" in a
    )
    assert predictor["timeout"] > grace


def test_the_runtime_is_as_confined_as_the_servers_of_the_base() -> None:
    spec = manifests()[0]["spec"]
    (container,) = spec["containers"]
    (base,) = named(build("base"), "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"].items() >= base["securityContext"].items()
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["image"] == f"tenclip:{project_version()}" == base["image"]
    assert container["resources"] == base["resources"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
