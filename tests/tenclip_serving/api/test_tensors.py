from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as pb
from tenclip_serving.api.tensors import (
    Parameters,
    add_output,
    clip_shapes,
    read_clips,
    read_video,
    single_input,
    wanted_outputs,
)
from tenclip_video.bundle import BundleInfo, read_bundle
from tests.tenclip_serving.helpers import make_bundle, without_fully_convolutional

LIMITS: dict[str, Any] = {"max_clips": 8, "max_clip_bytes": 1 << 30}
SHAPE = (4, 32, 32, 3)


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> BundleInfo:
    return read_bundle(make_bundle(tmp_path_factory.mktemp("bundle"))).info


def request(name: str, datatype: str, shape: tuple[int, ...], raw: bytes | None = None) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="tiny")
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


@given(data=st.data(), num_clips=st.integers(1, 3), raw=st.booleans())
def test_clips_arrive_as_they_were_sent(info: BundleInfo, data: st.DataObject, num_clips: int, raw: bool) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    clips = np.random.default_rng(seed).integers(0, 256, (num_clips, *SHAPE), np.uint8)
    made = request("clips", "UINT8", clips.shape, clips.tobytes() if raw else None)
    if not raw:
        made.inputs[0].contents.uint_contents.extend(clips.ravel().tolist())
    tensor, contents = single_input(pb.ModelInferRequest.FromString(made.SerializeToString()))
    np.testing.assert_array_equal(read_clips(tensor, contents, info, **LIMITS), clips)


