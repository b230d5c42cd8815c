"""Clips a second of R(2+1)D-34 and -18 in bfloat16, by way and batch, as a share of the matrix product's rate.

Every way is first compared with float32 at two clips: a fast wrong answer is no figure. Rows are in the order of value.
Each network has a share of the time, and stops where that is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tenclip_serving.runtimes.out_of_memory import is_out_of_memory
from tests.gpu_check.context import Context, Network, set_tf32
from tests.gpu_check.timing import captured, median_ms, peak_mib, relative_l2, reset_peak
from tests.gpu_check.ways import BEST, WAYS, Way, make, random_clips

# Relative L2 of logits against float32, in bfloat16 on random weights: see tenclip_export.variants.BOUNDS.
BOUND = 5e-2
SOME, ALL = (1, 8, 32), (1, 2, 4, 8, 16, 32, 64)
# Of the seconds that are left at its beginning, for each network of `Context.timed`: what one does not need goes on.
SHARES = (0.6, 1.0)
# Seconds that must be left for the next row, and for a network to begin: its reference, and kernels that are tried.
ROW_SECONDS, NETWORK_SECONDS = 5.0, 12.0


def run(context: Context) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": [], "checks": [], "goal": None, "stopped": []}
    set_tf32(False)
    torch.backends.cudnn.benchmark = True
    try:
        with torch.inference_mode():
            for network, share in zip(context.timed, SHARES, strict=True):
                time_network(context.part(share), network, found)
    finally:
        torch.backends.cudnn.benchmark = False
    return found


def time_network(context: Context, network: Network, found: dict[str, Any]) -> None:
    """Its rows, reported one by one with the goal as far as it is known; where its time was over, `stopped` says so."""
    last = "nothing"
    begins = context.seconds_left >= NETWORK_SECONDS
    if begins:
        for row in rows_of(context, network, found["checks"]):
            found["rows"].append(row)
            found["goal"] = goal(found["rows"], str(context.timed[0]))
            context.report(found)
            last = f"{row['way']}, batch {row['batch']}"
    if not begins or context.seconds_left < ROW_SECONDS:
        found["stopped"].append(f"{network}: time was over after {last}")


def rows_of(context: Context, network: Network, checks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The best way at all batches with graphs, then the others."""
    model, flop = network.make(), network.flop
    expected = reference(context, network)
    for way in (BEST, *(w for w in WAYS if w != BEST)):
        if context.seconds_left < ROW_SECONDS:
            return
        call = make(way, model, torch.bfloat16, context.device)
        check = check_way(context, network, way, call, expected)
        checks.append(check)
        batches = (1, 2) if context.dry else ALL if way == BEST else SOME
        for batch in batches:
            for graph in (True, False) if way == BEST or batch == 1 else (False,):
                if context.seconds_left < ROW_SECONDS:
                    return
                yield time_one(context, network, way, call, batch, graph, flop) | {"right": check["right"]}


def reference(context: Context, network: Network) -> Tensor:
    """Logits of two clips in float32."""
    call = make("eager", network.make(), torch.float32, context.device)
    return call(call.laid(two_clips(context, network)))[0]


def two_clips(context: Context, network: Network) -> Tensor:
    torch.manual_seed(1)
    return random_clips(2, network.frames, network.crop, torch.float32, context.device)


def check_way(context: Context, network: Network, way: str, call: Way, expected: Tensor) -> dict[str, Any]:
    distance = relative_l2(call(call.laid(two_clips(context, network)))[0], expected)
    return {"network": str(network), "way": way, "relative_l2": distance, "right": distance < BOUND}


def time_one(
    context: Context, network: Network, way: str, call: Way, batch: int, graph: bool, flop: int
) -> dict[str, Any]:
    """One row. What does not fit into memory is a row without figures."""
    row: dict[str, Any] = {"network": str(network), "way": way, "graph": graph, "batch": batch}
    reset_peak(context.device)
    try:
        clips = call.laid(random_clips(batch, network.frames, network.crop, torch.bfloat16, context.device))
        timed = captured(lambda: call(clips), context.device) if graph else lambda: call(clips)
        ms = median_ms(timed, context.device, seconds=0.3, warm_up=1 if context.dry else 3)
    except RuntimeError as err:
        if not is_out_of_memory(err):
            raise
        return row | {"error": str(err).partition("\n")[0]}
    rate = batch * flop / ms * 1e3
    return row | {
        "ms": ms,
        "clips_per_second": 1e3 * batch / ms,
        "tflops": rate / 1e12,
        "share": None if context.rate is None else rate / context.rate,
        "peak_mib": peak_mib(context.device),
    }


def goal(rows: list[dict[str, Any]], network: str) -> dict[str, Any] | None:
    """At least half of the matrix product's rate: the best right row of the larger network."""
    found = [r for r in rows if r["network"] == network and r.get("share") is not None and r["right"]]
    if not found:
        return None
    best = max(found, key=lambda row: float(row["share"]))
    return {"wanted": 0.5, "reached": best["share"], "met": best["share"] >= 0.5, "row": best}
