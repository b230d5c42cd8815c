"""A model and its ClipSpec as one ONNX graph: raw uint8 clips in, `logits` and `features` out.

B clips of T frames, H x W pixels; K classes; P fully-convolutional positions (1 at the pooled size); D features.
B, H and W stay free in the graph, T is fixed. The exporter folds every BN into the convolution before it; only plain
ONNX operators of `OPSET` remain.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from tenclip_api.errors import BundleError
from tenclip_training.preprocess import scale_and_shift
from tenclip_video.spec import ClipSpec

# ONNX Runtime, OpenVINO and TensorRT 10 all read opset 18; nothing in these graphs needs a later one.
OPSET = 18
INPUT_NAME = "clips"
OUTPUT_NAMES = ("logits", "features")
# Protobuf cannot hold more than 2 GiB; weights beyond this lie in a file beside the graph.
MAX_INLINE_BYTES = 1_900_000_000


class ServedModel(nn.Module):
    """The network with its normalisation in front: uint8 [B,T,H,W,3] in `spec.color_order` -> [B,K,P], [B,D].

    It computes in float32, and after `.double()`, with the same weights, in float64.
    """

    def __init__(self, network: nn.Module, spec: ClipSpec) -> None:
        super().__init__()
        self.network = network
        scale, bias = spec.affine()
        self.register_buffer("scale", torch.from_numpy(scale))
        self.register_buffer("bias", torch.from_numpy(bias))
        self.scale: Tensor
        self.bias: Tensor

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network(scale_and_shift(clips, self.scale, self.bias))
        if logits.shape[1] == 0:
            logits = logits[:, :, :1]  # without a classifier every runtime gives [B,0,1]
        return logits, features


class _FeaturesOnly(nn.Module):
    """A `ServedModel` of a backbone without a classifier: its features alone, since no runtime is made for K = 0."""

    def __init__(self, served: nn.Module) -> None:
        super().__init__()
        self.served = served

    def forward(self, clips: Tensor) -> Tensor:
        _, features = self.served(clips)
        assert isinstance(features, Tensor)
        return features


def export_onnx(model: nn.Module, spec: ClipSpec, path: Path) -> tuple[Path, ...]:
    """Write `model` (eval mode, float32) with the normalisation of `spec` to `path`; returns the files written.

    `model` takes float32 [B,3,T,H,W] and returns (logits [B,K,P], features [B,D]). The graph of a model whose
    `num_classes` is 0 (a backbone without a classifier) gives features only.
    Raises BundleError for a model that cannot be exported, one whose batch, height or width cannot stay free included.
    """
    served: nn.Module = ServedModel(model, spec).eval()
    outputs = list(OUTPUT_NAMES)
    if getattr(model, "num_classes", None) == 0:
        served, outputs = _FeaturesOnly(served).eval(), ["features"]
    # Batch 2 and unequal sides: 1 and squares are sizes that the exporter would take for constants.
    example = torch.zeros((2, spec.num_frames, spec.crop, spec.crop + 2, 3), dtype=torch.uint8)
    try:
        with _quiet():
            program = torch.onnx.export(
                served,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=outputs,
                dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            )
    except Exception as err:  # the exporter raises whatever the traced code raises, wrapped in advice to its developers
        raise BundleError(f"the model cannot be exported to ONNX: {err.__cause__ or err}") from err
    if program is None:
        raise BundleError("the ONNX exporter returned nothing")
    graph = program.model
    _tidy(graph)
    return save_graph(graph, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter logs that torchvision is absent and trips over deprecations of its own; neither concerns a user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _tidy(model: ir.Model) -> None:
    """Drop the exporter's notes (stack traces, with this machine's paths) and state the outputs' shapes plainly."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.doc_string = model.doc_string = None
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
    for value in (*model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()
    if any(output.shape is None for output in model.graph.outputs):
        raise BundleError("the exported graph does not state the shapes of its outputs")
    _plain_reshapes(model)
    for output in model.graph.outputs:
        if output.name == "logits" and output.shape is not None:
            output.shape = ir.Shape(["batch", output.shape[1], "positions"])


def _plain_reshapes(model: ir.Model) -> None:
    """Give each Reshape the constant shape (0, constants, -1) where batch is kept and one side is left over.

    The exporter computes such shapes at run time, with a dozen integer nodes for a single flatten.
    """
    for node in model.graph:
        if node.op_type != "Reshape" or node.inputs[1] is None or node.inputs[1].const_value is not None:
            continue
        source, target = node.inputs[0], node.outputs[0].shape
        if source is None or source.shape is None or target is None or source.shape[0] != target[0]:
            continue
        sides = [side if isinstance(side, int) else -1 for side in target[1:]]
        if sides.count(-1) > 1:
            continue
        name = f"{node.outputs[0].name}_shape"
        shape = ir.Value(name=name, const_value=ir.tensor(np.array([0, *sides], np.int64), name=name))
        model.graph.register_initializer(shape)
        node.replace_input_with(1, shape)
        node.attributes.pop("allowzero", None)  # 0 means "as it is" only without it
    ir.passes.common.RemoveUnusedNodesPass()(model)


def save_graph(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Write a graph, its weights beside it where they are too large, and check it; returns the files written."""
    weight_bytes = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if weight_bytes <= MAX_INLINE_BYTES:
        ir.save(model, path)
        files: tuple[Path, ...] = (path,)
    else:
        external = path.with_name(path.name + ".data")
        ir.save(model, path, external_data=external.name)
        files = (path, external)
    # By path: the checker then finds external data too.
    onnx.checker.check_model(str(path), full_check=True)
    return files
