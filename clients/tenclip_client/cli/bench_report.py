"""The output of `tenclip bench`: progress while it runs, and the report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tenclip_client._histogram import Histogram
from tenclip_client._load import LoadReport, Snapshot

_SECONDS_BETWEEN_LINES = 10.0
# Beyond these the report says that the generator itself was the bottleneck.
_MAX_LAG_SECONDS = 0.005
_MAX_LAG_SHARE = 0.05  # of the median latency
_MAX_CPU_SHARE = 0.9  # of one core
_PERCENTILES = (50, 90, 95, 99, 99.9)


@contextmanager
def bench_progress() -> Iterator[Callable[[Snapshot], None]]:
    """On standard error: one line that changes, on a terminal; elsewhere a line every ten seconds."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if console.is_terminal:
        with Live(Text("bench"), console=console, transient=True, redirect_stdout=False, auto_refresh=False) as live:
            yield lambda snapshot: live.update(Text(progress_line(snapshot)), refresh=True)
        return
    said = time.monotonic()

    def on_tick(snapshot: Snapshot) -> None:
        nonlocal said
        if time.monotonic() - said >= _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            console.print(progress_line(snapshot), markup=False)

    yield on_tick


def progress_line(snapshot: Snapshot) -> str:
    phase = "warm-up" if snapshot.warming_up else f"{snapshot.share_done:4.0%}"
    median = "" if math.isnan(snapshot.median_seconds) else f", median {_ms(snapshot.median_seconds)} ms"
    return (
        f"bench {phase}: {snapshot.num_ok} ok, {snapshot.num_failed} failed, {snapshot.num_in_flight} in flight, "
        f"{snapshot.per_second:.1f} answers/s{median}"
    )


def print_report(console: Console, server: str, method: str, report: LoadReport) -> None:
    """Throughput, latency by video, stages of the server, failures, and warnings."""
    console.print(Text(f"{server}  {'; '.join(sorted(report.models))}".rstrip(), style="bold"))
    console.print(Text(f"{method}, {describe_load(report)}", style="dim"))
    sent = report.num_ok + report.num_failed
    console.print(
        f"\n{report.num_ok} of {sent} requests succeeded; {report.requests_per_second:.4g} requests/s, "
        f"{report.clips_per_second:.4g} clips/s\n"
    )
    if report.num_ok:
        console.print(_latency_table(report), "", _stage_table(report), "", sep="\n")
    if report.failures:
        console.print(_failure_table(report))
    for warning in warnings(report):
        console.print(Text(f"note: {warning}", style="yellow"))


def describe_load(report: LoadReport) -> str:
    """`closed loop of 8, 10.0 s after 2.0 s of warm-up, seed 0`."""
    plan = report.plan
    if plan.rate is None:
        loop = f"closed loop of {plan.concurrency}"
    else:
        loop = f"open loop of {plan.rate:g} requests/s ({plan.arrivals})"
    return f"{loop}, {report.window_seconds:.1f} s after {plan.warmup_seconds:.1f} s of warm-up, seed {plan.seed}"


def warnings(report: LoadReport) -> Iterator[str]:
    """Reasons to distrust the figures: a generator short of CPU, few answers, an early stop."""
    if report.interrupted:
        yield f"stopped early, with {report.num_unanswered} requests unanswered"
    late, median = report.lag.percentile(99), report.latency.percentile(50)
    if late > max(_MAX_LAG_SECONDS, _MAX_LAG_SHARE * median):
        yield f"1% of the requests were sent {_ms(late)} ms late or more: this generator is short of CPU"
    if report.cpu_share > _MAX_CPU_SHARE:
        yield (
            f"this generator used {report.cpu_share:.0%} of a core: the server may be faster than these figures; run "
            "several, or on another machine"
        )
    if 0 < report.num_ok < 100:
        yield f"the 99th percentile of {report.num_ok} answers is their slowest or nearly so"


def _latency_table(report: LoadReport) -> Table:
    table = _table("latency, ms", "answers", "mean", *(f"p{p:g}" for p in _PERCENTILES), "max")
    _add_row(table, "all", report.latency, _PERCENTILES)
    if len(report.groups) > 1:
        for name, histogram in report.groups.items():
            _add_row(table, name, histogram, _PERCENTILES)
    return table


def _stage_table(report: LoadReport) -> Table:
    """Seconds by stage. `elsewhere` is network, gRPC, parsing and this client."""
    percentiles = (50, 95, 99)
    table = _table("stage in the server, ms", "share", "mean", *(f"p{p}" for p in percentiles), "max")
    stages = {**report.stages, "elsewhere": report.elsewhere}
    whole = sum(h.total for h in stages.values())
    for name, histogram in stages.items():
        _add_row(table, name, histogram, percentiles, first=f"{histogram.total / whole:.1%}" if whole else "")
    return table


def _failure_table(report: LoadReport) -> Table:
    table = _table("failed", "requests", "p50, ms", "p99", "max")
    table.add_column("the first one", overflow="fold")
    for failure in sorted(report.failures.values(), key=lambda f: -f.seconds.count):
        seconds = failure.seconds
        table.add_row(
            Text(f"{failure.status} {failure.reason}", style="red"),
            str(seconds.count),
            *(_ms(seconds.percentile(p)) for p in (50, 99)),
            _ms(seconds.max),
            Text(failure.example),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    return table


def _add_row(
    table: Table, name: str, histogram: Histogram, percentiles: Sequence[float], *, first: str | None = None
) -> None:
    values = (histogram.mean, *(histogram.percentile(p) for p in percentiles), histogram.max)
    table.add_row(Text(name), str(histogram.count) if first is None else first, *map(_ms, values))


def _ms(seconds: float) -> str:
    """Three digits of milliseconds."""
    if math.isnan(seconds):
        return "-"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
