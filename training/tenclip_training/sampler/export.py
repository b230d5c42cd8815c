"""The fitted network as ONNX: `windows` [M,T,H,W,C] in, `salience` float32 [M] out, its description in the metadata."""

from __future__ import annotations

import logging
import os
import secrets
import warnings
from pathlib import Path

import numpy as np
import torch

from tenclip_api.errors import BundleError, ParityError
from tenclip_training.sampler.networks import Salience
from tenclip_video.salience.sampler_spec import METADATA_KEY, SamplerSpec

OPSET = 18
INPUT_NAME, OUTPUT_NAME = "windows", "salience"
# Of the graph's outputs from torch's, relative to their size.
TOLERANCE = 1e-3


def export_sampler(salience: Salience, spec: SamplerSpec, path: Path) -> float:
    """Write the network to `path`, whole or not at all; returns how far ONNX Runtime is from torch (relative L2).

    Raises BundleError for a network that cannot be exported, ParityError beyond 1e-3.
    """
    import onnx_ir as ir

    salience = salience.eval()
    is_picture = spec.kind in ("rgb", "keyframes")
    example = _example(spec, 2, is_picture=is_picture)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of the exporter's own
            program = torch.onnx.export(
                salience,
                (torch.from_numpy(example),),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: "windows"},),
            )
    except Exception as err:  # whatever the traced code raises
        raise BundleError(f"the sampler cannot be exported to ONNX: {err.__cause__ or err}") from err
    finally:
        logger.setLevel(level)
    assert program is not None
    graph = program.model
    graph.metadata_props.clear()
    for node in graph.graph:  # stack traces, with this machine's paths
        node.metadata_props.clear()
        node.doc_string = None
    graph.metadata_props[METADATA_KEY] = spec.to_json()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        ir.save(graph, draft)
        distance = _distance(draft, salience, spec, is_picture=is_picture)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return distance


def _distance(path: Path, salience: Salience, spec: SamplerSpec, *, is_picture: bool) -> float:
    """How far apart the graph and torch are for 1 and for 5 windows. Raises ParityError."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in (1, 5):
        windows = _example(spec, count, is_picture=is_picture)
        (found,) = session.run([OUTPUT_NAME], {INPUT_NAME: windows})
        with torch.inference_mode():
            wanted = salience(torch.from_numpy(windows)).numpy()
        if found.shape != wanted.shape or found.dtype != np.float32:
            raise ParityError(f"{path}: gives {found.dtype} {found.shape} for {count} windows, not {wanted.shape}")
        size = max(float(np.linalg.norm(wanted)), 1e-6)
        worst = max(worst, float(np.linalg.norm(found - wanted)) / size)
    if not worst <= TOLERANCE:
        raise ParityError(f"{path}: ONNX Runtime is {worst:.1e} away from torch, more than {TOLERANCE:g}")
    return worst


def _example(spec: SamplerSpec, count: int, *, is_picture: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    rng = np.random.default_rng(0)
    shape = (count, *spec.input_shape)
    if is_picture:
        return rng.integers(0, 256, shape, np.uint8)
    return rng.standard_normal(shape).astype(np.float32)
