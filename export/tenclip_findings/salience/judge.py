"""All arms on the scored sets of one seed, with what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_findings.salience import arms
from tenclip_findings.salience.arms import Ints, Outcome
from tenclip_findings.salience.config import BASELINE, MOST_SALIENT
from tenclip_findings.salience.results import ArmKind, ArmResult, SetResult, StoppingResult, TemperatureResult
from tenclip_findings.salience.scoring import Salience, ScoredSet
from tenclip_training.evaluation.calibration import calibrate
from tenclip_training.sampler.temperature import fit_temperature
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.protocols import DEFAULT_PROTOCOL
from tenclip_video.salience import ERROR_BOUNDS, StoppingRule, calibrate_stopping

# Of the stopping rules: at most so many videos differ from all clips, with this confidence. Stated before anything was
# measured.
CONFIDENCE = 0.95
QUICK_ERROR_BOUNDS = (0.5, 0.6)  # what a handful of videos can show
CALIBRATION_SET = "calibration"
# The rules of a scorer, by their error bounds.
Rules = Mapping[float, StoppingRule]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judge:
    """scored: by set. salience: by scorer, then by set. macs: multiply-adds of a window, by scorer."""

    scored: Mapping[str, ScoredSet]
    salience: Mapping[str, Mapping[str, Salience]]
    clip_macs: int
    macs: Mapping[str, int]
    error_bounds: tuple[float, ...] = ERROR_BOUNDS

    def orders(self, scorer: str, name: str) -> list[Ints]:
        """The windows of each video of a set that are taken, the most salient first."""
        return arms.salience_orders(self.salience[scorer][name], MOST_SALIENT)

    def rules(self) -> dict[str, Rules]:
        """The stopping rules of each scorer, calibrated on the calibration videos."""
        return {scorer: self._rules(scorer) for scorer in self.salience}

    def _rules(self, scorer: str) -> Rules:
        videos = self.scored[CALIBRATION_SET].videos
        clips = [v.windows[o] for v, o in zip(videos, self.orders(scorer, CALIBRATION_SET), strict=True)]
        return {
            bound: calibrate_stopping(clips, error_bound=bound, confidence=CONFIDENCE, max_clips=MOST_SALIENT)
            for bound in self.error_bounds
        }

    def judge(self, name: str, rules: Mapping[str, Rules]) -> SetResult:
        """Every arm on the set `name`."""
        scored = self.scored[name]
        found = [
            *(self._result(name, "uniform", arms.uniform(scored, n), num_clips=n) for n in scored.videos[0].uniform),
            self._result(name, "dense", arms.dense(scored)),
            *self._in_order(name, "oracle: overlap", arms.overlap_orders(scored)),
            *self._in_order(name, "oracle: true class", arms.true_score_orders(scored)),
        ]
        for scorer in self.salience:
            orders = self.orders(scorer, name)
            found += self._in_order(name, "salient", orders, scorer=scorer)
            for bound, rule in rules[scorer].items():
                outcome = arms.adaptive(scored, orders, rule)
                found.append(self._result(name, "adaptive", outcome, scorer=scorer, error_bound=bound))
        ends = [v.seconds[-1, 1] for v in scored.videos]
        return SetResult(
            name=name,
            videos=len(scored.videos),
            windows=float(scored.num_windows.mean()),
            seconds=float(np.mean(ends)),
            arms=tuple(found),
        )

    def _in_order(self, name: str, kind: ArmKind, orders: Sequence[Ints], *, scorer: str = "") -> list[ArmResult]:
        scored = self.scored[name]
        return [
            self._result(
                name,
                kind,
                arms.salient(scored, orders, n),
                scorer=scorer,
                num_clips=n,
                action=arms.windows_with_action(scored, orders, n),
            )
            for n in range(1, MOST_SALIENT + 1)
        ]

    def _result(
        self,
        name: str,
        kind: ArmKind,
        outcome: Outcome,
        *,
        scorer: str = "",
        num_clips: int = 0,
        error_bound: float = 0.0,
        action: float | None = None,
    ) -> ArmResult:
        scored = self.scored[name]
        scoring = self.macs[scorer] * float(scored.num_windows.mean()) / 1e9 if scorer else 0.0
        return ArmResult(
            kind=kind,
            scorer=scorer,
            num_clips=num_clips,
            error_bound=error_bound,
            correct=tuple(outcome.correct(arms.truth_of(scored)).astype(int).tolist()),
            clips=tuple(outcome.clips.tolist()),
            gflops=self.clip_macs * float(outcome.clips.mean()) / 1e9 + scoring,
            scoring_gflops=scoring,
            windows_with_action=action,
        )

    def stopping(self, scorer: str, rule: StoppingRule) -> StoppingResult:
        """How often the rule gives another class than all clips."""
        different: dict[str, tuple[int, int]] = {}
        for name, scored in self.scored.items():
            orders = self.orders(scorer, name)
            early, whole = arms.adaptive(scored, orders, rule), arms.salient(scored, orders, MOST_SALIENT)
            different[name] = int((early.predicted != whole.predicted).sum()), len(scored.videos)
        return StoppingResult(
            scorer=scorer,
            threshold=rule.threshold,
            error_bound=rule.error_bound,
            confidence=rule.confidence,
            calibration_videos=rule.num_videos,
            mean_clips=rule.mean_clips,
            different=different,
        )

    def temperature(self) -> TemperatureResult:
        """Fitted on the calibration videos, for the scores of the baseline; errors on the sets of its kind."""
        outcomes = {name: arms.uniform(scored, BASELINE) for name, scored in self.scored.items()}
        truths = {name: arms.truth_of(scored) for name, scored in self.scored.items()}
        fitted = CALIBRATION_SET
        refused = ""
        try:
            scaling = fit_temperature(outcomes[fitted].probabilities, truths[fitted], protocol=DEFAULT_PROTOCOL)
        except InvalidRequest as err:
            refused = err.message
            scaling = ScoreCalibration(
                temperature=1.0, protocol=DEFAULT_PROTOCOL, num_videos=0, ece_before=0.0, ece_after=0.0
            )
        ece = {
            name: (
                _expected_error(outcome.probabilities, truths[name]),
                _expected_error(scaling.apply(outcome.probabilities), truths[name]),
            )
            for name, outcome in outcomes.items()
        }
        return TemperatureResult(temperature=scaling.temperature, videos=scaling.num_videos, ece=ece, refused=refused)


def _expected_error(probabilities: NDArray[np.float32], truth: Ints) -> float:
    """Expected calibration error of the best class."""
    found = calibrate(probabilities, np.eye(probabilities.shape[1], dtype=bool)[truth], "softmax")
    assert found is not None, "each video has one label, and its scores sum to one"
    return found.ece
