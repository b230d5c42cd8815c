"""The Open Inference Protocol as the real tritonclient speaks it, against a real server process.

Run by test_conformance.py in a process of its own: tritonclient registers the same protobuf package as our stubs, so
nothing here may import `tenclip_api.inference`.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tenclip_video.clips import read_clips
from tenclip_video.protocols import video_probabilities
from tests.tenclip_serving.helpers import LABELS, SPEC, ServerProcess, make_bundle, reference, running_server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Any]:
    with triton.InferenceServerClient(server.address) as made:
        yield made


@pytest.fixture
def manageable(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """A client of a server that lets it load and unload, and the directory of that server."""
    make_bundle(tmp_path, "tiny", "1")
    with (
        running_server(tmp_path, "--runtime", "onnxruntime", "--allow-manage") as server,
        triton.InferenceServerClient(server.address) as made,
    ):
        yield made, tmp_path


def some_clips(num_clips: int, *, side: int = SPEC.crop, seed: int = 0) -> NDArray[np.uint8]:
    shape = (num_clips, SPEC.num_frames, side, side, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def clips_input(clips: NDArray[Any], datatype: str = "UINT8") -> Any:
    made = triton.InferInput("clips", clips.shape, datatype)
    made.set_data_from_numpy(clips)
    return made


def video_input(data: bytes) -> Any:
    made = triton.InferInput("VIDEO", [1], "BYTES")
    made.set_data_from_numpy(np.array([data], np.object_))
    return made


def agree(result: Any, clips: NDArray[np.uint8]) -> None:
    expected = reference(clips)
    np.testing.assert_allclose(result.as_numpy("logits"), expected.logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.as_numpy("features"), expected.features, rtol=1e-3, atol=1e-3)


# -- health and metadata ----------------------------------------------------------------------------------------------


def test_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("tiny", "3")
    assert not client.is_model_ready("drifted")
    assert not client.is_model_ready("huge")


def test_metadata(client: Any) -> None:
    assert client.get_server_metadata().name == "tenclip"
    metadata = client.get_model_metadata("tiny")
    assert (metadata.name, list(metadata.versions)) == ("tiny", ["2", "10"])
    assert {t.name: (t.datatype, list(t.shape)) for t in metadata.inputs} == {
        "clips": ("UINT8", [-1, 4, -1, -1, 3]),
        "VIDEO": ("BYTES", [1]),
    }
    assert {t.name: (t.datatype, list(t.shape)) for t in metadata.outputs} == {
        "logits": ("FP32", [-1, 4, -1]),
        "features": ("FP32", [-1, 6]),
        "probabilities": ("FP32", [-1]),
        "labels": ("BYTES", [-1]),
    }
    config = client.get_model_config("tiny").config
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "tenclip", 0)
    assert [(i.name, i.optional) for i in config.input] == [("clips", True), ("VIDEO", True)]
    assert [list(o.dims) for o in config.output] == [list(t.shape) for t in metadata.outputs]


# -- tensors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_clips", "side"), [(1, 32), (7, 32), (2, 40)])
def test_clips(client: Any, num_clips: int, side: int) -> None:
    clips = some_clips(num_clips, side=side)
    result = client.infer("tiny", [clips_input(clips)], request_id="seven")
    agree(result, clips)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("tiny", "10", "seven")
    assert result.as_numpy("logits").shape == (num_clips, 4, 1 if side == 32 else 4)


def test_only_the_outputs_asked_for(client: Any) -> None:
    result = client.infer("tiny", [clips_input(some_clips(1))], outputs=[triton.InferRequestedOutput("features")])
    assert [o.name for o in result.get_response().outputs] == ["features"]
    assert result.as_numpy("logits") is None


def test_typed_contents(client: Any, server: ServerProcess) -> None:
    """As clients send it that put numbers into fields, not bytes."""
    clips = some_clips(1)
    request = triton.service_pb2.ModelInferRequest(model_name="tiny")
    tensor = request.inputs.add(name="clips", datatype="UINT8", shape=clips.shape)
    tensor.contents.uint_contents.extend(clips.ravel().tolist())
    with grpc.insecure_channel(server.address) as channel:
        stub = triton.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        agree(triton.InferResult(stub.ModelInfer(request, timeout=30)), clips)
        tensor.contents.uint_contents[5] = 256
        with pytest.raises(grpc.RpcError, match="UINT8 ends at 255"):
            stub.ModelInfer(request, timeout=30)


def test_many_at_once(client: Any) -> None:
    """Requests share the scheduler and its batches; each gets its own answer."""
    batches = [some_clips(1 + seed % 3, seed=seed) for seed in range(24)]
    answers: list[queue.Queue[Any]] = [queue.Queue() for _ in batches]
    for clips, answer in zip(batches, answers, strict=True):
        client.async_infer(
            "tiny", [clips_input(clips)], lambda result, error, answer=answer: answer.put((result, error))
        )
    for clips, answer in zip(batches, answers, strict=True):
        result, error = answer.get(timeout=30)
        assert error is None
        agree(result, clips)


REFUSED: list[tuple[Any, str, str]] = [
    ([clips_input(some_clips(1).astype(np.float32), "FP32")], "INVALID_ARGUMENT", "'FP32'; it must be UINT8"),
    ([clips_input(some_clips(1, side=33))], "INVALID_ARGUMENT", r"takes \[B, 4, 32, 32, 3\] or \[B, 4, 40, 40, 3\]"),
    ([clips_input(some_clips(1)[0])], "INVALID_ARGUMENT", r"has shape \[4, 32, 32, 3\]"),
    ([clips_input(some_clips(65))], "INVALID_ARGUMENT", "65 clips, more than the 64"),
    ([], "INVALID_ARGUMENT", "inputs: got none"),
    ([clips_input(some_clips(1)), video_input(b"x")], "INVALID_ARGUMENT", "got 'clips', 'VIDEO'; send exactly one"),
    ([video_input(b"this is no video")], "INVALID_ARGUMENT", "up.mp4"),
    ([video_input(b"")], "INVALID_ARGUMENT", "is empty"),
]


@pytest.mark.parametrize(("inputs", "status", "says"), REFUSED)
def test_refusals(client: Any, inputs: Any, status: str, says: str) -> None:
    parameters = {"name": "up.mp4"} if [i.name() for i in inputs] == ["VIDEO"] else {}
    with pytest.raises(InferenceServerException, match=says) as caught:
        client.infer("tiny", inputs, parameters=parameters)
    assert caught.value.status() == f"StatusCode.{status}"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ({"model_name": "huge"}, "NOT_FOUND", "no model 'huge'"),
        ({"model_version": "3"}, "NOT_FOUND", "no version '3'"),
        ({"model_name": "drifted"}, "FAILED_PRECONDITION", "drifts"),
        ({"outputs": [triton.InferRequestedOutput("labels")]}, "INVALID_ARGUMENT", "no output 'labels'"),
        ({"outputs": [triton.InferRequestedOutput("logits", class_count=2)]}, "INVALID_ARGUMENT", "classification"),
        ({"sequence_id": 3}, "INVALID_ARGUMENT", "unknown parameters: sequence_end"),
        ({"parameters": {"protocol": "ten-clip"}}, "INVALID_ARGUMENT", "unknown parameters: protocol"),
    ],
)
def test_refused_arguments(client: Any, arguments: dict[str, Any], status: str, says: str) -> None:
    with pytest.raises(InferenceServerException, match=says) as caught:
        client.infer(**{"model_name": "tiny", "inputs": [clips_input(some_clips(1))], **arguments})
    assert caught.value.status() == f"StatusCode.{status}"


# -- videos -----------------------------------------------------------------------------------------------------------


def test_video(client: Any, videos: Path) -> None:
    file = videos / "colors.mp4"
    outputs = reference(read_clips(file, SPEC).clips)
    expected = video_probabilities(outputs.logits, "probabilities")
    result = client.infer("tiny", [video_input(file.read_bytes())], priority=1, timeout=30_000_000)
    np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(result.as_numpy("features"), outputs.features.mean(0), rtol=1e-4)
    assert [label.decode() for label in result.as_numpy("labels")] == list(LABELS)
    parameters = result.get_response().parameters
    assert parameters["protocol"].string_param == "ten-clip"
    assert parameters["runtime"].string_param == "openvino"
    assert parameters["request_id"].string_param


def test_video_parameters(client: Any, videos: Path) -> None:
    data = (videos / "bar.mp4").read_bytes()

    def infer(**parameters: Any) -> Any:
        return client.infer("tiny", [video_input(data)], parameters=parameters)

    everything = infer()
    best = infer(top_k=2)
    order = np.argsort(-everything.as_numpy("probabilities"))[:2]
    np.testing.assert_allclose(best.as_numpy("probabilities"), everything.as_numpy("probabilities")[order])
    assert best.as_numpy("labels").tolist() == [LABELS[i].encode() for i in order]
    assert len(infer(top_k=99).as_numpy("labels")) == 4
    assert infer(protocol="fully-convolutional").get_response().parameters["protocol"].string_param == (
        "fully-convolutional"
    )
    clips = infer(mode="salient", num_clips=2, start_seconds=1, end_seconds=3.5)
    assert clips.get_response().parameters["protocol"].string_param == (
        "custom: 2 salient clips, centre crop, pooled, probabilities averaged"
    )
    for parameters, says in (
        ({"num_clips": 0}, "'num_clips' must be a whole number of at least 1, got 0"),
        ({"num_clips": True}, "'num_clips' must be"),
        ({"top_k": "5"}, "'top_k' must be a whole number"),
        ({"protocol": 3}, "'protocol' must be a string"),
        ({"mode": "best"}, "'mode' is 'best'; it must be one of uniform, center, windows, salient"),
        ({"start_seconds": -1.0}, "must be finite and not negative"),
        ({"protocol": "ten-clip", "num_clips": 2}, "already says which clips"),
        ({"frames": 2}, "unknown parameters: frames; there are .*num_clips"),
    ):
        with pytest.raises(InferenceServerException, match=says):
            infer(**parameters)


def test_a_deadline_of_the_request(client: Any, videos: Path) -> None:
    with pytest.raises(InferenceServerException, match=r"not done in|has passed") as caught:
        client.infer("tiny", [video_input((videos / "long.mp4").read_bytes())], timeout=1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


# -- streams ----------------------------------------------------------------------------------------------------------


def test_stream(client: Any, videos: Path) -> None:
    """Thirty requests, good and bad, on one stream: an answer for each, in their order, and it goes on after errors."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for i in range(30):
            name, inputs = "tiny", [clips_input(some_clips(1, seed=i))]
            if i % 3 == 1:
                inputs = [video_input((videos / "colors.mp4").read_bytes())]
            if i % 5 == 4:
                name = "huge"
            client.async_stream_infer(name, inputs, request_id=str(i))
        for i in range(30):
            result, error = answers.get(timeout=30)
            if i % 5 == 4:
                assert "no model 'huge'" in str(error)
                continue
            assert error is None
            assert result.get_response().id == str(i)
            if i % 3 == 1:
                assert result.as_numpy("probabilities").shape == (4,)
            else:
                agree(result, some_clips(1, seed=i))
    finally:
        client.stop_stream()