@given(shape=st.lists(st.integers(-(2**62), 2**62) | st.sampled_from([0, 1, 3, 4, 32, 40]), max_size=6))
def test_any_other_shape_is_refused_before_anything_is_made_of_it(info: BundleInfo, shape: list[int]) -> None:
    made = request("clips", "UINT8", tuple(shape), b"12345")
    with pytest.raises(InvalidRequest, match=r"has shape|has 5 bytes|clips, more than the 8"):
        read_clips(*single_input(made), info, **LIMITS)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (pb.ModelInferRequest(), "inputs: got none; send exactly one"),
        (request("frames", "UINT8", SHAPE), "got 'frames'"),
        (request("clips", "FP32", (1, *SHAPE), b""), "of type 'FP32'; it must be UINT8"),
        (request("clips", "UINT8", (1, *SHAPE), b"short"), r"5 bytes; UINT8 of shape \[1, 4, 32, 32, 3\] is 12288"),
        (request("clips", "UINT8", (1, *SHAPE)), "0 numbers in uint_contents; its shape calls for 12288"),
        (request("clips", "UINT8", (9, *SHAPE), b""), "9 clips, more than the 8"),
    ],
)
def test_bad_clips(info: BundleInfo, made: pb.ModelInferRequest, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read_clips(*single_input(made), info, **LIMITS)


def test_ambiguous_contents() -> None:
    made = request("clips", "UINT8", (1, *SHAPE), b"x")
    made.inputs[0].contents.uint_contents.append(1)
    with pytest.raises(InvalidRequest, match="send one of them"):
        single_input(made)
    made = request("VIDEO", "BYTES", (1,), b"x")
    made.raw_input_contents.append(b"y")
    with pytest.raises(InvalidRequest, match="2 tensors for 1 input"):
        single_input(made)


def test_shared_memory_and_classification_are_not_passed_over(info: BundleInfo) -> None:
    made = request("clips", "UINT8", (1, *SHAPE))
    made.inputs[0].parameters["shared_memory_region"].string_param = "x"
    with pytest.raises(InvalidRequest, match="has not: shared_memory_region"):
        single_input(made)
    made = request("clips", "UINT8", (1, *SHAPE), b"")
    made.outputs.add(name="logits").parameters["classification"].int64_param = 3
    with pytest.raises(InvalidRequest, match="has not: classification"):
        wanted_outputs(made, "clips", info)


def test_a_size_that_is_said_and_true_is_no_extension() -> None:
    """KServe's client sends it by gRPC too."""
    made = request("VIDEO", "BYTES", (1,), struct.pack("<I", 3) + b"abc")
    made.inputs[0].parameters["binary_data_size"].int64_param = 7
    assert read_video(*single_input(made)) == b"abc"
    made.inputs[0].parameters["binary_data_size"].int64_param = 8
    with pytest.raises(InvalidRequest, match="has the binary_data_size 8; its raw_input_contents have 7 bytes"):
        single_input(made)


def test_what_rest_says_of_outputs_is_no_extension(info: BundleInfo) -> None:
    """KServe's client sends it by gRPC too, where outputs are raw in any case."""
    made = pb.ModelInferRequest()
    made.outputs.add(name="labels").parameters["binary_data"].bool_param = False
    assert wanted_outputs(made, "VIDEO", info) == ("labels",)
    made.outputs[0].parameters["binary_data"].int64_param = 1
    with pytest.raises(InvalidRequest, match="'binary_data' must be true or false, got 1"):
        wanted_outputs(made, "VIDEO", info)


def test_outputs_in_the_order_asked_for(info: BundleInfo) -> None:
    made = pb.ModelInferRequest()
    assert wanted_outputs(made, "VIDEO", info) == ("probabilities", "labels", "features")
    for name in ("features", "logits", "features"):
        made.outputs.add(name=name)
    assert wanted_outputs(made, "clips", info) == ("features", "logits")
    with pytest.raises(InvalidRequest, match="no output 'logits'; input 'VIDEO' gives probabilities"):
        wanted_outputs(made, "VIDEO", info)


def test_a_model_without_a_classifier_gives_features_only(info: BundleInfo) -> None:
    backbone = replace(info, num_classes=0, label_source="none")
    made = pb.ModelInferRequest()
    assert wanted_outputs(made, "clips", backbone) == wanted_outputs(made, "VIDEO", backbone) == ("features",)
    made.outputs.add(name="probabilities")
    with pytest.raises(InvalidRequest, match="no output 'probabilities'; input 'VIDEO' gives features"):
        wanted_outputs(made, "VIDEO", backbone)


def test_a_model_without_a_larger_crop_takes_one_size(tmp_path: Path) -> None:
    info = read_bundle(make_bundle(tmp_path, spec=without_fully_convolutional())).info
    assert clip_shapes(info) == [SHAPE]


@given(data=st.binary(max_size=64), raw=st.booleans(), shape=st.sampled_from([(1,), (1, 1)]))
def test_videos_arrive_as_they_were_sent(data: bytes, raw: bool, shape: tuple[int, ...]) -> None:
    made = request("VIDEO", "BYTES", shape, struct.pack("<I", len(data)) + data if raw else None)
    if not raw:
        made.inputs[0].contents.bytes_contents.append(data)
    assert read_video(*single_input(made)) == data


@given(raw=st.binary(max_size=12))
def test_raw_bytes_without_their_length_are_refused(raw: bytes) -> None:
    whole = len(raw) >= 4 and struct.unpack_from("<I", raw)[0] == len(raw) - 4
    made = request("VIDEO", "BYTES", (1,), raw)
    if whole:
        assert read_video(*single_input(made)) == raw[4:]
        return
    with pytest.raises(InvalidRequest, match="little-endian uint32"):
        read_video(*single_input(made))


def test_bad_videos() -> None:
    with pytest.raises(InvalidRequest, match=r"shape \[2\]; send one file"):
        read_video(*single_input(request("VIDEO", "BYTES", (2,), b"")))
    with pytest.raises(InvalidRequest, match="0 elements in bytes_contents"):
        read_video(*single_input(request("VIDEO", "BYTES", (1,))))
    with pytest.raises(InvalidRequest, match="must be BYTES"):
        read_video(*single_input(request("VIDEO", "UINT8", (1,), b"x")))


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=5))
def test_strings_are_coded_as_bytes_with_their_lengths(texts: list[str]) -> None:
    response = pb.ModelInferResponse()
    add_output(response, "labels", texts)
    rest, found = response.raw_output_contents[0], []
    while rest:
        (length,) = struct.unpack_from("<I", rest)
        found.append(rest[4 : 4 + length].decode())
        rest = rest[4 + length :]
    assert found == texts
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [len(texts)])


def test_floats_keep_their_shape() -> None:
    response = pb.ModelInferResponse()
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    add_output(response, "logits", values)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("FP32", [4, 2, 3])
    np.testing.assert_array_equal(np.frombuffer(response.raw_output_contents[0], "<f4").reshape(4, 2, 3), values)


def test_parameters() -> None:
    made = pb.ModelInferRequest()
    made.parameters["a"].string_param = "text"
    made.parameters["b"].uint64_param = 3
    made.parameters["c"].double_param = 1.5
    made.parameters["d"].bool_param = True
    made.parameters["e"].SetInParent()
    parameters = Parameters(made.parameters)
    assert (parameters.text("a"), parameters.count("b"), parameters.number("c")) == ("text", 3, 1.5)
    assert parameters.boolean("d")
    assert (parameters.text("x"), parameters.count("y"), parameters.number("z")) == ("", 0, 0.0)
    with pytest.raises(InvalidRequest, match="'e' must be true or false, got None"):
        parameters.boolean("e")
    made.parameters["f"].int64_param = 2**40
    with pytest.raises(InvalidRequest, match="'f' must be a whole number of at least 1"):
        Parameters(made.parameters).count("f")
    with pytest.raises(InvalidRequest, match="unknown parameters: a, b, c, d, e, f"):
        Parameters(made.parameters).close()
