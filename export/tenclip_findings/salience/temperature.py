"""Temperature scaling of video scores (Guo et al., "On Calibration of Modern Neural Networks", 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tenclip_training.evaluation.calibration import calibrate
from tenclip_video.bundle import ScoreCalibration

_RANGE = (0.05, 20.0)


def fit_temperature(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature of the least negative log likelihood. probabilities: [N,K]; truth: [N], classes."""

    def loss(log_temperature: float) -> float:
        scaled = rescale(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(scaled[np.arange(len(truth)), truth].clip(1e-12)).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(_RANGE)), method="bounded")
    return float(np.exp(found.x))


def rescale(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Scores at another temperature: float32 [N,K]."""
    scaling = ScoreCalibration(temperature=temperature, protocol="", num_videos=0, ece_before=0.0, ece_after=0.0)
    return scaling.apply(probabilities)


def expected_error(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Expected calibration error of the best class, over 15 bins."""
    found = calibrate(probabilities, np.eye(probabilities.shape[1], dtype=bool)[truth], "softmax")
    assert found is not None, "each video has one label, and its scores sum to one"
    return found.ece
