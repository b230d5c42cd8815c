"""Parts of messages, counted before they are parsed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_api.inference import open_inference_pb2 as v2
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.api.message_limits import check_parts, request_type

INFER = v2.ModelInferRequest.DESCRIPTOR


def test_the_types_of_requests_are_found_by_their_paths() -> None:
    assert request_type("/inference.GRPCInferenceService/ModelInfer") is INFER
    assert request_type("/tenclip.v1.VideoRecognition/Predict") is pb.PredictRequest.DESCRIPTOR
    assert request_type("/tenclip.v1.VideoRecognition/Gone") is None
    assert request_type("/no.Service/Predict") is None
    assert request_type("nothing") is None


def request(**tensor: Any) -> v2.ModelInferRequest:
    return v2.ModelInferRequest(model_name="net", inputs=[v2.ModelInferRequest.InferInputTensor(**tensor)])


@pytest.mark.parametrize(
    "message",
    [
        request(
            name="VIDEO", datatype="BYTES", shape=[1], contents=v2.InferTensorContents(bytes_contents=[b"x" * 999])
        ),
        request(name="clips", shape=[1, 2, 3], contents=v2.InferTensorContents(uint_contents=range(1000))),
        v2.ModelInferRequest(raw_input_contents=[bytes(1000)]),
    ],
)
def test_a_tensor_is_few_parts_however_large(message: v2.ModelInferRequest) -> None:
    check_parts(message.SerializeToString(), INFER, most=20)


@pytest.mark.parametrize(
    "message",
    [
        v2.ModelInferRequest(inputs=[v2.ModelInferRequest.InferInputTensor() for _ in range(100)]),
        v2.ModelInferRequest(raw_input_contents=[b""] * 100),
        request(contents=v2.InferTensorContents(bytes_contents=[b""] * 100)),
        request(parameters={str(i): v2.InferParameter() for i in range(100)}),
    ],
    ids=["messages", "bytes", "nested", "map"],
)
def test_many_small_parts_are_refused_wherever_they_are(message: v2.ModelInferRequest) -> None:
    with pytest.raises(InvalidRequest, match="more than 99 parts"):
        check_parts(message.SerializeToString(), INFER, most=99)


def _count(message: Any) -> int:
    """Fields on the wire, as the parser sees them."""
    total = 0
    for field, value in message.ListFields():
        values = list(value) if field.is_repeated else [value]
        if field.type == field.TYPE_MESSAGE:
            total += sum(1 + _count(part) for part in values)
        else:
            total += 1 if field.is_packed else len(values)
    return total


_TENSORS = st.builds(
    v2.ModelInferRequest.InferInputTensor,
    name=st.text(max_size=200),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    contents=st.builds(
        v2.InferTensorContents,
        bytes_contents=st.lists(st.binary(max_size=300), max_size=5),
        uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=50),
        fp64_contents=st.lists(st.floats(), max_size=5),
    ),
)


@given(st.builds(v2.ModelInferRequest, model_name=st.text(), inputs=st.lists(_TENSORS, max_size=4)))
def test_parts_are_counted_exactly(message: v2.ModelInferRequest) -> None:
    parts, raw = _count(message), message.SerializeToString()
    check_parts(raw, INFER, most=parts)
    if parts:
        with pytest.raises(InvalidRequest):
            check_parts(raw, INFER, most=parts - 1)


@given(st.binary(max_size=200))
def test_what_is_no_message_is_left_to_the_parser(raw: bytes) -> None:
    check_parts(raw, INFER)
