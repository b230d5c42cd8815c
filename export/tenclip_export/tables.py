"""Output of `tenclip export`: the parity table, the measured speeds, and the same as plain values for JSON."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenclip_export.parity import Row
from tenclip_export.targets import Written
from tenclip_video.bundle import Bundle, BundleInfo, Speed, Tolerance


def print_export(
    bundle: Bundle | None, rows: Sequence[Row], written: Sequence[Written] = (), *, json: bool = False
) -> None:
    """Print what an export did: tables and notes, or one JSON document.

    bundle: None where the parity check failed. rows: the parity table. written: what other servers read.
    """
    if json:
        targets = [{"target": w.target, "path": str(w.path), "serve": w.serve} for w in written]
        print(jsonlib.dumps({**export_summary(bundle, rows), "targets": targets}, indent=2, allow_nan=False))
        return
    console = Console()
    if rows:
        console.print(parity_table(rows, bundle.info.tolerance if bundle else None))
    if bundle is None:
        return
    if bundle.info.speed:
        console.print(speed_table(bundle.info.speed))
    for line in _notes(bundle.info):
        console.print(line, highlight=False)
    classes = _classes(bundle.info)
    console.print(f"[green]wrote[/] {escape(str(bundle.path))}  {bundle.info.architecture}, {classes}", highlight=False)
    for other in written:
        console.print(f"[green]wrote[/] {escape(str(other.path))}", highlight=False)
    console.print(f"serve it: tenclip serve {escape(str(bundle.path.parent.parent))}", highlight=False)
    for other in written:
        console.print(f"serve it: {escape(other.serve)}", highlight=False, soft_wrap=True)


def _notes(info: BundleInfo) -> Iterator[str]:
    for refused in info.provenance.get("refused_variants", ()):
        yield f"[yellow]left out[/] {escape(refused['variant'])}: {escape(refused['reason'])}"
    for note in info.provenance.get("notes", ()):
        yield f"[yellow]note[/] {escape(note)}"


def _classes(info: BundleInfo) -> str:
    if info.features_only:
        return f"no classifier: it answers {info.feature_dim} features a clip, and no predictions"
    if info.label_source != "index":
        return f"{info.num_classes} classes"
    known = info.provenance.get("label_source")
    whose = f" (the list is {known}'s)" if known else ""
    return f"{info.num_classes} classes named by their numbers; --labels FILE names them{whose}"


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
            "clip_spec": info.clip_spec.to_dict(),
            "clip_spec_changes": info.provenance.get("clip_spec_changes", {}),
            "model_options": info.provenance.get("model_options", {}),
            "notes": info.provenance.get("notes", []),
            "tolerance": dataclasses.asdict(info.tolerance),
            "float32_noise": info.provenance.get("float32_noise"),
            "speed": [dataclasses.asdict(s) for s in info.speed],
        }
    return {**summary, "parity": [_finite(dataclasses.asdict(row)) for row in rows]}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity; a runtime that gave NaN or another shape has no distance."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
