"""Tables of `tenclip evaluate` and `tenclip evaluate-actions`, each figure with what it is counted over."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tenclip_data.wording import some_of
from tenclip_features.scores import MeanAveragePrecision
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.action_counting import TaskResult
from tenclip_training.evaluation.actions import ActionResult
from tenclip_training.evaluation.comparison import Comparison
from tenclip_training.evaluation.results import EvaluationResult

LARGEST_CONFUSION = 20  # classes that still fit on a screen
MOST_COMPARED = 20  # classes or pairs, from each end


def print_evaluation(result: EvaluationResult, *, title: str) -> None:
    console = Console()
    table = Table(title=escape(title), title_justify="left")
    for column in ("", "top-1", "top-5", "of"):
        table.add_column(column, justify="left" if not column else "right")
    for name, top1, top5 in (
        ("videos", result.video_top1, result.video_top5),
        ("clips", result.clip_top1, result.clip_top5),
    ):
        table.add_row(name, f"{top1.value:.2%}", f"{top5.value:.2%}", str(top1.total))
    console.print(table)
    console.print(
        f"{result.protocol} on {result.split or 'all videos'}: {result.videos_asked} videos asked for, "
        f"{result.videos_decoded} decoded, {len(result.skipped)} skipped",
        highlight=False,
        markup=False,
    )
    for line in _figure_lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _print_skipped(console, result.skipped)
    if result.damaged:
        console.print(
            f"frames damaged, or missing and stood in for by others, in: {some_of(result.damaged)}",
            markup=False,
            highlight=False,
        )
    if len(result.labels) <= LARGEST_CONFUSION:
        console.print(_class_table(result))


def print_comparison(found: Comparison) -> None:
    """The difference of two evaluations, and where it lies."""
    console = Console()
    left_out = found.only_before + found.only_after
    lines = [
        f"against {found.before}, over {found.videos} videos that both have scored"
        + (f" ({left_out} of one alone left out)" if left_out else ""),
        f"top-1 {found.top1_before.value:.2%} before, {found.top1_after.value:.2%} now: {found.gained} videos gained, "
        f"{found.lost} lost (McNemar's exact test: p = {found.p_value:.3g})",
    ]
    for name, classes in (
        ("most gained", [c for c in found.classes if c.gain > 0][:MOST_COMPARED]),
        ("most lost", [c for c in reversed(found.classes) if c.gain < 0][:MOST_COMPARED]),
    ):
        if classes:
            parts = [f"{c.label} {100 * c.gain:+.1f} points of {c.total}" for c in classes]
            lines.append(f"classes {name}: {'; '.join(parts)}")
    for name, pairs in (
        ("less confused", [p for p in found.pairs if p.after < p.before][:MOST_COMPARED]),
        ("more confused", [p for p in reversed(found.pairs) if p.after > p.before][:MOST_COMPARED]),
    ):
        if pairs:
            parts = [f"{p.first} and {p.second} {p.before:.1%} to {p.after:.1%}" for p in pairs]
            lines.append(f"pairs {name}: {'; '.join(parts)}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figure_lines(result: EvaluationResult) -> list[str]:
    """Mean average precision and calibration, with what they are counted over."""
    lines = [_mean_line("mAP", result.mean_average_precision)]
    if (c := result.calibration) is not None:
        over = "videos" if c.of == "top-1" else "pairs of a video and a class"
        lines.append(
            f"calibration: ECE {c.ece:.2%} ({len(c.bins)} bins), NLL {c.nll:.4f}, Brier {c.brier:.4f} "
            f"over {c.items} {over}"
        )
    return lines


def _class_table(result: EvaluationResult) -> Table:
    """Each class's accuracy, and how its videos were classified where that is a single class."""
    table = Table(title="classes (rows: true, columns: predicted)", title_justify="left")
    table.add_column("")
    table.add_column("top-1", justify="right")
    table.add_column("of", justify="right")
    if result.confusion is not None:
        for i in range(len(result.labels)):
            table.add_column(str(i), justify="right")
    for i, (label, accuracy) in enumerate(zip(result.labels, result.per_class, strict=True)):
        counts: Sequence[int] = result.confusion[i] if result.confusion is not None else ()
        cells = [f"[bold]{n}[/]" if j == i and n else str(n) if n else "[dim].[/]" for j, n in enumerate(counts)]
        value = f"{accuracy.value:.1%}" if accuracy.total else "-"
        table.add_row(f"{i} {escape(label)}", value, str(accuracy.total), *cells)
    return table


def print_actions(result: ActionResult, *, title: str) -> None:
    console = Console()
    table = Table(title=escape(title), title_justify="left")
    for column in ("", "top-1", "top-5", "mAP", "of"):
        table.add_column(column, justify="left" if not column else "right")
    for task in (result.verb, result.noun, result.action):
        mean = task.mean_average_precision.value
        table.add_row(
            escape(task.name), f"{task.top1.value:.2%}", f"{task.top5.value:.2%}", f"{mean:.2%}", str(task.top1.total)
        )
    console.print(table)
    for line in _action_lines(result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    _print_skipped(console, result.skipped)


def _action_lines(result: ActionResult) -> list[str]:
    """Coverage, the pairs, the denominators of the means, many-shot classes."""
    lines = [
        f"{', '.join(dict.fromkeys(result.protocols))} on {result.split or 'all videos'}: {result.videos_asked} videos "
        f"asked for, {result.videos_decoded} decoded, {len(result.skipped)} skipped",
    ]
    if result.pairs == "seen":
        lines.append(
            f"actions are the {result.action.classes} pairs seen in {result.training_videos} training videos; "
            f"{result.videos_of_unseen_pairs} of {result.videos_decoded} videos have another one, which cannot be right"
        )
    else:
        lines.append(f"actions are all {result.action.classes} pairs")
    for task in (result.verb, result.noun, result.action):
        lines.append(_mean_line(f"mAP of {task.name}", task.mean_average_precision))
    lines += [line for task in (result.verb, result.noun, result.action) if (line := _many_shot_line(task))]
    if result.action.many_shot is None:
        lines.append("many-shot classes: not known without training videos")
    return lines


def _many_shot_line(task: TaskResult) -> str:
    many = task.many_shot
    if many is None:
        return ""
    of = "whose both classes have" if task.name == "action" else "of"
    name = f"many-shot {task.name} ({of} more than {many.more_than} training videos)"
    if many.mean_recall is None or many.mean_precision is None:
        return f"{name}: none of {many.classes} has a video here"
    return (
        f"{name}: mean recall {many.mean_recall:.2%}, mean precision {many.mean_precision:.2%} over "
        f"{many.classes_counted} of {many.classes} classes, those with a video here"
    )


def _mean_line(name: str, mean: MeanAveragePrecision) -> str:
    left_out = f"; {mean.classes_left_out} without a video left out" if mean.classes_left_out else ""
    return f"{name} {mean.value:.2%} over {mean.classes_counted} classes and {mean.rows} videos{left_out}"


def _print_skipped(console: Console, skipped: Sequence[Failure]) -> None:
    for failure in skipped:
        console.print(f"  skipped {failure.video}: {failure.message} ({failure.reason})", markup=False, highlight=False)
