"""Small ONNX files: the mean colour of a frame, and a linear layer on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.array([[1, 0, 0], [0, 2, 0], [0, 0, -1], [1, 1, 1]], np.float32)  # [K,3]


def write_color_classifier(
    path: Path,
    shape: tuple[int | str, ...] = ("N", 3, 16, 16),
    *,
    layout: str = "NCHW",
    dtype: int = TensorProto.FLOAT,
    softmax: bool = False,
    outputs: tuple[str, ...] = ("scores",),
    channels: int = 3,
    scale: float = 1.0,
) -> Path:
    """Logits [N,4] of normalised frames: WEIGHTS times the mean over the pixels."""
    axes = {"NCHW": [2, 3], "NHWC": [1, 2], "NTHWC": [1, 2, 3]}[layout]
    weights = np.pad(WEIGHTS, ((0, 0), (0, channels - 3))) * np.float32(scale)
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "weights"], [outputs[0] if not softmax else "raw"], transB=1),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["raw"], [outputs[0]], axis=1))
    nodes += [helper.make_node("Identity", [outputs[0]], [name]) for name in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("frames", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", len(WEIGHTS)]) for name in outputs],
        [
            numpy_helper.from_array(np.array(axes, np.int64), "axes"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path
