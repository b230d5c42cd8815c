from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_training.sampler.temperature import fit_temperature
from tenclip_video.protocols import softmax


def drawn(count: int, *, sharpened: float, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores that are right as often as they say, raised to the power of `sharpened`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 4)).astype(np.float32)
    labels = np.array([rng.choice(4, p=p / p.sum()) for p in softmax(logits).astype(np.float64)])
    return softmax(sharpened * logits), labels


@pytest.mark.parametrize("sharpened", [3.0, 0.4])
def test_the_temperature_undoes_what_was_done_to_the_scores(sharpened: float) -> None:
    scores, labels = drawn(2000, sharpened=sharpened)
    found = fit_temperature(scores, labels, protocol="salient-clips")
    assert found.temperature == pytest.approx(sharpened, rel=0.15)
    assert found.num_videos == 1000
    assert found.ece_after < 0.5 * found.ece_before
    assert found.protocol == "salient-clips"
    np.testing.assert_array_equal(found.apply(scores).argmax(axis=1), scores.argmax(axis=1))


def test_what_cannot_be_calibrated() -> None:
    scores, labels = drawn(19, sharpened=1.0)
    with pytest.raises(InvalidRequest, match="19 held-out videos are too few for a temperature: at least 20"):
        fit_temperature(scores, labels, protocol="p")
    scores, labels = drawn(40, sharpened=1.0)
    with pytest.raises(InvalidRequest, match="do not sum to 1"):
        fit_temperature((scores / 2).astype(np.float32), labels, protocol="p")
    right_half = np.eye(4, dtype=np.float32)[labels]
    right_half[1::2] = 0.25
    with pytest.raises(InvalidRequest, match="does not lower the calibration error of 20 others"):
        fit_temperature(right_half, labels, protocol="p")


def test_scores_of_zero_are_no_infinity() -> None:
    """A network that is always certain, and wrong in every third video."""
    scores = np.tile(np.array([1, 0], np.float32), (60, 1))
    labels = (np.arange(60) % 3 == 0).astype(np.int64)
    found = fit_temperature(scores, labels, protocol="p")
    assert np.isfinite(found.temperature)
    assert found.ece_after < found.ece_before