def test_stream_marks_its_final_answers(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("tiny", [clips_input(some_clips(1))], enable_empty_final_response=True)
        result, error = answers.get(timeout=30)
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param
    finally:
        client.stop_stream()


def test_a_stream_that_is_cut_off_leaves_nothing_behind(server: ServerProcess, client: Any, videos: Path) -> None:
    with triton.InferenceServerClient(server.address) as other:
        other.start_stream(lambda result, error: None)
        for _ in range(20):
            other.async_stream_infer("tiny", [video_input((videos / "long.mp4").read_bytes())])
        other.stop_stream(cancel_requests=True)
    agree(client.infer("tiny", [clips_input(some_clips(1))]), some_clips(1))


def test_asyncio(server: ServerProcess) -> None:
    async def test() -> None:
        async with triton_aio.InferenceServerClient(server.address) as client:
            assert await client.is_model_ready("tiny")
            agree(await client.infer("tiny", [clips_input(some_clips(2))]), some_clips(2))

            async def requests() -> Any:
                for i in range(5):
                    yield {"model_name": "tiny", "inputs": [clips_input(some_clips(1, seed=i))], "request_id": str(i)}

            ids = []
            async for result, error in client.stream_infer(requests()):
                assert error is None
                ids.append(result.get_response().id)
            assert ids == list("01234")

    asyncio.run(test())


# -- statistics and the repository ------------------------------------------------------------------------------------


def test_statistics(client: Any, videos: Path) -> None:
    def counted() -> Any:
        (model,) = client.get_inference_statistics("tiny", "2").model_stats
        return model

    before = counted()
    client.infer("tiny", [clips_input(some_clips(3))], "2")
    client.infer("tiny", [video_input((videos / "colors.mp4").read_bytes())], "2", parameters={"num_clips": 5})
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [video_input(b"no video")], "2")
    after = counted()
    assert (after.name, after.version) == ("tiny", "2")
    assert after.inference_count == before.inference_count + 8
    assert after.execution_count == before.execution_count + 2
    now, then = after.inference_stats, before.inference_stats
    assert now.success.count == then.success.count + 2
    assert now.fail.count == then.fail.count + 1
    assert now.compute_input.count == then.compute_input.count + 1
    assert now.compute_infer.count == then.compute_infer.count + 2
    assert 0 < now.compute_infer.ns <= now.success.ns
    assert after.last_inference > 1_600_000_000_000
    everything = client.get_inference_statistics().model_stats
    assert [(m.name, m.version) for m in everything] == [
        ("pooled", "1"),
        ("strided", "1"),
        ("tiny", "10"),
        ("tiny", "2"),
    ]
    with pytest.raises(InferenceServerException, match="no model 'huge'"):
        client.get_inference_statistics("huge")


