"""Temperature scaling (Guo et al., 2017): one number that makes a video's scores mean what they say.

It is fitted on half of the videos and judged on the other half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_training.evaluation.calibration import calibrate
from tenclip_video.bundle import ScoreCalibration

MIN_VIDEOS = 20
_LOG_RANGE = (-3.0, 3.0)  # temperatures from 1/20 to 20


def fit_temperature(scores: NDArray[np.float32], labels: NDArray[np.int64], *, protocol: str) -> ScoreCalibration:
    """The temperature that gives scores float32 [N,K] of videos the least negative log likelihood of labels [N].

    Every second video is fitted on; `ece_before` and `ece_after` are of the others. protocol: that of the scores.
    Raises InvalidRequest for fewer than 20 videos, for scores that do not sum to 1, and where the calibration error of
    the others does not become smaller.
    """
    if len(scores) < MIN_VIDEOS:
        raise InvalidRequest(
            f"{len(scores)} held-out videos are too few for a temperature: at least {MIN_VIDEOS} are needed"
        )
    truth = np.zeros(scores.shape, np.bool_)
    truth[np.arange(len(labels)), labels] = True
    fitted, judged = slice(0, None, 2), slice(1, None, 2)
    before = calibrate(scores[judged], truth[judged], "softmax")
    if before is None:
        raise InvalidRequest("the scores of videos do not sum to 1, so no temperature makes them calibrated")
    temperature = _least(scores[fitted], labels[fitted])
    made = ScoreCalibration(temperature=temperature, protocol=protocol, num_videos=0, ece_before=0, ece_after=0)
    after = calibrate(made.apply(scores[judged]), truth[judged], "softmax")
    assert after is not None, "scaled scores sum to 1"
    if after.ece >= before.ece:
        raise InvalidRequest(
            f"temperature {temperature:.2f}, fitted on {len(scores[fitted])} videos, does not lower the calibration "
            f"error of {len(scores[judged])} others: {before.ece:.3f} before, {after.ece:.3f} after"
        )
    return ScoreCalibration(
        temperature=temperature,
        protocol=protocol,
        num_videos=len(scores[fitted]),
        ece_before=before.ece,
        ece_after=after.ece,
    )


def _least(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    from scipy.optimize import minimize_scalar  # slow to import

    logs = np.log(np.maximum(scores.astype(np.float64), np.finfo(np.float32).tiny))

    def nll(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        of_label = scaled[np.arange(len(labels)), labels]
        return float((np.log(np.exp(scaled).sum(axis=1)) - of_label).mean())

    return float(np.exp(minimize_scalar(nll, bounds=_LOG_RANGE, method="bounded").x))
