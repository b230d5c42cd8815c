"""KServe's two manifests, and a real server that is started as they say on what the storage initializer leaves.

KServe's own client and its storage initializer are in an environment of their own, which `make kserve-client` makes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from tenclip_client import Client
from tests.k8s.manifests import (
    KSERVE_COMPONENTS,
    VERSIONS,
    Manifest,
    build,
    build_with,
    named,
    project_version,
    validate,
)
from tests.k8s.pods import memory_problems
from tests.k8s.programs import kserve_python
from tests.tenclip_serving.helpers import (
    LABELS,
    SPEC,
    ServerProcess,
    make_bundle,
    make_video,
    reference,
    running_server,
)

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
    "probabilities": answer.as_numpy("probabilities").tolist(),
}))
"""
# What the entry point of the storage initializer's image does with its two arguments.
_INITIALIZE = "import sys; from kserve_storage import Storage; Storage.download(sys.argv[1], sys.argv[2])"


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
    # KServe's REST client wants a port that the manifest leaves out, for Knative allows one.
    with running_server(initialized, *arguments, "--http-port=0") as running:
        yield running


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "a.mp4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npy file of uint8 [2,T,H,W,3]."""
    path = tmp_path_factory.mktemp("clips") / "clips.npy"
    shape = (2, SPEC.num_frames, SPEC.crop, SPEC.crop, 3)
    np.save(path, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    return path


@pytest.fixture(scope="module")
def expected(server: ServerProcess, video: Path) -> dict[str, float]:
    """Label -> probability, best first, as our own client has them."""
    with Client(server.address) as client:
        return {best.label: best.score for best in client.predict(video, top_k=len(LABELS)).top}


@pytest.fixture(scope="module", params=["grpc", "rest"])
def answers(request: pytest.FixtureRequest, server: ServerProcess, video: Path, clips: Path) -> dict[str, Any]:
    """What KServe's client got by gRPC, and by REST: see `kserve_client.py`."""
    address = server.address if request.param == "grpc" else server.http_address
    assert address
    script = Path(__file__).with_name("kserve_client.py")
    # -P: modules beside the script are no part of it.
    command = [kserve_python(), "-P", script, request.param, address, service_name(), video, clips]
    answers: dict[str, Any] = json.loads(said(command))
    return answers


def said(command: Sequence[str | Path]) -> str:
    """What a program prints that has to end well."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def service_name() -> str:
    name: str = manifests()[1]["metadata"]["name"]
    return name


def test_the_model_has_the_name_of_the_service_and_answers_by_v2(
    server: ServerProcess, video: Path, expected: dict[str, float]
) -> None:
    pytest.importorskip("tritonclient", reason="pip install tritonclient")
    answer = json.loads(said([sys.executable, "-c", _ASK, server.address, service_name(), video]))
    assert answer["ready"] is True
    assert answer["versions"] == ["1"]
    assert "VIDEO" in answer["inputs"]
    assert answer["labels"] == list(LABELS)
    assert dict(zip(answer["labels"], answer["probabilities"], strict=True)) == expected
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_kserves_client_finds_the_server_and_its_model_ready(answers: dict[str, Any]) -> None:
    assert answers["health"] == [True, True, True]
    assert answers["unready"] is False


def test_kserves_client_sends_a_video(answers: dict[str, Any], expected: dict[str, float]) -> None:
    """Raw, and as its protocol writes tensors otherwise; the same to the bit as our own client's answer."""
    asked = ["video", *(name for name in answers if name.startswith("video as"))]
    assert len(asked) == 2
    for name in [*asked, "binary outputs", "wanted outputs"]:
        answer = answers[name]
        assert (answer["model"], answer["id"]) == (service_name(), "seven")
        outputs = answer["outputs"]
        assert outputs["labels"] == list(LABELS)
        assert dict(zip(outputs["labels"], outputs["probabilities"], strict=True)) == expected
        assert sum(outputs["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert list(answers["wanted outputs"]["outputs"]) == ["labels", "probabilities"]
    assert answers["best class"]["outputs"]["labels"] == list(expected)[:1]


def test_kserves_client_sends_clips(answers: dict[str, Any], clips: Path) -> None:
    wanted = reference(np.load(clips))
    asked = [name for name in answers if name.startswith("clips")]
    assert len(asked) == 2
    for name in asked:
        outputs = answers[name]["outputs"]
        np.testing.assert_allclose(outputs["logits"], wanted.logits, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(outputs["features"], wanted.features, rtol=1e-3, atol=1e-3)


def test_kserves_client_shows_what_went_wrong(answers: dict[str, Any]) -> None:
    """Its own exceptions, with the server's words."""
    unknown, no_video = answers["unknown model"], answers["no video"]
    assert (unknown["kind"], unknown["status"]) in {("AioRpcError", "NOT_FOUND"), ("HTTPStatusError", "404")}
    assert f"no model 'huge'; this server holds {service_name()}" in unknown["says"]
    assert (no_video["kind"], no_video["status"]) in {("AioRpcError", "INVALID_ARGUMENT"), ("HTTPStatusError", "415")}
    assert "not a video that tenclip reads" in no_video["says"]


def test_what_kserves_client_says_for_rest_is_taken_by_grpc(server: ServerProcess, video: Path) -> None:
    """Without that client: the parameter has no effect, for outputs are raw in any case, and must be a boolean."""
    request = pb.ModelInferRequest(model_name=service_name())
    request.inputs.add(name="VIDEO", datatype="BYTES", shape=[1]).contents.bytes_contents.append(video.read_bytes())
    request.parameters["binary_data_output"].bool_param = False
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=60)
        request.parameters["binary_data_output"].string_param = "no"
        with pytest.raises(grpc.RpcError, match="'binary_data_output' must be true or false, got 'no'"):
            stub.ModelInfer(request, timeout=60)
    assert len(answer.raw_output_contents) == len(answer.outputs) == 3


def initialize(uri: str, target: Path) -> None:
    """As KServe's storage initializer does."""
    said([kserve_python(), "-P", "-c", _INITIALIZE, uri, target])


def test_the_storage_initializer_leaves_what_the_server_was_started_on(initialized: Path, tmp_path: Path) -> None:
    """KServe's own, from an archive over HTTP: the same files as in the folder of the server above."""
    kserve_python()
    packed, target = tmp_path / "packed", tmp_path / "models"
    packed.mkdir()
    with tarfile.open(packed / "moves.tar.gz", "w:gz") as archive:
        for path in initialized.iterdir():
            archive.add(path, path.name)
    with HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(packed))) as storage:
        thread = threading.Thread(target=storage.serve_forever)
        thread.start()
        try:
            initialize(f"http://127.0.0.1:{storage.server_port}/moves.tar.gz", target)
        finally:
            storage.shutdown()
            thread.join()
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in initialized.iterdir()
    }


