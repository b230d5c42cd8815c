"""The figures of a demo as a table on the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from tenclip_demo.report import Report


def demo_table(report: Report) -> Table:
    """The results of a demo, one figure a line."""
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
