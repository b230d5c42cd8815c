"""Output of `tenclip probe`: scores, the grid of C, the confusion matrix. Progress goes to standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tenclip_data.wording import some_of
from tenclip_features.probe_results import ProbeResult, ProbeRuns
from tenclip_features.scores import Confusion, Score

LARGEST_CONFUSION = 20  # classes that still fit on a screen


@contextmanager
def fit_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar of fits on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("fitting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("fitting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_probe(result: ProbeResult) -> None:
    """One probe on one test split."""
    console = _console()
    multi_label = result.probe.multi_label
    table = _score_table(f"{_what(result)} of {len(result.probe.labels)} classes", multi_label, ("of",))
    for name, score in _scores(result):
        table.add_row(name, *_cells(score), str(score.total))
    console.print(table)
    _print_grid(console, [result])
    chosen = f"{result.chosen} = {result.strength:g}"
    if result.cross_validation:
        value = dict(result.cross_validation)[result.strength]
        metric = "mAP" if multi_label else "top-1"
        how = "by cross-validation" if result.tuned_on is None else f"on {result.tuned_on} of them held out"
        chosen += f", chosen {how} ({metric} {value:.2%} of the training {result.fit_on})"
    lines = [
        f"features of {result.probe.model} version {result.probe.version}, {result.probe.feature_dim} numbers a clip",
        *_mean_lines([result]),
        chosen,
        f"fitted on {result.train_videos} of {result.train_videos_asked} videos, "
        f"tested on {result.test_videos} of {result.test_videos_asked}",
    ]
    _print_rest(console, lines, result.without_features, [] if result.converged else [""])
    _print_confusion(console, result.confusion)


def print_runs(runs: ProbeRuns) -> None:
    """Every fold or split, their mean, and their standard deviation."""
    console = _console()
    first = runs.runs[0]
    multi_label = first.probe.multi_label
    what = f"{len(runs.runs)} {runs.kind}"
    table = _score_table(
        f"{_what(first)} of {len(first.probe.labels)} classes, {what}", multi_label, ("of", first.chosen)
    )
    for run in runs.runs:
        table.add_row(escape(run.name), *_cells(run.mean_features), str(run.mean_features.total), f"{run.strength:g}")
    for which, name in _KINDS.items():
        cells = [f"{runs.mean(which, m):.2%} ± {runs.std(which, m):.2%}" for m in _metrics(multi_label)]
        table.add_row(f"mean ± std: {name}", *cells, "", "", style="bold" if which == "mean_features" else None)
    console.print(table)
    lines = [f"features of {first.probe.model} version {first.probe.version}, {first.probe.feature_dim} numbers a clip"]
    lines += _mean_lines(runs.runs)
    if runs.final_strength is not None:
        lines.append(
            f"the classifier of all videos takes {first.chosen} = {runs.final_strength:g}"
            if first.chosen == "k"
            else f"the probe that is saved is fitted on all videos with C = {runs.final_strength:g}"
        )
    _print_grid(console, runs.runs)
    _print_rest(console, lines, runs.without_features, [f"{r.name}: " for r in runs.runs if not r.converged])
    _print_confusion(console, runs.confusion)


_KINDS = {
    "mean_features": "videos, mean features",
    "mean_probabilities": "videos, mean probabilities",
    "clips": "clips",
    "chance": "videos, most frequent class",
}


def _what(result: ProbeResult) -> str:
    return "probe" if result.chosen == "C" else "nearest neighbours"


def _console() -> Console:
    return Console(highlight=False)


def _scores(result: ProbeResult) -> list[tuple[str, Score]]:
    return [(name, getattr(result, which)) for which, name in _KINDS.items()]


def _metrics(multi_label: bool) -> tuple[str, ...]:
    return ("mean_average_precision", "top1", "top5") if multi_label else ("top1", "top5")


def _score_table(title: str, multi_label: bool, more: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in (*(("mAP", "hit@1", "hit@5") if multi_label else ("top-1", "top-5")), *more):
        table.add_column(column, justify="right")
    return table


def _cells(score: Score) -> list[str]:
    return [f"{getattr(score, m):.2%}" for m in _metrics(score.mean_average_precision is not None)]


def _print_grid(console: Console, results: Sequence[ProbeResult]) -> None:
    """The score of every C in every run; those that were chosen are bold."""
    first = results[0]
    if not first.cross_validation:
        return
    metric = "mAP" if first.probe.multi_label else "top-1"
    # Above the table, not its title: that would be wrapped to the width of two narrow columns.
    how = "cross-validation" if first.tuned_on is None else "choice"
    console.print(f"{how} of {first.chosen}: {metric} of held-out training {first.fit_on}", markup=False)
    table = Table()
    table.add_column(first.chosen, justify="right")
    for result in results:
        table.add_column(escape(result.name) or metric, justify="right")
    grids = [dict(r.cross_validation) for r in results]
    for strength in grids[0]:
        cells = [
            f"[bold]{g[strength]:.2%}[/]" if r.strength == strength else f"{g[strength]:.2%}"
            for r, g in zip(results, grids, strict=True)
        ]
        table.add_row(f"{strength:g}", *cells)
    console.print(table)


def _mean_lines(results: Sequence[ProbeResult]) -> list[str]:
    """What mean average precisions are taken over; none where labels exclude one another."""
    lines = []
    for result in results:
        mean = result.mean_features.average_precision
        if mean is not None:
            name = f"{result.name}: " if result.name else ""
            left_out = f"; {mean.classes_left_out} without one left out" if mean.classes_left_out else ""
            lines.append(f"{name}mAP over {mean.classes_counted} classes with a test video{left_out}")
    return lines


def _print_rest(console: Console, lines: list[str], without: Sequence[str], unconverged: Sequence[str]) -> None:
    if without:
        lines.append(f"without features: {some_of(without)}")
    lines += [f"{prefix}the solver stopped before it converged; try a smaller C" for prefix in unconverged]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _print_confusion(console: Console, confusion: Confusion | None) -> None:
    if confusion is None:
        return
    if len(confusion.labels) > LARGEST_CONFUSION:
        console.print(f"confusion of {len(confusion.labels)} classes: see --json or --predictions", markup=False)
        return
    console.print("confusion (rows: true, columns: predicted)")
    table = Table()
    table.add_column("")
    for i in range(len(confusion.labels)):
        table.add_column(str(i), justify="right")
    for i, (label, counts) in enumerate(zip(confusion.labels, confusion.counts.tolist(), strict=True)):
        cells = [f"[bold]{n}[/]" if j == i and n else str(n) if n else "[dim].[/]" for j, n in enumerate(counts)]
        table.add_row(f"{i} {escape(label)}", *cells)
    console.print(table)