def index(client: Any) -> dict[tuple[str, str], tuple[str, str]]:
    return {(m.name, m.version): (m.state, m.reason) for m in client.get_model_repository_index().models}


def test_repository_index(client: Any) -> None:
    models = index(client)
    assert models["tiny", "10"] == ("READY", "")
    state, reason = models["drifted", "1"]
    assert state == "UNAVAILABLE"
    assert "drifts" in reason


def test_load_and_unload(manageable: tuple[Any, Path]) -> None:
    client, root = manageable
    make_bundle(root, "late", "1")
    client.load_model("late")
    assert client.is_model_ready("late")
    agree(client.infer("late", [clips_input(some_clips(1))]), some_clips(1))
    client.unload_model("late")
    assert not client.is_model_ready("late")
    assert index(client)["late", "1"] == ("UNAVAILABLE", "unloaded")
    client.unload_model("tiny", unload_dependents=True)
    assert not client.is_server_ready()
    assert client.is_server_live()
    client.load_model("late")
    assert client.is_server_ready()
    with pytest.raises(InferenceServerException, match="no bundle 'huge'"):
        client.load_model("huge")
    with pytest.raises(InferenceServerException, match="parameters config: models are loaded as they are"):
        client.load_model("late", config="{}")
    (root / "late" / "1" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InferenceServerException, match="still served"):
        client.load_model("late")
    state, reason = index(client)["late", "1"]
    assert state == "READY"
    assert "SHA-256" in reason


def test_not_permitted_unless_the_server_says_so(client: Any) -> None:
    for order in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="--allow-manage") as caught:
            order("tiny")
        assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
    assert client.is_model_ready("tiny")


def test_what_this_server_has_not_is_unimplemented(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_system_shared_memory_status()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
