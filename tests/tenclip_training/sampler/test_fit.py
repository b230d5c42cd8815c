from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tenclip_api.errors import DatasetError, TrainingDiverged
from tenclip_training.sampler.fit import Epoch, FitConfig, FitVideo, fit, salience_of
from tenclip_training.sampler.ranks import mean_agreement, mean_rank_correlation

from .helpers import bright_video, small_spec
from .test_networks import KINDS

SPEC = small_spec()
TRAIN = [bright_video(SPEC, seed, label=seed % 2) for seed in range(16)]
SELECT = [bright_video(SPEC, seed) for seed in range(100, 104)]
QUICK = FitConfig(epochs=5, batch_size=4, windows=6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_windows_is_learned(kind: str) -> None:
    spec = small_spec(kind)  # type: ignore[arg-type]
    train = [bright_video(spec, seed) for seed in range(16)]
    unseen = [bright_video(spec, seed) for seed in range(200, 206)]
    fitted = fit(spec, train, SELECT if kind == "rgb" else [], QUICK, num_classes=2)
    scores = [salience_of(fitted.salience, v.inputs) for v in unseen]
    correlation = mean_rank_correlation(scores, [v.teacher for v in unseen])
    assert correlation is not None
    assert correlation > 0.9


def test_classes_are_learned() -> None:
    config = dataclasses.replace(QUICK, loss="ac", epochs=8)
    fitted = fit(SPEC, TRAIN, [], config, num_classes=2)  # the last epoch: classes are learned, not an order
    right = []
    for video in (bright_video(SPEC, seed, label=seed % 2) for seed in range(200, 206)):
        with torch.inference_mode():
            outputs = fitted.salience.network(torch.from_numpy(video.inputs))
        right.append((outputs.argmax(1) == video.label).float().mean().item())
        salience = salience_of(fitted.salience, video.inputs)
        assert salience.shape == (8,)
        assert 0.5 <= salience.min() <= salience.max() <= 1
    assert np.mean(right) > 0.9


def test_the_same_seed_gives_the_same_network_and_another_one_does_not() -> None:
    config = dataclasses.replace(QUICK, epochs=1)
    first, again = (fit(SPEC, TRAIN, SELECT, config, num_classes=2) for _ in range(2))
    other = fit(SPEC, TRAIN, SELECT, dataclasses.replace(config, seed=1), num_classes=2)
    inputs = SELECT[0].inputs
    np.testing.assert_array_equal(salience_of(first.salience, inputs), salience_of(again.salience, inputs))
    assert first.history == again.history
    assert (salience_of(first.salience, inputs) != salience_of(other.salience, inputs)).any()


def test_the_best_epoch_is_kept() -> None:
    """An unreasonable rate: what is learned comes and goes."""
    seen: list[Epoch] = []
    config = dataclasses.replace(QUICK, epochs=6, lr=0.05)
    fitted = fit(SPEC, TRAIN, SELECT, config, num_classes=2, on_epoch=seen.append)
    assert tuple(seen) == fitted.history
    assert [e.epoch for e in seen] == list(range(1, 7))
    agreements = [e.agreement for e in seen]
    best = max(a for a in agreements if a is not None)
    assert fitted.best_epoch == max(e.epoch for e in seen if e.agreement == best), "the last of equal ones"
    scores = [salience_of(fitted.salience, v.inputs) for v in SELECT]
    assert mean_agreement(scores, [v.teacher for v in SELECT]) == best


def test_without_videos_to_choose_by_the_last_epoch_is_kept() -> None:
    one_window = bright_video(SPEC, 5, windows=1)
    for select in ([], [one_window]):
        fitted = fit(SPEC, TRAIN, select, dataclasses.replace(QUICK, epochs=3), num_classes=2)
        assert fitted.best_epoch == 3
        assert [e.agreement for e in fitted.history] == [None] * 3


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_batch_of_one_window_joins_its_neighbour(batch_size: int) -> None:
    """Nine videos, of which some have one window: it comes alone, as the first batch and as the last one, too."""
    train = [*TRAIN[:4], *(bright_video(SPEC, seed, windows=1) for seed in range(50, 55))]
    config = dataclasses.replace(QUICK, loss="ac", epochs=6, batch_size=batch_size)
    fitted = fit(SPEC, train, [], config, num_classes=2)
    assert all(np.isfinite(epoch.loss) for epoch in fitted.history)
    with pytest.raises(DatasetError, match="one window of one video is all"):
        fit(SPEC, train[-1:], [], config, num_classes=2)


def test_videos_without_pairs_are_left_out_and_counted() -> None:
    one_window = bright_video(SPEC, 300, windows=1)
    alike = FitVideo("alike", one_window.inputs.repeat(4, axis=0), np.array([0.5, 0.505, 0.5, 0.509], np.float32), 0)
    with_them = fit(SPEC, [*TRAIN, one_window, alike], SELECT, QUICK, num_classes=2)
    without = fit(SPEC, TRAIN, SELECT, QUICK, num_classes=2)
    assert (with_them.unpaired, without.unpaired) == (2, 0)
    assert with_them.history == without.history
    with pytest.raises(DatasetError, match=r"nothing to learn from: of none of 2 training videos .* more than 0.1"):
        fit(SPEC, [one_window, alike], SELECT, QUICK, num_classes=2)
    classes = fit(SPEC, [one_window, alike], SELECT, dataclasses.replace(QUICK, loss="ac", epochs=1), num_classes=2)
    assert classes.unpaired == 0


def test_a_fit_that_diverges_says_so() -> None:
    with pytest.raises(TrainingDiverged, match=r"in epoch \d; a smaller learning rate may help"):
        fit(SPEC, TRAIN, SELECT, dataclasses.replace(QUICK, lr=1e30), num_classes=2)
