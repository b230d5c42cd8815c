"""What `tenclip export` prints: the parity table, the measured speeds, the same as plain values for JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from tenclip_export.demo.report import Report
from tenclip_export.parity import Row
from tenclip_video.bundle import Bundle, Speed, Tolerance


def parity_table(rows: Sequence[Row], tolerance: Tolerance | None = None) -> Table:
    """One line for each variant, runtime and crop."""
    caption = None
    if tolerance is not None:
        caption = f"allowed for fp32: logits {tolerance.logits:.1e}, features {tolerance.features:.1e}"
    table = Table(
        title="runtimes against torch, golden clips (relative L2)",
        title_justify="left",
        caption=caption,
        caption_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for column in ("variant", "runtime"):
        table.add_column(column, no_wrap=True)
    for column in ("crop", "clips", "max abs", "logits", "features", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    for row in rows:
        table.add_row(
            row.variant,
            row.runtime,
            str(row.crop),
            str(row.num_clips),
            f"{row.max_abs:.1e}",
            f"{row.relative_l2:.1e}",
            f"{row.features_relative_l2:.1e}",
            f"{row.top1_agreement:.1%}",
            "[green]passes[/]" if row.passed else "[bold red]FAILS[/]",
        )
    return table


def speed_table(speeds: Sequence[Speed]) -> Table:
    machine = speeds[0].machine if speeds else ""
    table = Table(title=f"speed on {machine}", title_justify="left")
    for column in ("variant", "runtime"):
        table.add_column(column)
    for column in ("clips/s", "GFLOP/s", "of sgemm", "batch", "threads"):
        table.add_column(column, justify="right")
    for s in sorted(speeds, key=lambda s: -s.clips_per_second):
        gflops = "" if s.gflops_per_second is None else f"{s.gflops_per_second:.3g}"
        share = "" if s.sgemm_share is None else f"{s.sgemm_share:.0%}"
        clips = f"{s.clips_per_second:.3g}"
        table.add_row(s.variant, s.runtime, clips, gflops, share, str(s.batch_size), str(s.threads))
    return table


def demo_table(report: Report) -> Table:
    """What a demo found, in a few lines."""
    evaluation, server = report.evaluation, report.server
    table = Table(title="demo" + (" (quick: the figures mean nothing)" if report.quick else ""), title_justify="left")
    for column in ("figure", "value", "of"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    counts = [("video top-1", evaluation.video_top1), ("video top-5", evaluation.video_top5)]
    counts += [("video top-1, served", server.top1), ("served as torch", server.agreement)]
    counts += [(f"probe: {p.label_set} (chance {p.chance:.0%})", p.accuracy) for p in report.probes]
    for name, count in counts:
        share = "none" if count.value is None else f"{count.value:.1%}"
        table.add_row(escape(name), share, f"{count.correct} of {count.total}")
    requests = f"{len(server.latencies)} requests"
    table.add_row("request, median", f"{1000 * server.p50:.0f} ms", requests)
    table.add_row("request, 95th percentile", f"{1000 * server.p95:.0f} ms", requests)
    users = [c for c in report.cards if c.truth is None]
    if users or report.failed_videos:
        table.add_section()
    for card in users:
        table.add_row(escape(card.name), escape(card.predicted), f"{card.top[0][1]:.0%}")
    for failed in report.failed_videos:
        table.add_row(escape(failed.name), "not predicted", failed.reason)
    table.add_section()
    for stage in report.stages:
        table.add_row(escape(stage.title), f"{stage.seconds:.1f} s", "earlier run" if stage.reused else "")
    table.add_row("all stages", f"{sum(s.seconds for s in report.stages):.0f} s", "")
    return table


def export_summary(bundle: Bundle | None, rows: Sequence[Row]) -> dict[str, Any]:
    """Plain values for JSON; `bundle` is None where the export failed its parity check."""
    summary: dict[str, Any] = {"exported": bundle is not None}
    if bundle is not None:
        info = bundle.info
        summary |= {
            "path": str(bundle.path),
            "name": info.name,
            "version": info.version,
            "architecture": info.architecture,
            "num_classes": info.num_classes,
            "feature_dim": info.feature_dim,
            "variants": [{"name": v.name, "format": v.format, "path": v.path} for v in info.variants],
            "refused_variants": info.provenance.get("refused_variants", []),
            "label_source": info.label_source,
            "family": info.family,
            "default_protocol": info.default_protocol,
            "notes": info.provenance.get("notes", []),
            "tolerance": dataclasses.asdict(info.tolerance),
            "float32_noise": info.provenance["float32_noise"],
            "speed": [dataclasses.asdict(s) for s in info.speed],
        }
    return {**summary, "parity": [_finite(dataclasses.asdict(row)) for row in rows]}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity; a runtime that gave NaN or another shape has no distance."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
