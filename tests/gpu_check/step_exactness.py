"""Golden clips on the device, against float64 on the CPU, by network and precision; CUDA graphs against eager.

Bounds on the relative L2 of logits and features: float32 may be `NOISE_MULTIPLE` times as far from float64 as float32
on the CPU is, as in the parity of export; the others are held to those of its variants, or to `HALF_MULTIPLE` times
what bfloat16 loses on the CPU (an eighth of that with float16's three more bits), where these weights lose more.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tenclip_export.onnx_graph import ServedModel
from tenclip_export.parity import FLOOR, NOISE_MULTIPLE
from tenclip_export.variants import BOUNDS
from tenclip_export.variants.program import HalfTrunk, served_program
from tenclip_training.models import VideoModel
from tests.gpu_check.context import Context, Network, set_tf32
from tests.gpu_check.prepare import read_reference
from tests.gpu_check.timing import captured, relative_l2

HALF_MULTIPLE = 3.0
# TensorFloat-32 has float16's bits behind the point.
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def run(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": [], "graphs": []}
    for network in (context.networks[1], context.networks[0], *context.networks[2:]):
        path = context.wait_for(f"references/{network.architecture}.pt")
        model, reference = read_reference(network, path)
        for precision in PRECISIONS:
            found["rows"] += rows_of(context, network, model, reference, precision)
            context.report(found)
        found["graphs"].append(graph_row(context, network, model, reference))
        context.report(found)
    found["passed"] = all(row["passed"] for row in found["rows"]) and all(row["equal"] for row in found["graphs"])
    return found


def rows_of(
    context: Context, network: Network, model: VideoModel, reference: dict[str, Any], precision: str
) -> list[dict[str, Any]]:
    """Plain 3D convolutions, and the network as it is served (2D, padded, fused)."""
    return [
        row_of(context, network, form, served, reference, precision)
        for form, served in (
            ("plain", lambda: plain_model(model, network, precision)),
            ("served", lambda: served_program(model, network.spec, precision=precision.replace("tf32", "fp32"))),
        )
    ]


def row_of(
    context: Context, network: Network, form: str, build: Any, reference: dict[str, Any], precision: str
) -> dict[str, Any]:
    set_tf32(precision == "tf32")
    try:
        served = build().to(context.device)
        with torch.inference_mode():
            outputs = clip_by_clip(served, reference["clips"], context.device)
    finally:
        set_tf32(False)
    exact, single = reference["exact"], reference["single"]
    distances = [relative_l2(a, e) for a, e in zip(outputs, exact, strict=True)]
    noise = [relative_l2(s, e) for s, e in zip(single, exact, strict=True)]
    bound = allowed(precision, max(noise), reference["bf16_noise"])
    return {
        "network": str(network),
        "form": form,
        "precision": precision,
        "logits": distances[0],
        "features": distances[1],
        "top1": float((outputs[0].argmax(1).cpu() == exact[0].argmax(1)).double().mean()),
        "bound": bound,
        "passed": max(distances) <= bound,
    }


def allowed(precision: str, noise: float, bf16_noise: float) -> float:
    """The bound for a precision, where float32 on the CPU is `noise` from float64, and bfloat16 `bf16_noise`.

    >>> allowed("fp32", 1e-5, 0.01), allowed("bf16", 1e-5, 0.01), allowed("bf16", 1e-5, 0.03)
    (0.0003, 0.05, 0.09)
    """
    if precision == "fp32":
        return max(FLOOR, round(NOISE_MULTIPLE * noise, 12))
    if precision == "bf16":
        return max(BOUNDS["bf16"].logits, HALF_MULTIPLE * bf16_noise)
    return max(BOUNDS["fp16"].logits, HALF_MULTIPLE * bf16_noise / 8)


def plain_model(model: VideoModel, network: Network, precision: str) -> nn.Module:
    """The network in plain 3D convolutions, with its head and the normalisation in float32."""
    return ServedModel(HalfTrunk(copy.deepcopy(model), PRECISIONS[precision]), network.spec).eval()


def clip_by_clip(served: nn.Module, clips: Tensor, device: torch.device) -> list[Tensor]:
    parts = [served(clip[None].to(device)) for clip in clips]
    return [torch.cat([part[i] for part in parts]) for i in range(2)]


def graph_row(context: Context, network: Network, model: VideoModel, reference: dict[str, Any]) -> dict[str, Any]:
    """A CUDA graph of the served bfloat16 program gives eager's outputs, to the bit."""
    served = served_program(model, network.spec, precision="bf16").to(context.device)
    clips = reference["clips"].to(context.device)
    with torch.inference_mode():
        eager = [part.clone() for part in served(clips)]
        replay = captured(lambda: served(clips), context.device)
        results = [[part.clone() for part in replay()] for _ in range(2)]
    same = [all(torch.equal(a, e) for a, e in zip(parts, eager, strict=True)) for parts in results]
    distance = max(relative_l2(a, e) for a, e in zip(results[0], eager, strict=True))
    return {"network": str(network), "equal": all(same), "relative_l2": distance}
