"""Samplers made on the spot: ONNX graphs of a few operators whose scores are known, in the form that export writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tenclip_video.salience import SamplerSpec
from tenclip_video.salience.sampler_spec import METADATA_KEY

Behaviour = Literal["mean", "contrast", "constant", "nan"]


def make_sampler(
    spec: SamplerSpec,
    behaviour: Behaviour = "mean",
    *,
    channels: Sequence[int] | None = None,
    metadata: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    with_metadata: bool = True,
) -> bytes:
    """An ONNX file of a sampler.

    behaviour: salience is the mean of a window's values, the mean of their absolute values ("contrast"), 0.5, or no
    number. channels: of the input that count, None for all. metadata, input_shape: something else than `spec` says.
    """
    kind = TensorProto.UINT8 if spec.kind in ("rgb", "keyframes") else TensorProto.FLOAT
    nodes = [helper.make_node("Cast", ["windows"], ["values"], to=TensorProto.FLOAT)]
    constants = {"axes": np.array([1, 2, 3, 4], np.int64)}
    name = "values"
    if channels is not None:
        constants["channels"] = np.array(channels, np.int64)
        nodes.append(helper.make_node("Gather", [name, "channels"], ["chosen"], axis=4))
        name = "chosen"
    if behaviour == "contrast":
        nodes.append(helper.make_node("Abs", [name], ["magnitude"]))
        name = "magnitude"
    nodes.append(helper.make_node("ReduceMean", [name, "axes"], ["mean"], keepdims=0))
    if behaviour in ("mean", "contrast"):
        nodes.append(helper.make_node("Identity", ["mean"], ["salience"]))
    else:
        constants["zero"] = np.array(0, np.float32)
        constants["value"] = np.array(np.nan if behaviour == "nan" else 0.5, np.float32)
        nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
        nodes.append(helper.make_node("Add", ["nothing", "value"], ["salience"]))
    graph = helper.make_graph(
        nodes,
        "sampler",
        [helper.make_tensor_value_info("windows", kind, ["M", *(input_shape or spec.input_shape)])],
        [helper.make_tensor_value_info("salience", TensorProto.FLOAT, ["M"])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if with_metadata:
        helper.set_model_props(model, {METADATA_KEY: spec.to_json() if metadata is None else metadata})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
