"""Convolutions in bfloat16 on a processor have the outputs and gradients of float64, as training runs them.

    python -m tests.soak bfloat16

3D kernels of 1 to 7, strides 1 and 2, with and without padding, maps of 1 to 9 positions, 3 to 32 channels, in groups
or not. Free memory holds NaN, since what was wrong once held what had been there before. The convolutions are wrong on
processors that multiply bfloat16 alone (AVX512-BF16). Elsewhere this passes in any case, and says so; there sums of
large kernels are rounded to bfloat16 on the way, so more is allowed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import conv3d

from tenclip_training.runs.bfloat16 import has_inner_window
from tenclip_training.runs.optimization import autocast

CPU = torch.device("cpu")
ALLOWED, ALLOWED_ELSEWHERE = 0.01, 0.03  # relative L2; rounding is 0.002, and what was wrong held NaN
SIZES = (1, 2, 3, 4, 5, 7, 8, 9)
Three = tuple[int, int, int]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take one of so many of them")
    options = parser.parse_args(argv or [])
    native = bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    allowed = ALLOWED if native else ALLOWED_ELSEWHERE
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wrong, count, small = list[str](), 0, 0
    try:
        for case in itertools.islice(cases(), 0, None, options.every):
            kernel, stride, padding, maps, _, _ = case
            count += 1
            small += not all(map(has_inner_window, maps, kernel, stride, padding))
            if (error := worst_error(*case)) > allowed:
                wrong.append(f"{case}: {error:.3g}")
    finally:
        torch.set_num_threads(threads)
    summary = (
        f"{count} convolutions in bfloat16, {small} of them over maps so small that they run in float32: {len(wrong)} "
        f"whose output or gradient is off by more than {allowed:.0%}; the processor "
        + ("multiplies bfloat16" if native else "does not multiply bfloat16, where nothing was wrong")
    )
    print("\n".join([summary, *wrong[:20]]))
    return {"passed": not wrong, "summary": summary, "wrong": wrong}


def cases() -> Iterator[tuple[Three, Three, Three, Three, int, int]]:
    """(kernel, stride, padding, maps, channels, groups)."""
    sides, channels = (1, 3, 5, 7), ((3, 1), (16, 1), (20, 1), (16, 16))
    for time, space, frames, side in itertools.product(sides, sides, SIZES, SIZES):
        for (st, ss), (width, groups) in itertools.product(((1, 1), (2, 1), (1, 2), (2, 2)), channels):
            for pt, ps in sorted({(time // 2, space // 2), (time // 2, 0), (0, 0)}):
                if frames + 2 * pt >= time and side + 2 * ps >= space:
                    kernel, maps = (time, space, space), (frames, side, side)
                    yield kernel, (st, ss, ss), (pt, ps, ps), maps, width, groups


def worst_error(kernel: Three, stride: Three, padding: Three, maps: Three, channels: int, groups: int) -> float:
    """The largest relative L2 of output and gradients; infinite where one is not finite."""
    width = channels if groups > 1 else 32
    x = torch.randn(2, channels, *maps).bfloat16().float().requires_grad_()
    w = (torch.randn(width, channels // groups, *kernel) / 20).bfloat16().float().requires_grad_()
    double = (x.detach().double().requires_grad_(), w.detach().double().requires_grad_())
    exact = conv3d(*double, None, stride, padding, 1, groups)
    _poison(x.numel())
    with autocast(CPU, "bf16"):
        found = conv3d(x, w, None, stride, padding, 1, groups)
    gradient = torch.randn_like(exact).bfloat16().double()
    _poison(found.numel())
    pairs = zip(
        (found, *torch.autograd.grad(found, (x, w), gradient.to(found.dtype))),
        (exact, *torch.autograd.grad(exact, double, gradient)),
        strict=True,
    )
    errors = [
        float((a.double() - b).norm() / b.norm().clamp_min(1e-6))
        for a, b in ((a.detach(), b.detach()) for a, b in pairs)
    ]
    return max(e if e == e else float("inf") for e in errors)


def _poison(size: int) -> None:
    """Leave NaN in memory that is free."""
    for n in (size // 4, size // 2, size, 2 * size, 64, 1000, 4000):
        _ = [torch.full((n,), float("nan")) for _ in range(3)]