def test_links_of_the_storage_initializer_are_refused(initialized: Path, tmp_path: Path) -> None:
    """What it makes of a claim, where KServe does not mount that itself."""
    initialize(str(initialized), tmp_path / "models")
    assert (tmp_path / "models" / "bundle.json").is_symlink()
    command = [sys.executable, "-m", "tenclip_serving", str(tmp_path / "models"), "--name", service_name()]
    checked = subprocess.run([*command, "--check-only"], capture_output=True, text=True, timeout=120, check=False)
    assert checked.returncode != 0
    assert "model.onnx lies outside the bundle" in checked.stdout


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


def test_the_network_policy_is_for_the_services_pods_and_as_strict_as_the_bases() -> None:
    found = build_with(*KSERVE_COMPONENTS[0], base="kserve")
    policy = named(found, "NetworkPolicy", "tenclip-kserve")
    validate(policy, VERSIONS[-1])
    runtime, service = manifests()
    assert policy["metadata"]["namespace"] == service["metadata"]["namespace"]
    # KServe puts the service's labels on its pods.
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    base = named(build("base"), "NetworkPolicy", "tenclip")["spec"]
    callers, knative, scrapes = policy["spec"]["ingress"]
    assert policy["spec"]["egress"] == base["egress"]
    assert [callers["from"], scrapes["from"]] == [rule["from"] for rule in base["ingress"]]
    (container,) = runtime["spec"]["containers"]
    ports = [{port["port"] for port in rule["ports"]} for rule in (callers, knative, scrapes)]
    assert container["ports"][0]["containerPort"] in ports[0]
    assert int(runtime["spec"]["annotations"]["prometheus.kserve.io/port"]) in ports[2]
    # Only what Knative's proxy takes requests at, and counts them at.
    assert ports[1] == {8012, 8013, 9090}
    assert ports[0] - {7411} == {8012, 8013}
    # With a policy for egress, the model has to come without one: KServe mounts claims itself.
    assert service["spec"]["predictor"]["model"]["storageUri"].startswith("pvc://")


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
