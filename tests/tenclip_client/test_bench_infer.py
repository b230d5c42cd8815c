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
from tenclip_client._infer import Tensor, choose_inputs, make_contents, parse_shapes, settle_shape
from tenclip_client.cli.main import main
from tests.tenclip_serving.helpers import SPEC, ServerProcess, make_bundle, make_video, running_server

NOW = ("--warmup", "0", "--json")


class Foreign(GRPCInferenceServiceServicer):
    """A server of somebody else's: one model, two inputs of numbers, and none of our services."""

    def __init__(self) -> None:
        self.requests: list[pb.ModelInferRequest] = []

    def ModelMetadata(self, request: Any, context: Any) -> pb.ModelMetadataResponse:
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
        (("VIDEO", "--model", "pair", "--shape", "ids:1,4"), "takes no video, so name none"),
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
