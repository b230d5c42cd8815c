"""What is shown, computed from what was measured. Every claim was written down before it was measured.

All comparisons are of top-1 on the same videos. A claim is shown where all seeds agree in sign and the interval of the
mean excludes zero (`tenclip_findings.statistics`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenclip_findings.salience.config import BASELINE, MOST_SALIENT, MOTION_ENERGY
from tenclip_findings.salience.results import ArmResult, Results, StoppingResult
from tenclip_findings.statistics import BoundCheck, Comparison, Difference, Spread, check_bound, compare

# Parts of the baseline's operations that salient and adaptive prediction are to need at most.
SALIENT_PART, ADAPTIVE_PART = 1 / 3, 1 / 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """One claim, whether the data show it, and the figures that say so. scorer: "" where it is about none."""

    claim: str
    scorer: str
    verdict: str
    figures: str


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Which operations count: those of both networks, or those of the heavy one alone."""

    scoring: bool

    @property
    def words(self) -> str:
        return ", scoring included," if self.scoring else ", without scoring,"

    def part(self, results: Results, arms: Sequence[ArmResult]) -> Spread:
        """An arm's operations as a part of the baseline's."""
        baseline = results.arms("test", "uniform", num_clips=BASELINE)
        return Spread.of(
            [
                (a.gflops - (0.0 if self.scoring else a.scoring_gflops)) / b.gflops
                for a, b in zip(arms, baseline, strict=True)
            ]
        )


# A toy's sampler is a large part of a toy: before a network of the papers' size the second count is the one that holds.
COUNTED = (Counted(scoring=True), Counted(scoring=False))


def verdicts(results: Results) -> tuple[Line, ...]:
    """All claims, for every scorer."""
    found: list[Line] = []
    for scorer in results.scorers:
        found += [
            _better(results, scorer, "uniform", BASELINE, f"{BASELINE} uniform clips"),
            _better(results, scorer, "dense", 0, "all windows"),
            *(_cheaper(results, scorer, counted) for counted in COUNTED),
            *(_adaptive(results, scorer, counted) for counted in COUNTED),
            _trimmed(results, scorer),
            *_bounds(results, scorer),
            *([_learned(results, scorer)] if scorer != MOTION_ENERGY in results.scorers else []),
        ]
    return (*found, _temperature(results))


def compared(after: Sequence[ArmResult], before: Sequence[ArmResult]) -> Comparison:
    """The difference of top-1 of two arms, over seeds."""
    return compare([(a.right, b.right) for a, b in zip(after, before, strict=True)])


def points(difference: Difference) -> str:
    """A difference of shares in percentage points, with its interval.

    >>> points(Difference(mean=0.1, low=0.05, high=0.15, num_videos=9))
    '+10.0 points (95% interval +5.0 to +15.0)'
    """
    d = difference
    return f"{100 * d.mean:+.1f} points ({d.confidence:.0%} interval {100 * d.low:+.1f} to {100 * d.high:+.1f})"


def _better(results: Results, scorer: str, kind: str, num_clips: int, other: str) -> Line:
    after = results.arms("test", "salient", scorer, MOST_SALIENT)
    found = compared(after, results.arms("test", kind, num_clips=num_clips))  # type: ignore[arg-type]
    return Line(
        claim=f"{MOST_SALIENT} salient clips are right more often than {other}",
        scorer=scorer,
        verdict=found.verdict,
        figures=_signs(found),
    )


def _learned(results: Results, scorer: str) -> Line:
    after, before = (results.arms("test", "salient", s, MOST_SALIENT) for s in (scorer, MOTION_ENERGY))
    found = compared(after, before)
    return Line(
        claim=f"{MOST_SALIENT} clips by a learned sampler are right more often than {MOST_SALIENT} by motion energy",
        scorer=scorer,
        verdict=found.verdict,
        figures=_signs(found),
    )


def _cheaper(results: Results, scorer: str, counted: Counted) -> Line:
    """The largest number of clips that the budget allows is compared: it is chosen by cost, not by its accuracy."""
    claim = f"a third of the operations of {BASELINE} uniform clips{counted.words} is enough to be right as often"
    baseline = results.arms("test", "uniform", num_clips=BASELINE)

    def part(num_clips: int) -> Spread:
        return counted.part(results, results.arms("test", "salient", scorer, num_clips))

    within = [k for k in range(1, MOST_SALIENT + 1) if part(k).high <= SALIENT_PART]
    reached = _fewest(results, scorer, counted)
    if not within:
        figures = f"one clip takes {part(1).mean:.0%}. {reached}"
        return Line(claim=claim, scorer=scorer, verdict="not shown", figures=figures)
    clips = max(within)
    found = compared(results.arms("test", "salient", scorer, clips), baseline)
    return Line(
        claim=claim,
        scorer=scorer,
        verdict="shown" if found.excludes_a_loss else "not shown",
        figures=f"{clips} clips, {part(clips).mean:.0%} of the operations: {_signs(found)}. {reached}",
    )


