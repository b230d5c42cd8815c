"""`tenclip bench --method infer`: the Open Inference Protocol, to our server and to one that knows nothing else."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_api.inference.open_inference_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)
from tenclip_client._infer_tensors import (
    Tensor,
    choose_inputs,
    make_contents,
    parse_shapes,
    put_contents,
    settle_shape,
)
from tenclip_client.cli.main import main
from tests.tenclip_serving.helpers import SPEC, ServerProcess, make_bundle, make_video, running_server

NOW = ("--warmup", "0", "--json")


class Foreign(GRPCInferenceServiceServicer):
    """A server with none of our services: a model that takes two inputs of numbers, and one that does not say."""

    def __init__(self) -> None:
        self.requests: list[pb.ModelInferRequest] = []

    def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:
        if request.name == "silent":
            return pb.ModelMetadataResponse(name="silent", versions=["1"])
        if request.name != "pair":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        made = pb.ModelMetadataResponse(name="pair", versions=["3"], platform="foreign")
        made.inputs.add(name="pixels", datatype="FP32", shape=[-1, 2, 3])
        made.inputs.add(name="ids", datatype="INT64", shape=[-1, -1])
        return made

    def ModelInfer(self, request: Any, context: Any) -> pb.ModelInferResponse:
        self.requests.append(request)
        return pb.ModelInferResponse(model_name="pair")


@pytest.fixture
def foreign() -> Iterator[tuple[Foreign, str]]:
    made: Any = Foreign  # the methods that it lacks answer UNIMPLEMENTED
    servicer = made()
    server = grpc.server(ThreadPoolExecutor(2))
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("models")
    make_bundle(root)
    with running_server(root, "--runtime", "onnxruntime", "--decode-workers", "1") as server:
        yield server


def bench(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    with pytest.raises(SystemExit) as caught:
        main(["bench", *words])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, json.loads(printed.out) if printed.out else None, printed.err


def test_our_server_gets_the_video(ours: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = make_video(tmp_path / "a.mp4")
    words = ("--server", ours.address, "--method", "infer", "--model", "tiny:1", "-n", "6", "-c", "2", *NOW)
    code, found, err = bench(capsys, str(video), *words)
    assert (code, err) == (0, "")
    assert found["requests"] == {"ok": 6, "failed": 0, "unanswered": 0}
    assert found["method"] == "infer"


def test_our_server_gets_clips_of_the_shape_asked_for(ours: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    shape = f"clips:3,{SPEC.num_frames},{SPEC.crop},{SPEC.crop},3"
    words = ("--server", ours.address, "--method", "infer", "--model", "tiny", "--input", "clips", "--shape", shape)
    code, found, _ = bench(capsys, *words, "-n", "4", *NOW)
    assert code == 0
    assert found["requests"]["ok"] == 4
    assert found["clips_per_second"] == pytest.approx(3 * found["requests_per_second"])


def test_a_server_that_knows_nothing_else_is_measured(
    foreign: tuple[Foreign, str], capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, address = foreign
    words = ("--server", address, "--method", "infer", "--model", "pair", "--shape", "ids:1,4", "-n", "5", *NOW)
    code, found, _ = bench(capsys, *words)
    assert (code, found["requests"]["ok"], len(servicer.requests)) == (0, 5, 5)
    first, *others = servicer.requests
    assert all(request == first for request in others), "the same numbers in each request"
    assert [tuple(t.shape) for t in first.inputs] == [(1, 2, 3), (1, 4)]
    pixels = struct.unpack("<6f", first.raw_input_contents[0])
    assert all(0 <= value < 1 for value in pixels)
    assert first.raw_input_contents[1] == bytes(32)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say which model"),
        (("--model", "nobody"), "unknown model nobody"),
        (("--model", "pair"), "say the sizes: --shape ids:"),
        (("--model", "pair", "--shape", "ids"), "write NAME:SIZE,SIZE"),
        (("--model", "pair", "--shape", "ids:1,4", "--shape", "pixels:1,2,4"), "which [1, 2, 4] does not fit"),
        (("--model", "pair", "--input", "sound"), "no input 'sound'; it has pixels, ids"),
        (("--model", "pair", "--num-clips", "3"), "takes no --num-clips"),
        (("--model", "pair", "--shape", "ids:1,4", "--shape", "id:1,4"), "--shape id: is of no input that is sent"),
        (("--model", "pair", "--input", "ids:FP32", "--shape", "ids:1,4"), "input 'ids' is of type INT64"),
        (("--model", "pair", "--input", "ids", "--input", "ids:INT64", "--shape", "ids:1,4"), "is asked for twice"),
        (("VIDEO", "--model", "pair", "--shape", "ids:1,4"), "takes no video, so name none"),
        (("--model", "silent"), "names no inputs; say what it takes: --input NAME:TYPE"),
        (("--model", "silent", "--input", "clips"), "say the type, too: --input NAME:TYPE"),
        (("--model", "silent", "--input", "clips:FLOAT"), "say the type, too: --input NAME:TYPE"),
        (("--model", "silent", "--input", "clips:FP32"), "say its sizes: --shape clips:"),
        (("--model", "silent", "--input", "video:BYTES"), "takes a video: name some"),
    ],
)
def test_what_cannot_be_sent_is_an_error(
    foreign: tuple[Foreign, str],
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    video = make_video(tmp_path / "a.mp4", num_frames=4)
    words = tuple(str(video) if word == "VIDEO" else word for word in words)
    code, found, err = bench(capsys, *words, "--server", foreign[1], "--method", "infer", "-n", "1", *NOW)
    assert code != 0
    assert found is None
    assert says in " ".join(err.split())
    assert not foreign[0].requests


def test_a_declared_video_reaches_a_model_that_names_no_inputs(
    foreign: tuple[Foreign, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, address = foreign
    video = make_video(tmp_path / "a.mp4", num_frames=4)
    words = ("--server", address, "--method", "infer", "--model", "silent", "--input", "video:BYTES", "-n", "2", *NOW)
    code, found, err = bench(capsys, str(video), *words)
    assert (code, found["requests"]["ok"]) == (0, 2), err
    for request in servicer.requests:
        (tensor,) = request.inputs
        assert (tensor.name, tensor.datatype, tuple(tensor.shape)) == ("video", "BYTES", (1,))
        assert request.raw_input_contents[0][4:] == video.read_bytes()


def test_declared_numbers_reach_a_model_that_names_no_inputs(
    foreign: tuple[Foreign, str], capsys: pytest.CaptureFixture[str]
) -> None:
    servicer, address = foreign
    words = ("--input", "x:0:FP32", "--input", "ids:INT64", "--shape", "x:0:2,3", "--shape", "ids:2,1")
    code, _, err = bench(capsys, "--server", address, "--method", "infer", "--model", "silent", *words, "-n", "1", *NOW)
    assert code == 0, err
    (request,) = servicer.requests
    assert [(t.name, t.datatype, tuple(t.shape)) for t in request.inputs] == [
        ("x:0", "FP32", (2, 3)),
        ("ids", "INT64", (2, 1)),
    ]
    assert [len(raw) for raw in request.raw_input_contents] == [24, 16]


def test_a_server_without_the_protocol_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        code, _, err = bench(capsys, "--server", f"127.0.0.1:{port}", "--method", "infer", "--model", "pair", *NOW)
    finally:
        server.stop(None).wait()
    assert code == 1
    says = " ".join(err.split())
    assert "does not speak the Open Inference Protocol by gRPC" in says
    assert "ts_open_inference_protocol=true" in says


@pytest.mark.parametrize(
    ("datatype", "data", "expected"),
    [
        ("BOOL", bytes([0, 1]), pb.InferTensorContents(bool_contents=[False, True])),
        ("INT8", struct.pack("<2b", -1, 2), pb.InferTensorContents(int_contents=[-1, 2])),
        ("INT16", struct.pack("<2h", -300, 2), pb.InferTensorContents(int_contents=[-300, 2])),
        ("INT32", struct.pack("<2i", -70_000, 2), pb.InferTensorContents(int_contents=[-70_000, 2])),
        ("INT64", struct.pack("<2q", -(2**40), 2), pb.InferTensorContents(int64_contents=[-(2**40), 2])),
        ("UINT8", struct.pack("<2B", 255, 2), pb.InferTensorContents(uint_contents=[255, 2])),
        ("UINT16", struct.pack("<2H", 65_535, 2), pb.InferTensorContents(uint_contents=[65_535, 2])),
        ("UINT32", struct.pack("<2I", 2**32 - 1, 2), pb.InferTensorContents(uint_contents=[2**32 - 1, 2])),
        ("UINT64", struct.pack("<2Q", 2**64 - 1, 2), pb.InferTensorContents(uint64_contents=[2**64 - 1, 2])),
        ("FP32", struct.pack("<2f", 0.5, -2), pb.InferTensorContents(fp32_contents=[0.5, -2])),
        ("FP64", struct.pack("<2d", 0.5, -2), pb.InferTensorContents(fp64_contents=[0.5, -2])),
        ("BYTES", b"a video", pb.InferTensorContents(bytes_contents=[b"a video"])),
    ],
)
def test_typed_contents_hold_what_raw_ones_do(datatype: str, data: bytes, expected: pb.InferTensorContents) -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype=datatype, shape=[1 if datatype == "BYTES" else 2])
    put_contents(request, 0, data, raw=False)
    assert request.inputs[0].contents == expected
    assert not request.raw_input_contents


def test_half_floats_are_raw_only() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="x", datatype="FP16", shape=[2])
    with pytest.raises(InvalidRequest, match="FP16 can only be sent as raw contents"):
        put_contents(request, 0, bytes(4), raw=False)


def test_our_own_methods_take_no_tensors(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bench(capsys, "a.mp4", "--input", "clips", *NOW)
    assert code != 0
    assert "--method predict takes no --input" in " ".join(err.split())


def test_without_videos_our_own_methods_have_nothing_to_send(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = bench(capsys, *NOW)
    assert code == 2
    assert "name at least one video" in " ".join(err.split())


def test_inputs_are_chosen() -> None:
    file, clips = (
        Tensor(name="VIDEO", datatype="BYTES", shape=(1,)),
        Tensor(name="clips", datatype="UINT8", shape=(-1, 4)),
    )
    assert choose_inputs([clips, file], []) == [file]
    assert choose_inputs([clips, file], ["clips"]) == [clips]
    assert choose_inputs([clips], []) == [clips]
    with pytest.raises(InvalidRequest, match="at most one may be BYTES"):
        choose_inputs([file, Tensor(name="text", datatype="BYTES", shape=(1,))], [])


def test_contents_have_the_size_of_their_type() -> None:
    rng = random.Random(0)
    for datatype, size in (("UINT8", 1), ("FP16", 2), ("FP32", 4), ("FP64", 8), ("INT64", 8), ("BOOL", 1)):
        assert len(make_contents(datatype, (2, 3), rng)) == 6 * size
    with pytest.raises(InvalidRequest, match="cannot be made up"):
        make_contents("COMPLEX", (1,), rng)
    with pytest.raises(InvalidRequest, match="at most 2 GiB"):
        make_contents("FP64", (2**20, 2**20), rng)


def test_shapes() -> None:
    assert parse_shapes(["a:b:1,2"]) == {"a:b": (1, 2)}
    assert settle_shape(Tensor(name="a", datatype="FP32", shape=(-1, 2)), {}) == (1, 2)
    assert settle_shape(Tensor(name="a", datatype="FP32", shape=(-1, 2)), {"a": (5, 2)}) == (5, 2)
