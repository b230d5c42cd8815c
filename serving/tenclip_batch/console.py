"""What a batch prints: what runs, progress, what came of each video where that is asked for, and the sums."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tenclip_batch.bundle import BatchBundle
from tenclip_batch.rows import Facts
from tenclip_batch.run import BatchReport, Watching
from tenclip_client.cli.output import output_console
from tenclip_client.cli.progress import bar_progress, line_progress
from tenclip_client.cli.render import failures_table
from tenclip_data.wording import some_of
from tenclip_features.variants import variant_note


@contextmanager
def watching(*, show: bool, as_json: bool, bars: bool) -> Iterator[Watching]:
    """Progress on standard error. show: a line or a JSON object for each video on standard output."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def on_model(bundle: BatchBundle, runtime: str, variant: str) -> None:
        info = bundle.info
        note = variant_note(info.to_dict(), variant, runtime, how="--variant NAME takes it")
        console.print(Text(f"{info.name}:{info.version}, {note}"))

    def on_shown(facts: Facts) -> None:
        if as_json:
            print(json.dumps(facts), flush=True)
        else:
            print_facts(output_console(), facts)

    with (bar_progress if bars else line_progress)() as progress:
        yield Watching(
            on_model=on_model,
            on_start=progress.on_start,
            on_result=progress.on_video,
            on_shown=on_shown if show else None,
            on_note=lambda note: console.print(Text(note)),
        )


def print_facts(console: Console, facts: Facts) -> None:
    """One video in a few lines."""
    console.print(Text(facts["video"], style="bold"))
    if "error" in facts:
        console.print(Text(f"  {facts['error']}: {facts['message']}", style="red"))
    elif "top" in facts:
        for entry in facts["top"]:
            console.print(Text(f"  {entry['score']:6.1%}  {entry['label']}"))
    elif "shape" in facts:
        shape = " x ".join(map(str, facts["shape"]))
        console.print(
            f"  {shape}, min {facts['min']:.4g}, max {facts['max']:.4g}, mean {facts['mean']:.4g}, "
            f"std {facts['std']:.4g}"
        )
    else:
        console.print(f"  {facts['clips']} clips, written by an actor that has ended since")


def print_report(report: BatchReport, *, as_json: bool) -> None:
    """The sums, on standard output."""
    if as_json:
        values = {f.name: getattr(report, f.name) for f in dataclasses.fields(report)}
        values |= {"out": str(report.out), "named": [vars(f) for f in report.named]}
        print(json.dumps(values))
        return
    console = output_console()
    earlier = f", {report.reused} of them from an earlier run" if report.reused else ""
    console.print(
        Text(
            f"{report.out}: {report.clips} clips of {report.done} videos{earlier}; {report.model}:{report.version}, "
            f"{report.variant} on {report.runtime}"
        )
    )
    for names, what in (
        (report.changed, "worked on anew: their files had changed, or what had come of them was gone"),
        (report.removed, "gone or not named any more; rows kept (--prune drops them)"),
        (report.pruned, "gone or not named any more; rows dropped"),
    ):
        if names:
            console.print(Text(f"{what}: {some_of(names)}"))
    if report.failed:
        console.print(Text(f"{report.failed} of {report.videos} videos failed:", style="red"))
        table = Table.grid(padding=(0, 2))
        for kind, count in report.failures.items():
            table.add_row(f"  {count}", Text(kind, style="red"))
        console.print(table)
        if report.named:
            console.print(failures_table(report.named))
        console.print(f"All are in {report.out}/videos; the same command with --retry-failed tries them again.")
