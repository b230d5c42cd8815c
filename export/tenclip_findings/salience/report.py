"""The page: verdicts, tables and the chart, written from results.json alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tenclip_findings.salience.config import BASELINE, MOST_SALIENT, UNIFORM
from tenclip_findings.salience.results import ArmKind, ArmResult, Results
from tenclip_findings.salience.verdicts import compared, points, pooled_bound, verdicts
from tenclip_findings.statistics import Spread

CHART = "salience-proof.svg"
# IG-65M, table 2.
PAPER_NETWORK, PAPER_GFLOPS = "R(2+1)D-34 on 32 frames", 152.0
SHOWN_CLIPS = (1, 2, 3, 5, MOST_SALIENT)


def page(results: Results) -> str:
    """The page in Markdown."""
    first, seeds = results.seeds[0], results.seeds
    test = first.set("test")
    parts = [
        "# Salient clips: what is shown",
        "This page is written by `make salience` from what it measured; nothing here is typed by hand.",
        *(["**A quick run: its figures mean nothing.**"] if results.quick else []),
        f"Command: `{results.command}`. Machine: {results.machine}. Seeds: {', '.join(str(s.seed) for s in seeds)}.",
        f"The heavy network is {first.architecture} ({first.clip_macs / 1e9:.3f} billion multiply-adds a clip), "
        f"trained on trimmed generated videos of {len(first.classes)} classes; on trimmed validation videos it has a "
        f"top-1 of {_share([s.trimmed_val_top1 for s in seeds])}. It is judged on {test.videos} untrimmed test videos "
        f"a seed, {test.seconds:.1f} s long on average, of which the action fills a tenth to a fifth. Candidates are "
        f"windows of a clip's length, half a length apart: {test.windows:.0f} a video.",
        "Top-1 is the mean over seeds, with the lowest and the highest in brackets. Operations are multiply-adds of "
        "convolutions and matrix products of one video, scoring included, as a part of those of ten uniform clips. "
        "Intervals are 95%, from a bootstrap over seeds and the videos of each.",
        _scoring(results),
        "## Verdicts",
        _verdict_table(results),
        "## Untrimmed videos",
        f"![Top-1 against operations]({CHART})",
        _arm_table(results, "test", UNIFORM, SHOWN_CLIPS),
        "## Scorers",
        "Spearman's rank correlation with the heavy network's score of the true class, over the windows of a video: "
        "mean over half of the validation videos, by which no sampler was chosen.",
        _scorer_table(results),
        "## Untrimmed videos of another site, twice as long",
        _arm_table(results, "elsewhere", (BASELINE,), (1, 3, MOST_SALIENT)),
        "## Trimmed videos",
        _arm_table(results, "trimmed", (1, 3, BASELINE), (1, 3, MOST_SALIENT)),
        "## Stopping early",
        "Each rule is calibrated on the calibration videos for the error bound that it states, with 95% confidence.",
        _stopping_table(results),
        "## Seconds",
        f"Mean seconds of one prediction on {seeds[0].seconds[0].num_videos} test videos a seed, one after another, "
        "decoding included. Scoring reads the video by itself. " + _load(results),
        _seconds_table(results),
        "## Calibration",
        "Temperature scaling of the scores of ten uniform clips, fitted on the untrimmed calibration videos.",
        _calibration_table(results),
        "## Through a server",
        _served(results),
    ]
    return "\n\n".join(parts) + "\n"


def _scoring(results: Results) -> str:
    """How much of the operations is scoring, here and before a network of the paper's size."""
    test, scorers = results.seeds[0].set("test"), results.seeds[0].scorers
    most = max(s.macs_per_window for s in scorers) * test.windows / 1e9
    ten = BASELINE * results.seeds[0].clip_macs / 1e9
    return (
        f"A learned sampler takes {most:.2f} billion multiply-adds for all windows of a video, {most / ten:.0%} of ten "
        f"clips of this small network. Before {PAPER_NETWORK} ({PAPER_GFLOPS:.0f} billion a clip) the same would be "
        f"{most / (BASELINE * PAPER_GFLOPS):.2%}: so claims about operations are given with and without scoring."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is on the left, the others on the right.

    >>> print(table(["arm", "top-1"], [["dense", "50%"]]))
    | arm | top-1 |
    |---|---:|
    | dense | 50% |
    """
    lines = [header, *rows]
    marks = "|".join(["---", *["---:"] * (len(header) - 1)])
    written = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([written[0], f"|{marks}|", *written[1:]])


def _verdict_table(results: Results) -> str:
    header = "| claim | scorer | verdict | figures |\n|---|---|---|---|\n"
    return header + "\n".join(f"| {v.claim} | {v.scorer} | **{v.verdict}** | {v.figures} |" for v in verdicts(results))


def _scorer_table(results: Results) -> str:
    rows = []
    for name in results.scorers:
        scorers = [s.scorer(name) for s in results.seeds]
        correlations = [s.metrics["rank_correlation"] for s in scorers if "rank_correlation" in s.metrics]
        seconds = Spread.of([s.training_seconds for s in scorers]).mean
        rows.append(
            [
                name,
                f"{scorers[0].macs_per_window / 1e6:.1f}",
                f"{seconds:.0f}" if seconds else "",
                _number(correlations) if correlations else "",
            ]
        )
    return table(["scorer", "multiply-adds a window, in millions", "training, s", "rank correlation"], rows)


def _arm_table(results: Results, set_name: str, uniform: Sequence[int], salient: Sequence[int]) -> str:
    baseline = results.arms(set_name, "uniform", num_clips=BASELINE)
    rows = []

    def add(name: str, kind: ArmKind, scorer: str = "", num_clips: int = 0, error_bound: float = 0.0) -> None:
        arms = results.arms(set_name, kind, scorer, num_clips, error_bound)
        rows.append(_arm_row(name, arms, baseline))

    for n in uniform:
        add(f"uniform, {n}", "uniform", num_clips=n)
    add("all windows", "dense")
    for scorer in results.scorers:
        for n in salient:
            add(f"salient ({scorer}), {n}", "salient", scorer, n)
        for bound in results.error_bounds:
            add(f"adaptive ({scorer}), {bound:.0%}", "adaptive", scorer, error_bound=bound)
    for n in (1, MOST_SALIENT):
        add(f"oracle, windows of the action, {n}", "oracle: overlap", num_clips=n)
        add(f"oracle, score of the true class, {n}", "oracle: true class", num_clips=n)
    header = ["clips", "run", "top-1", "difference to ten uniform clips", "operations", "in the action"]
    return table(header, rows)


def _arm_row(name: str, arms: Sequence[ArmResult], baseline: Sequence[ArmResult]) -> list[str]:
    part = Spread.of([a.gflops / b.gflops for a, b in zip(arms, baseline, strict=True)])
    actions = [a.windows_with_action for a in arms if a.windows_with_action is not None]
    same = all(a == b for a, b in zip(arms, baseline, strict=True))
    return [
        name,
        f"{Spread.of([a.mean_clips for a in arms]).mean:.1f}",
        _share([a.top1 for a in arms]),
        "" if same else points(compared(arms, baseline).mean).replace("95% interval ", ""),
        f"{part.mean:.0%}",
        f"{Spread.of(actions).mean:.0%}" if actions else "",
    ]


def _stopping_table(results: Results) -> str:
    rows = []
    for scorer in results.scorers:
        for name, words in (("test", "same kind"), ("elsewhere", "another site"), ("trimmed", "trimmed")):
            for bound in results.error_bounds:
                check = pooled_bound(results.rules(scorer, bound), name)
                clips = Spread.of([a.mean_clips for a in results.adaptive(name, scorer, bound)])
                rows.append(
                    [
                        scorer,
                        words,
                        f"{bound:.0%}",
                        f"{check.observed:.1%} ({check.different} of {check.total})",
                        f"{check.low:.1%} to {check.high:.1%}",
                        check.verdict,
                        f"{clips.mean:.1f} of {MOST_SALIENT}",
                    ]
                )
    return table(["scorer", "videos", "bound", "differ from all clips", "interval", "verdict", "clips"], rows)


def _load(results: Results) -> str:
    """How busy the machine was while seconds were measured."""
    load = Spread.of([s.seconds[0].load for s in results.seeds]).mean
    busy = (
        " Other work ran beside it: compare the parts of a row, and rows with each other, no more." if load > 3 else ""
    )
    return f"The load of the machine was {load:.1f} meanwhile.{busy}"


def _seconds_table(results: Results) -> str:
    rows = []
    baseline = Spread.of([s.seconds[0].total for s in results.seeds]).mean
    for i, first in enumerate(results.seeds[0].seconds):
        of_seeds = [s.seconds[i] for s in results.seeds]
        scoring, decoding, network = (
            Spread.of([getattr(s, part) for s in of_seeds]).mean for part in ("scoring", "decoding", "network")
        )
        total = scoring + decoding + network
        rows.append(
            [
                first.arm,
                *(f"{1000 * part:.1f}" for part in (scoring, decoding, network, total)),
                f"{scoring / total:.0%}",
                f"{total / baseline:.0%}",
            ]
        )
    return table(
        ["clips", "scoring, ms", "decoding, ms", "network, ms", "all, ms", "scoring's share", "of ten uniform clips"],
        rows,
    )


def _calibration_table(results: Results) -> str:
    rows = []
    for name, words in (("test", "same kind"), ("elsewhere", "another site"), ("trimmed", "trimmed")):
        pairs = [s.temperature.ece[name] for s in results.seeds]
        rows.append([words, *(_number([p[i] for p in pairs]) for i in (0, 1))])
    return table(["videos", "expected calibration error before", "after"], rows)


def _served(results: Results) -> str:
    lines = []
    for seed in results.seeds:
        s = seed.served
        lines.append(
            f"- Seed {seed.seed}: `predict` with salient clips ({s['scorer']}) gave the clips of the arithmetic in "
            f"{s['same_clips']} of {s['videos']} videos, with probabilities that differ by at most "
            f"{s['largest_difference']:.1e}; with `adaptive` it ran as many, by each of its rules, in "
            f"{s['same_stops']} of {s['videos']}."
        )
    return "\n".join(lines)


def _share(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    if spread.num_seeds == 1:
        return f"{spread.mean:.1%}"
    return f"{spread.mean:.1%} ({spread.low:.1%} to {spread.high:.1%})"


def _number(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{spread.mean:.3f} ({spread.low:.3f} to {spread.high:.3f})"
