"""The Open Inference Protocol over REST: Triton's own client, and the bytes of the specification."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.tenclip_serving.helpers import LABELS, SPEC, ServerProcess, make_bundle, reference, running_server
from tests.tenclip_serving.http.helpers import as_grpc, get, post, problem_of

triton = pytest.importorskip("tritonclient.http", reason="pip install 'tritonclient[http]'")

INFER = "/v2/models/tiny/infer"
CLASSES = triton.InferRequestedOutput("labels", class_count=2)
NUMBERS = "must have whole numbers of 0-255 as data, nested or flat"


@pytest.fixture(scope="module")
def client(http_server: ServerProcess) -> Iterator[Any]:
    assert http_server.http_address
    made = triton.InferenceServerClient(http_server.http_address)
    yield made
    made.close()


def some_clips(num_clips: int) -> NDArray[np.uint8]:
    shape = (num_clips, SPEC.num_frames, SPEC.crop, SPEC.crop, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def clips_input(clips: NDArray[Any], *, binary: bool = True) -> Any:
    made = triton.InferInput("clips", clips.shape, "UINT8")
    made.set_data_from_numpy(clips, binary_data=binary)
    return made


def video_input(data: bytes) -> Any:
    made = triton.InferInput("VIDEO", [1], "BYTES")
    made.set_data_from_numpy(np.array([data], np.object_))
    return made


def test_triton_asks_for_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "3")
    assert client.get_server_metadata()["name"] == "tenclip"
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata("tiny")
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"][0] == {"name": "clips", "datatype": "UINT8", "shape": [-1, 4, -1, -1, 3]}
    config = client.get_model_config("tiny", "1")
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("tiny", "tenclip", 0)
    index = {(m["name"], m["version"]): m["state"] for m in client.get_model_repository_index()}
    assert index == {("tiny", "1"): "READY", ("tiny", "2"): "READY", ("broken", "1"): "UNAVAILABLE"}


@pytest.mark.parametrize("binary", [True, False])
def test_triton_sends_clips(client: Any, binary: bool) -> None:
    clips = some_clips(3)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("features", "logits")]
    result = client.infer("tiny", [clips_input(clips, binary=binary)], outputs=outputs, request_id="seven")
    expected = reference(clips)
    np.testing.assert_allclose(result.as_numpy("logits"), expected.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.as_numpy("features"), expected.features, rtol=1e-3, atol=1e-3)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tiny", "2", "seven")
    assert [o["name"] for o in answer["outputs"]] == ["features", "logits"]
    assert answer["parameters"]["runtime"] == "onnxruntime"


def test_json_and_binary_are_the_same_to_the_bit(client: Any) -> None:
    clips = some_clips(2)
    by_binary = client.infer("tiny", [clips_input(clips)])
    outputs = [triton.InferRequestedOutput("logits", binary_data=False)]
    by_json = client.infer("tiny", [clips_input(clips, binary=False)], outputs=outputs)
    np.testing.assert_array_equal(by_json.as_numpy("logits"), by_binary.as_numpy("logits"))


def test_triton_sends_a_video(client: Any, http_server: ServerProcess, videos: Path) -> None:
    """Equal to /v1/predict, and by its parameters other clips."""
    data = (videos / "colors.mp4").read_bytes()
    result = client.infer("tiny", [video_input(data)])
    expected = post(http_server, "/v1/predict?model=tiny&top_k=4", files={"video": data}).json()
    best = expected["top"]
    assert [t.decode() for t in result.as_numpy("labels")] == list(LABELS)
    assert [float(result.as_numpy("probabilities")[t["index"]]) for t in best] == [t["score"] for t in best]
    few = client.infer("tiny", [video_input(data)], parameters={"top_k": 1, "mode": "center", "name": "mine"})
    assert few.as_numpy("labels").tolist() == [best[0]["label"].encode()]


@pytest.mark.parametrize(
    ("model", "more", "status", "says"),
    [
        ("huge", {}, "404", "no model 'huge'; this server holds tiny"),
        ("tiny", {"parameters": {"top": 1}}, "400", "unknown parameters: top; there are timeout"),
        ("tiny", {"parameters": {"top_k": 1.5}}, "400", "'top_k' must be a whole number of at least 1, got 1.5"),
        ("tiny", {"timeout": 1}, "504", "the caller's deadline"),
        ("tiny", {"outputs": [triton.InferRequestedOutput("x")]}, "400", "no output 'x'; input 'VIDEO' gives"),
        ("tiny", {"outputs": [CLASSES]}, "400", "has parameters that this server has not: classification"),
    ],
)  # fmt: skip
def test_triton_shows_what_went_wrong(
    client: Any, videos: Path, model: str, more: dict[str, Any], status: str, says: str
) -> None:
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(model, [video_input((videos / "colors.mp4").read_bytes())], **more)
    assert says in caught.value.message()
    assert caught.value.status() == status


def test_triton_loads_and_unloads(tmp_path: Path) -> None:
    make_bundle(tmp_path, "tiny", "1")
    with running_server(tmp_path, "--http-port", "0", "--runtime", "onnxruntime", "--allow-manage") as server:
        made = triton.InferenceServerClient(server.http_address)
        made.unload_model("tiny")
        assert not made.is_model_ready("tiny")
        assert not made.is_server_ready()
        assert get(server, "/readyz").status_code == 503
        made.load_model("tiny")
        assert made.is_model_ready("tiny")
        with pytest.raises(triton.InferenceServerException, match="their configuration and files cannot be sent"):
            made.load_model("tiny", config="{}")
        made.infer("tiny", [clips_input(some_clips(3))])
        (statistics,) = made.get_inference_statistics("tiny")["model_stats"]
        assert (statistics["inference_count"], statistics["inference_stats"]["success"]["count"]) == (3, 1)
        made.close()


def test_loading_is_refused_by_default(http_server: ServerProcess) -> None:
    status, reason, message = as_grpc(post(http_server, "/v2/repository/models/tiny/unload"))
    assert (status, reason) == (403, "PERMISSION_DENIED")
    assert "--allow-manage" in message


# -- the bytes of the specification, as clients without Triton's library send them -------------------------------------


FILE = {"name": "VIDEO", "shape": [1], "datatype": "BYTES"}


def tensor(**members: Any) -> dict[str, Any]:
    return {"name": "clips", "shape": [1, 4, 32, 32, 3], "datatype": "UINT8", **members}


def test_the_json_of_the_specification(http_server: ServerProcess) -> None:
    clips = some_clips(1)
    request = {"id": "42", "inputs": [tensor(data=clips.tolist())], "outputs": [{"name": "features"}]}
    answer = post(http_server, "/v2/models/tiny/versions/1/infer", json=request)
    assert answer.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in answer.headers
    members = answer.json()
    assert (members["model_version"], members["id"]) == ("1", "42")
    (output,) = members["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("features", "FP32", [1, 6])
    np.testing.assert_allclose(output["data"], reference(clips).features[0], rtol=1e-3)
    flat = post(http_server, INFER, json={"inputs": [tensor(data=clips.ravel().tolist())]})
    assert flat.json()["outputs"][1]["data"] == output["data"]


def test_the_binary_extension_of_the_specification(http_server: ServerProcess, videos: Path) -> None:
    data = (videos / "colors.mp4").read_bytes()
    raw = struct.pack("<I", len(data)) + data
    said = {**FILE, "parameters": {"binary_data_size": len(raw)}}
    outputs = [{"name": "features", "parameters": {"binary_data": True}}, {"name": "labels"}]
    header = json.dumps({"inputs": [said], "outputs": outputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
    answer = post(http_server, INFER, content=header + raw, headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    features, labels = json.loads(answer.content[:length])["outputs"]
    assert features["parameters"]["binary_data_size"] == len(answer.content) - length == 24
    assert labels["data"] == list(LABELS)
    expected = post(http_server, "/v1/features?model=tiny", files={"video": data}).json()["features"]["mean"]
    assert np.frombuffer(answer.content[length:], "<f4").tolist() == expected


def test_a_video_in_json_is_base64(http_server: ServerProcess, videos: Path) -> None:
    text = base64.b64encode((videos / "colors.mp4").read_bytes()).decode()
    said = {
        "name": "VIDEO",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"content_type": "base64"},
        "data": [text],
    }
    answer = post(http_server, INFER, json={"inputs": [said]}).json()
    outputs = {o["name"]: o["data"] for o in answer["outputs"]}
    assert outputs["labels"] == list(LABELS)
    assert outputs["labels"][int(np.argmax(outputs["probabilities"]))] == "red"


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"inputs": [tensor(data=[1, 2])]}, "has 2 bytes; UINT8 of shape [1, 4, 32, 32, 3] is 12288 bytes"),
        ({"inputs": [tensor(data=[300] * 12288)]}, "input 'clips' has the value 300; UINT8 ends at 255"),
        ({"inputs": [tensor(data=[-1])]}, NUMBERS),
        ({"inputs": [tensor(data=[1.5])]}, NUMBERS),
        ({"inputs": [tensor(data=[])]}, NUMBERS),
        ({"inputs": [tensor(data=["1"])]}, NUMBERS),
        ({"inputs": [tensor()]}, "input 'clips' has no data: neither `data` nor the parameter binary_data_size"),
        ({"inputs": [tensor(parameters={"binary_data_size": 5})]}, "the binary_data_size 5; 0 bytes of binary data"),
        ({"inputs": [tensor(parameters={"binary_data_size": True})]}, "has the binary_data_size True"),
        ({"inputs": [tensor(data=[1], datatype="FP32")]}, "input 'clips' is of type 'FP32'; it must be UINT8"),
        ({"inputs": [tensor(data=[1], shape=[2**70])]}, "has the shape [1180591620717411303424]: Value out of range"),
        ({"inputs": [tensor(data=[1], shape=[1, 4, 9, 9, 3])]}, "takes [B, 4, 32, 32, 3] or [B, 4, 40, 40, 3]"),
        ({"inputs": [{**FILE, "data": ["x"]}]}, "must be base64 of the file, as text; or send it as binary"),
        ({"inputs": []}, "inputs: got none; send exactly one: 'clips' (UINT8 clips) or 'VIDEO' (BYTES [1])"),
        ({}, "the request is not one of the Open Inference Protocol"),
        ({"inputs": [FILE], "parameters": {"binary_data_output": 3}}, "'binary_data_output' must be true or false"),
    ],
)  # fmt: skip
def test_what_is_no_tensor(http_server: ServerProcess, request_: dict[str, Any], says: str) -> None:
    answer = post(http_server, INFER, json=request_)
    status, reason, message = as_grpc(answer)
    assert (status, reason) == (400, "INVALID_REQUEST")
    assert says in message
    assert answer.json()["error"] == message


@pytest.mark.parametrize("length", ["-1", "x", "9999", "1e3"])
def test_a_length_that_cannot_be(http_server: ServerProcess, length: str) -> None:
    answer = post(http_server, INFER, content=b"{}", headers={"inference-header-content-length": length})
    assert "Inference-Header-Content-Length must be a number of bytes up to the 2 of the body" in as_grpc(answer)[2]


def test_bytes_behind_the_tensors(http_server: ServerProcess) -> None:
    header = json.dumps({"inputs": [tensor(data=[1])]}).encode()
    headers = {"inference-header-content-length": str(len(header))}
    answer = post(http_server, INFER, content=header + b"more", headers=headers)
    assert problem_of(answer.content)["detail"] == "4 bytes follow the tensors that the request describes"


def test_a_request_beyond_the_limit(http_server: ServerProcess) -> None:
    answer = post(http_server, INFER, content=b"x" * (2 << 20))
    assert as_grpc(answer)[:2] == (413, "MESSAGE_TOO_LARGE")
    assert "this server takes at most 1048576; /v1/predict takes more" in answer.json()["error"]
