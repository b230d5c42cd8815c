"""Each convolution of R(2+1)D-34 as the server runs it, against its roofline: what the rest of the time is.

Convolutions of one shape are timed once, on random maps, and counted. What the whole network takes beyond their sum is
between them: launches, the head, the padding of the stem's input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tenclip_export.variants.program import HalfTrunk
from tenclip_serving.runtimes.torch_ops import unfused
from tenclip_training.models.fusion import FusedConv, for_inference
from tenclip_training.models.roofline import Ceilings, ConvLayer, conv_layers, network_floor
from tests.gpu_check.context import Context
from tests.gpu_check.timing import captured, median_ms
from tests.gpu_check.ways import random_clips

BATCH = 16
# In a dry run: any two numbers.
NO_CEILINGS = Ceilings(rate=1e11, bandwidth=1e10)


def run(context: Context) -> dict[str, Any]:
    network = context.timed[0]
    batch = 1 if context.dry else BATCH
    ceilings = NO_CEILINGS
    if context.rate is not None and context.bandwidth is not None:
        ceilings = Ceilings(rate=context.rate, bandwidth=context.bandwidth)
    plain = network_floor(conv_layers(network.on_meta(), num_frames=network.frames, crop=network.crop), ceilings, batch)
    found: dict[str, Any] = {"network": str(network), "batch": batch, "ridge": ceilings.ridge, "rows": []}
    found["floor"] = {"share": plain.share, "clips_per_second": plain.clips_per_second, "ms": 1e3 * plain.seconds}
    torch.backends.cudnn.benchmark = True
    try:
        with torch.inference_mode():
            model = HalfTrunk(for_inference(network.make()), torch.bfloat16).to(context.device)
            clips = random_clips(batch, network.frames, network.crop, torch.bfloat16, context.device)
            whole = median_ms(captured(lambda: model(clips), context.device), context.device)
            for conv, layer, count in distinct(model, clips):
                found["rows"].append(time_layer(context, conv, layer, count, batch, ceilings))
                context.report(found)
                if context.seconds_left < 3:
                    found["stopped"] = "time was over"
                    break
    finally:
        torch.backends.cudnn.benchmark = False
    return found | summary(found["rows"], whole)


def distinct(model: torch.nn.Module, clips: Tensor) -> list[tuple[FusedConv, ConvLayer, int]]:
    """One convolution of each shape, with the number of its like."""
    seen: dict[tuple[Any, ...], tuple[FusedConv, ConvLayer]] = {}
    counts: dict[tuple[Any, ...], int] = {}

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str) -> None:
        assert isinstance(module, FusedConv)
        c, t, h, w = inputs[0].shape[1:]
        k, u, y, x = output.shape[1:]
        layer = ConvLayer(
            name=name,
            kernel=_three(module.kernel_size),
            stride=_three(module.stride),
            groups=module.groups,
            input=(c, t, h, w),
            output=(k, u, y, x),
            adds_residual=len(inputs) > 1 and inputs[1] is not None,
        )
        key = (layer.kernel, layer.stride, layer.input, layer.output, layer.adds_residual, module.relu)
        seen.setdefault(key, (module, layer))
        counts[key] = counts.get(key, 0) + 1

    handles = [
        part.register_forward_hook(lambda m, i, o, name=name: note(m, i, o, name))
        for name, part in model.named_modules()
        if isinstance(part, FusedConv)
    ]
    model(clips)
    for handle in handles:
        handle.remove()
    return [(conv, layer, counts[key]) for key, (conv, layer) in seen.items()]


def time_layer(
    context: Context, conv: FusedConv, layer: ConvLayer, count: int, batch: int, ceilings: Ceilings
) -> dict[str, Any]:
    def maps(sizes: tuple[int, int, int, int]) -> Tensor:
        channels, *rest = sizes
        values = torch.randn(batch, *rest, channels, device=context.device, dtype=torch.bfloat16)
        return values.permute(0, 4, 1, 2, 3)

    x, residual = maps(layer.input), maps(layer.output) if layer.adds_residual else None
    ms = median_ms(captured(lambda: conv(x, residual), context.device), context.device, seconds=0.1)
    floor = 1e3 * layer.floor_seconds(ceilings, batch)
    return {
        "layer": layer.name,
        "count": count,
        "kernel": "x".join(map(str, layer.kernel)),
        "channels": f"{layer.input[0]} to {layer.output[0]}",
        "map": "x".join(map(str, layer.output[1:])),
        "runs_over": conv.over,
        "ms": ms,
        "floor_ms": floor,
        "of_floor": floor / ms,
        "bound": layer.bound(ceilings, batch),
        "tflops": layer.flop(batch) / ms / 1e9,
        "gb_per_s": layer.bytes(batch) / ms / 1e6,
    }


def summary(rows: list[dict[str, Any]], whole_ms: float) -> dict[str, Any]:
    """Milliseconds of the network: at the floor, lost in layers by what bounds them, and between layers."""
    total = sum(r["count"] * r["ms"] for r in rows)
    lost = {
        bound: sum(r["count"] * (r["ms"] - r["floor_ms"]) for r in rows if r["bound"] == bound)
        for bound in ("arithmetic", "memory")
    }
    return {
        "whole_ms": whole_ms,
        "layers_ms": total,
        "floors_ms": sum(r["count"] * r["floor_ms"] for r in rows),
        "lost_ms": lost,
        "between_ms": whole_ms - total,
        "unfused": [f"{key[0]} by {key[1]}: {why}" for key, why in unfused.items()],
    }


def _three(values: Any) -> tuple[int, int, int]:
    first, second, third = values
    return (first, second, third)