def _fewest(results: Results, scorer: str, counted: Counted) -> str:
    """The fewest clips whose mean top-1 reaches the baseline's, in words."""
    baseline = results.arms("test", "uniform", num_clips=BASELINE)
    wanted = Spread.of([a.top1 for a in baseline]).mean
    for clips in range(1, MOST_SALIENT + 1):
        arms = results.arms("test", "salient", scorer, clips)
        if Spread.of([a.top1 for a in arms]).mean >= wanted:
            return (
                f"The fewest clips that reach the baseline's mean are {clips}, with "
                f"{counted.part(results, arms).mean:.0%} of its operations: {points(compared(arms, baseline).mean)}"
            )
    return f"No number of clips up to {MOST_SALIENT} reaches the baseline's mean"


def _adaptive(results: Results, scorer: str, counted: Counted) -> Line:
    """The strictest error bound that the budget allows is compared: it is chosen by cost, not by its accuracy."""
    baseline = results.arms("test", "uniform", num_clips=BASELINE)

    def part(error_bound: float) -> Spread:
        return counted.part(results, results.adaptive("test", scorer, error_bound))

    within = [b for b in results.error_bounds if part(b).high <= ADAPTIVE_PART]
    bound = min(within) if within else min(results.error_bounds, key=lambda b: part(b).mean)
    arms = results.adaptive("test", scorer, bound)
    found = compared(arms, baseline)
    clips = Spread.of([a.mean_clips for a in arms])
    return Line(
        claim=f"adaptive prediction at a fifth of the operations{counted.words} is right as often as {BASELINE} "
        "uniform clips",
        scorer=scorer,
        verdict="shown" if found.excludes_a_loss and within else "not shown",
        figures=f"{'' if within else 'no rule is that cheap, the cheapest is this: '}error bound {bound:.0%}, "
        f"{clips.mean:.1f} clips on average, {part(bound).mean:.0%} of the operations: {_signs(found)}",
    )


def _trimmed(results: Results, scorer: str) -> Line:
    after = results.arms("trimmed", "salient", scorer, MOST_SALIENT)
    found = compared(after, results.arms("trimmed", "uniform", num_clips=BASELINE))
    return Line(
        claim=f"on trimmed videos {MOST_SALIENT} salient clips lose nothing against {BASELINE} uniform, beyond noise",
        scorer=scorer,
        verdict="no loss is shown" if found.shows_no_loss else "a loss is shown",
        figures=f"{_signs(found)}; a loss of more than {max(0.0, -100 * found.mean.low):.1f} points is excluded",
    )


# From the best to the worst.
_BOUND_VERDICTS = ("holds", "within chance", "does not hold")


def _bounds(results: Results, scorer: str) -> list[Line]:
    """All error bounds together: the verdict is that of the worst."""
    return [
        Line(
            claim=f"adaptive prediction differs from all {MOST_SALIENT} clips in no more of the videos {where} than "
            "each error bound states",
            scorer=scorer,
            verdict=_bound_words(checks, carried=name != "test"),
            figures=f"of {checks[0].total} videos differ "
            + ", ".join(f"{c.observed:.1%} (bound {b:.0%}: {c.verdict})" for b, c in by_bound.items()),
        )
        for name, where in (("test", "of the kind it was calibrated on"), ("elsewhere", "of another site and length"))
        for by_bound in ({b: pooled_bound(results.rules(scorer, b), name) for b in results.error_bounds},)
        for checks in (tuple(by_bound.values()),)
    ]


def pooled_bound(rules: Sequence[StoppingResult], name: str) -> BoundCheck:
    """The videos of all seeds against the bound that all their rules state."""
    different, total = (sum(r.different[name][i] for r in rules) for i in (0, 1))
    return check_bound(rules[0].error_bound, different, total)


def _bound_words(checks: Sequence[BoundCheck], *, carried: bool) -> str:
    worst = max(checks, key=lambda c: _BOUND_VERDICTS.index(c.verdict)).verdict
    if worst == "does not hold":
        failed = sum(c.verdict == worst for c in checks)
        which = "" if failed == len(checks) else f" for {failed} of {len(checks)} bounds"
        return f"the bound does not carry over{which}" if carried else f"does not hold{which}"
    return {"holds": "holds", "within chance": "exceeded, within chance"}[worst]


def _temperature(results: Results) -> Line:
    pairs = [s.temperature.ece["test"] for s in results.seeds]
    before, after = (Spread.of([p[i] for p in pairs]) for i in (0, 1))
    temperature = Spread.of([s.temperature.temperature for s in results.seeds])
    refused = sum(bool(s.temperature.refused) for s in results.seeds)
    return Line(
        claim="one temperature, fitted on calibration videos, lowers the expected calibration error of test videos",
        scorer="",
        verdict="shown" if not refused and all(b > a for b, a in pairs) else "not shown",
        figures=f"{before.mean:.3f} before, {after.mean:.3f} after, in each seed "
        + ", ".join(f"{b:.3f} to {a:.3f}" for b, a in pairs)
        + f"; temperature {temperature.mean:.2f}"
        + (f"; refused for {refused} of {len(pairs)} seeds" if refused else ""),
    )


def _signs(found: Comparison) -> str:
    seeds = ", ".join(f"{100 * d.mean:+.1f}" for d in found.seeds)
    return f"{points(found.mean)}; seeds {seeds}"
