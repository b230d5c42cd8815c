"""A float32 graph with its trunk in float16 or bfloat16.

The normalisation before the first convolution and the head behind the last one stay in float32: they cost nothing, the
input's range is not at the mercy of 11 bits, and the outputs are float32 as in every variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tenclip_api.errors import BundleError
from tenclip_export.onnx_graph import save_graph

HalfName = Literal["fp16", "bf16"]
HALVES: dict[HalfName, tuple[ir.DataType, np.dtype[Any]]] = {
    "fp16": (ir.DataType.FLOAT16, np.dtype(np.float16)),
    "bf16": (ir.DataType.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
BF16_OPSET = 22
# What begins the head: everything from the first of these behind the last convolution.
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})


def write_half(source: Path, target: Path, precision: HalfName) -> tuple[Path, ...]:
    """The graph in `source` with its trunk in half precision, as `target`; returns the files written.

    Raises BundleError for a graph without convolutions, or weights that float16 cannot hold.
    """
    model = ir.load(source)
    dtype, numpy_dtype = HALVES[precision]
    trunk = find_trunk(list(model.graph))
    if not trunk:
        raise BundleError(f"{source}: no convolutions, so nothing to make {precision}")
    _weights(model.graph, trunk, dtype, numpy_dtype)
    _casts(model.graph, trunk, dtype)
    RemoveUnusedNodesPass()(model)
    if precision == "bf16":
        # Convolutions of bfloat16 came with opset 22, which computes what 18 does for every operator of these graphs.
        model.opset_imports[""] = BF16_OPSET
    return save_graph(model, target)


def find_trunk(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """From the first convolution to the pool behind the last one. Nodes are in the order of execution."""
    convolutions = [i for i, node in enumerate(nodes) if node.op_type == "Conv"]
    if not convolutions:
        return []
    first, last = convolutions[0], convolutions[-1]
    end = next((i for i in range(last + 1, len(nodes)) if nodes[i].op_type in POOLS), last + 1)
    return list(nodes[first:end])


def _weights(graph: ir.Graph, trunk: Sequence[ir.Node], dtype: ir.DataType, numpy_dtype: np.dtype[Any]) -> None:
    """Half-precision copies of the float32 constants that the trunk reads; the originals go where nothing else does."""
    copies: dict[str, ir.Value] = {}
    for node in trunk:
        for index, value in enumerate(node.inputs):
            if value is None or value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
                continue
            assert value.name is not None
            if value.name not in copies:
                array = value.const_value.numpy()
                with np.errstate(over="ignore"):
                    half = array.astype(numpy_dtype)
                if not np.isfinite(half.astype(np.float32)).all():
                    raise BundleError(f"{value.name} holds {np.abs(array).max():.3g}, more than {dtype.name} can")
                name = f"{value.name}_{dtype.name.lower()}"
                copies[value.name] = ir.Value(name=name, const_value=ir.tensor(half, dtype=dtype, name=name))
                graph.register_initializer(copies[value.name])
            node.replace_input_with(index, copies[value.name])


def _casts(graph: ir.Graph, trunk: Sequence[ir.Node], dtype: ir.DataType) -> None:
    """A cast where a float32 value enters the trunk, and one where a value leaves it."""
    inside = set(trunk)
    entering: dict[ir.Value, ir.Value] = {}
    for node in trunk:
        for index, value in enumerate(node.inputs):
            if value is None or value.producer() in inside or value.dtype != ir.DataType.FLOAT:
                continue
            if value not in entering:
                entering[value] = _cast(graph, value, dtype, before=node)
            node.replace_input_with(index, entering[value])
    for node in trunk:
        for value in node.outputs:
            if value.dtype != ir.DataType.FLOAT:
                continue
            value.dtype = dtype
            users = [use for use in value.uses() if use.node not in inside]
            if users:
                back = _cast(graph, value, ir.DataType.FLOAT, after=trunk[-1])
                for use in users:
                    use.node.replace_input_with(use.idx, back)


def _cast(
    graph: ir.Graph,
    value: ir.Value,
    dtype: ir.DataType,
    *,
    before: ir.Node | None = None,
    after: ir.Node | None = None,
) -> ir.Value:
    node = ir.node("Cast", inputs=[value], attributes={"to": int(dtype)})
    out = node.outputs[0]
    out.name, out.dtype, out.shape = f"{value.name}_as_{dtype.name.lower()}", dtype, value.shape
    if before is not None:
        graph.insert_before(before, node)
    else:
        assert after is not None
        graph.insert_after(after, node)
    return out
