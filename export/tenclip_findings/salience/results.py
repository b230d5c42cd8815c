"""What one seed found, as plain values that results.json holds.

Every arm keeps what it made of each video, so that verdicts are computed from results.json alone. N videos.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tenclip_data.atomic import write_text

ArmKind = Literal["uniform", "dense", "salient", "adaptive", "oracle: overlap", "oracle: true class"]


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One arm on the N videos of a set. correct: 1 or 0 of each. clips: that the heavy network ran, of each.

    scorer: "" where none chooses. num_clips: asked for; 0 where the arm decides. error_bound: of the stopping rule of
    adaptive prediction, else 0. gflops: multiply-adds, in billions, of
    one video, the mean over videos, scoring included; scoring_gflops: the scorer's part of them.
    windows_with_action: of the windows taken, the mean share of which half is action; None where it is not counted.
    """

    kind: ArmKind
    scorer: str = ""
    num_clips: int = 0
    error_bound: float = 0.0
    correct: tuple[int, ...]
    clips: tuple[int, ...]
    gflops: float
    scoring_gflops: float = 0.0
    windows_with_action: float | None = None

    @property
    def top1(self) -> float:
        return float(np.mean(self.correct))

    @property
    def mean_clips(self) -> float:
        return float(np.mean(self.clips))

    @property
    def right(self) -> NDArray[np.int64]:
        """[N], 1 or 0."""
        return np.array(self.correct)


@dataclass(frozen=True, kw_only=True)
class SetResult:
    """All arms on one set of videos. windows: mean number of candidate windows of a video."""

    name: str
    videos: int
    windows: float
    seconds: float
    arms: tuple[ArmResult, ...]

    def arm(self, kind: ArmKind, scorer: str = "", num_clips: int = 0, error_bound: float = 0.0) -> ArmResult:
        """Raises KeyError where there is no such arm."""
        for arm in self.arms:
            if (arm.kind, arm.scorer, arm.num_clips, arm.error_bound) == (kind, scorer, num_clips, error_bound):
                return arm
        raise KeyError(f"{self.name}: no arm {kind} {scorer} {num_clips} {error_bound:g}")


@dataclass(frozen=True, kw_only=True)
class ScorerResult:
    """macs_per_window: multiply-adds of its network. training_seconds: 0 for one that learns nothing.

    metrics: on videos that it did not learn from, see `tenclip_training.sampler.held_out`.
    """

    name: str
    macs_per_window: int
    training_seconds: float = 0.0
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StoppingResult:
    """A stopping rule and how often it differs from all clips, on each set: name -> (different, videos).

    A scorer has one for each error bound.
    """

    scorer: str
    threshold: float
    error_bound: float
    confidence: float
    calibration_videos: int
    mean_clips: float
    different: dict[str, tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class TemperatureResult:
    """Fitted on the calibration videos with the baseline's scores. ece: set -> (before, after).

    refused: why there is none; the temperature is 1 then.
    """

    temperature: float
    videos: int
    ece: dict[str, tuple[float, float]]
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class SecondsResult:
    """Mean seconds of one prediction of a video: scoring its windows (decoding for that included), decoding the clips
    that are taken, and the heavy network. load: of the machine meanwhile, processes that run or wait to.
    """

    arm: str
    scoring: float
    decoding: float
    network: float
    num_videos: int
    load: float = 0.0

    @property
    def total(self) -> float:
        return self.scoring + self.decoding + self.network


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """All of one seed. clip_macs: multiply-adds of one clip of the heavy network."""

    seed: int
    quick: bool
    classes: tuple[str, ...]
    architecture: str
    clip_macs: int
    trimmed_val_top1: float
    sets: tuple[SetResult, ...]
    scorers: tuple[ScorerResult, ...]
    stopping: tuple[StoppingResult, ...]
    temperature: TemperatureResult
    seconds: tuple[SecondsResult, ...]
    served: dict[str, Any]
    stage_seconds: dict[str, float]

    def set(self, name: str) -> SetResult:
        return next(s for s in self.sets if s.name == name)

    def scorer(self, name: str) -> ScorerResult:
        return next(s for s in self.scorers if s.name == name)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Raises KeyError or TypeError for anything that is not what `to_dict` of `Results` writes."""
        values = dict(values)
        values["classes"] = tuple(values["classes"])
        values["sets"] = tuple(_set(s) for s in values["sets"])
        for key, kind in (("scorers", ScorerResult), ("stopping", StoppingResult), ("seconds", SecondsResult)):
            values[key] = tuple(kind(**v) for v in values[key])
        values["temperature"] = TemperatureResult(**values["temperature"])
        return cls(**values)


def _set(values: dict[str, Any]) -> SetResult:
    arms = tuple(
        ArmResult(**{**arm, "correct": tuple(arm["correct"]), "clips": tuple(arm["clips"])}) for arm in values["arms"]
    )
    return SetResult(**{**values, "arms": arms})


@dataclass(frozen=True, kw_only=True)
class Results:
    """All seeds. command: what was run; machine: where, in words."""

    command: str
    machine: str
    seeds: tuple[SeedResult, ...]

    @property
    def quick(self) -> bool:
        return any(s.quick for s in self.seeds)

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the scorers, in their order."""
        return tuple(s.name for s in self.seeds[0].scorers)

    @property
    def error_bounds(self) -> tuple[float, ...]:
        """Of adaptive prediction, in their order."""
        return tuple(dict.fromkeys(r.error_bound for r in self.seeds[0].stopping))

    def arms(
        self, set_name: str, kind: ArmKind, scorer: str = "", num_clips: int = 0, error_bound: float = 0.0
    ) -> tuple[ArmResult, ...]:
        """The arm of each seed."""
        return tuple(s.set(set_name).arm(kind, scorer, num_clips, error_bound) for s in self.seeds)

    def adaptive(self, set_name: str, scorer: str, error_bound: float) -> tuple[ArmResult, ...]:
        """Adaptive prediction of each seed, by the rule of this bound."""
        return self.arms(set_name, "adaptive", scorer, error_bound=error_bound)

    def rules(self, scorer: str, error_bound: float) -> tuple[StoppingResult, ...]:
        """The stopping rule of each seed."""
        return tuple(
            next(r for r in s.stopping if (r.scorer, r.error_bound) == (scorer, error_bound)) for s in self.seeds
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        seeds = tuple(SeedResult.from_dict(s) for s in values["seeds"])
        return cls(command=values["command"], machine=values["machine"], seeds=seeds)


def write_seed(path: Path, result: SeedResult) -> None:
    write_text(path, json.dumps(dataclasses.asdict(result), allow_nan=False) + "\n")
