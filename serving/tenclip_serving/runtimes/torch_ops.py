"""Operators of ours that exported torch programs call: a convolution with what follows it, in one pass over memory.

An elementwise operator reads and writes a whole map. Of R(2+1)D-34 at 32x128 in bfloat16 those would move more bytes
than the convolutions do, so on a GPU bias, residual and ReLU belong into the convolution's own write.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from tenclip_serving.runtimes.out_of_memory import is_out_of_memory
from tenclip_serving.telemetry.logs import log

SCHEMA = "(Tensor x, Tensor weight, Tensor bias, Tensor? residual, int[] stride, int[] padding) -> Tensor"
# Shapes (of weights and maps) that cuDNN has no fused kernel for, with its reason.
unfused: dict[tuple[Any, ...], str] = {}


@functools.cache
def conv2d_relu() -> Any:
    """The operator `tenclip::conv2d_relu`: relu(conv2d(x, weight) + bias + residual), registered at the first call.

    x: float [N,C,H,W]; weight: [K,C,h,w]; bias: [K]; residual: None or [N,K,H',W'], all in channels-last memory.
    On a GPU it is cuDNN's fused kernel, and where that has none for a shape, the plain operators.
    """
    import torch
    from torch import library

    operator = library.custom_op("tenclip::conv2d_relu", _plain, mutates_args=(), device_types="cpu", schema=SCHEMA)
    operator.register_kernel("cuda", fused_or_plain)

    def shape_only(x: Any, weight: Any, bias: Any, residual: Any, stride: list[int], padding: list[int]) -> Any:
        return torch.nn.functional.conv2d(x, weight, bias, stride, padding)

    operator.register_fake(shape_only)
    return operator


def fused_or_plain(x: Any, weight: Any, bias: Any, residual: Any, stride: list[int], padding: list[int]) -> Any:
    """`conv2d_relu` on a GPU. A shape that cuDNN cannot fuse is kept in `unfused`.

    Memory that was short is no reason to: then it raises what `is_out_of_memory` knows, and the caller gives some back.
    """
    import torch

    key = (tuple(x.shape), tuple(weight.shape), tuple(stride), residual is None, x.dtype)
    if key not in unfused:
        try:
            if residual is None:
                return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, [1, 1], 1)
            return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, stride, padding, [1, 1], 1)
        except RuntimeError as err:
            if is_out_of_memory(err):
                raise
            unfused[key] = str(err).strip().partition("\n")[0]
            log(logging.WARNING, f"cuDNN fuses no convolution of {key[:2]}, running it in parts: {unfused[key]}")
    return _plain(x, weight, bias, residual, stride, padding)


def _plain(x: Any, weight: Any, bias: Any, residual: Any, stride: list[int], padding: list[int]) -> Any:
    import torch

    out = torch.nn.functional.conv2d(x, weight, bias, stride, padding)
    if residual is not None:
        out += residual
    return out.relu_()
