"""Scores and results that nobody measured, for tests of what is computed from them."""

from __future__ import annotations

import math

import numpy as np

from tenclip_findings.salience.config import MOST_SALIENT, UNIFORM
from tenclip_findings.salience.results import (
    ArmKind,
    ArmResult,
    Results,
    ScorerResult,
    SecondsResult,
    SeedResult,
    SetResult,
    StoppingResult,
    TemperatureResult,
)
from tenclip_findings.salience.scoring import ScoredSet, ScoredVideo

SCORERS = ("compressed, rank", "motion energy")
VIDEOS = 120
BOUNDS = {0.05: 4.0, 0.2: 1.0}  # adaptive prediction by each takes so many times the clips


def scored_video(
    windows: list[list[float]], *, label: int = 0, interval: tuple[float, float] | None = None
) -> ScoredVideo:
    """One whose windows last a second each, half a second apart; uniform clips are its first window."""
    scores = np.array(windows, np.float32)
    starts = 0.5 * np.arange(len(scores))
    return ScoredVideo(
        label=label,
        interval=interval,
        windows=scores,
        seconds=np.stack([starts, starts + 1], axis=1),
        uniform={n: np.repeat(scores[:1], n, axis=0) for n in (1, 10)},
    )


def scored_set(*videos: ScoredVideo) -> ScoredSet:
    return ScoredSet(videos=videos)


def results(
    *,
    seeds: int = 3,
    uniform: float = 0.5,
    dense: float = 0.5,
    salient: float = 0.75,
    adaptive: float = 0.75,
    adaptive_clips: float = 1.5,
    different: tuple[int, int] = (2, 30),
    scoring_gflops: float = 0.1,
) -> Results:
    """Results with these accuracies; one clip of the heavy network takes a billion multiply-adds.

    adaptive_clips: of the loosest of `BOUNDS`. different: by it, of `VIDEOS` videos of the test set, and of
    the set from elsewhere.
    """
    return Results(
        command="python -m tenclip_findings.salience --seeds 3",
        machine="a made-up machine",
        seeds=tuple(
            _seed(s, uniform, dense, salient, adaptive, adaptive_clips, different, scoring_gflops)
            for s in range(1, seeds + 1)
        ),
    )


def _seed(
    seed: int,
    uniform: float,
    dense: float,
    salient: float,
    adaptive: float,
    adaptive_clips: float,
    different: tuple[int, int],
    scoring: float,
) -> SeedResult:
    difficulty = np.random.default_rng(seed).permutation(VIDEOS) / VIDEOS

    def arm(
        kind: ArmKind, top1: float, clips: float, scorer: str = "", num_clips: int = 0, error_bound: float = 0.0
    ) -> ArmResult:
        of_scorer = scoring if scorer == SCORERS[0] else 0.0
        return ArmResult(
            kind=kind,
            scorer=scorer,
            num_clips=num_clips,
            error_bound=error_bound,
            correct=tuple((difficulty < top1).astype(int).tolist()),
            clips=tuple(math.floor(clips) + (i % 2 if clips % 1 else 0) for i in range(VIDEOS)),
            gflops=clips + of_scorer,
            scoring_gflops=of_scorer,
            windows_with_action=0.5 if num_clips and kind != "uniform" else None,
        )

    some = range(1, MOST_SALIENT + 1)
    arms = [arm("uniform", uniform, n, num_clips=n) for n in UNIFORM]
    arms.append(arm("dense", dense, 40))
    for kind in ("oracle: overlap", "oracle: true class"):
        arms += [arm(kind, 0.9, n, num_clips=n) for n in some]
    for scorer in SCORERS:
        arms += [arm("salient", salient, n, scorer, n) for n in some]
        arms += [arm("adaptive", adaptive, times * adaptive_clips, scorer, 0, b) for b, times in BOUNDS.items()]
    sets = tuple(
        SetResult(name=name, videos=VIDEOS, windows=40.0, seconds=12.0, arms=tuple(arms))
        for name in ("calibration", "test", "trimmed", "elsewhere")
    )
    counts = {"calibration": (1, VIDEOS), "trimmed": (0, VIDEOS)}
    counts |= {"test": (different[0], VIDEOS), "elsewhere": (different[1], VIDEOS)}
    return SeedResult(
        seed=seed,
        quick=False,
        classes=("move_left", "move_right"),
        architecture="r2plus1d_10",
        clip_macs=1_000_000_000,
        trimmed_val_top1=0.9,
        sets=sets,
        scorers=tuple(ScorerResult(name=s, macs_per_window=0) for s in SCORERS),
        stopping=tuple(
            StoppingResult(
                scorer=s,
                threshold=0.5,
                error_bound=bound,
                confidence=0.95,
                calibration_videos=VIDEOS,
                mean_clips=times * adaptive_clips,
                different=counts if bound == max(BOUNDS) else dict.fromkeys(counts, (0, VIDEOS)),
            )
            for s in SCORERS
            for bound, times in BOUNDS.items()
        ),
        temperature=TemperatureResult(temperature=1.5, videos=60, ece={s.name: (0.2, 0.1) for s in sets}),
        seconds=(
            SecondsResult(arm="uniform, 10", scoring=0.0, decoding=0.02, network=0.08, num_videos=20),
            SecondsResult(arm="salient, 3", scoring=0.02, decoding=0.006, network=0.024, num_videos=20),
        ),
        served={
            "videos": 3,
            "same_clips": 3,
            "same_stops": 3,
            "largest_difference": 1e-6,
            "scorer": "compressed-rank",
            "agrees": True,
        },
        stage_seconds={"videos": 1.0},
    )
