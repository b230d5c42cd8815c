from __future__ import annotations

import numpy as np
import pytest
import torch

from tenclip_training.sampler.networks import Salience, SamplerNet, channel_statistics
from tenclip_video.salience import SamplerKind, default_spec
from tenclip_video.salience.compressed import CHANNELS

from .helpers import MODEL_SPEC, small_spec

KINDS: tuple[SamplerKind, ...] = ("compressed", "keyframes", "rgb", "audio")


def network(kind: SamplerKind, outputs: int = 1) -> SamplerNet:
    spec = default_spec(kind, MODEL_SPEC, loss="rank")
    statistics = np.zeros(spec.channels, np.float32), np.ones(spec.channels, np.float32)
    torch.manual_seed(0)
    return SamplerNet(spec, outputs, *statistics).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_small_and_gives_one_output_for_each_window(kind: SamplerKind) -> None:
    made = network(kind, 5)
    assert 15_000 <= sum(p.numel() for p in made.parameters()) <= 300_000
    windows = torch.rand((3, *default_spec(kind, MODEL_SPEC).input_shape))
    with torch.inference_mode():
        assert made(windows).shape == (3, 5)
        # A window's output does not depend on those beside it.
        torch.testing.assert_close(made(windows)[1:2], made(windows[1:2]), rtol=1e-4, atol=1e-5)


def test_salience_is_the_output_or_the_highest_class_probability() -> None:
    made = network("rgb", 4)
    windows = torch.rand((6, *default_spec("rgb", MODEL_SPEC).input_shape))
    with torch.inference_mode():
        outputs = made(windows)
        torch.testing.assert_close(Salience(made, "ac")(windows), outputs.softmax(1).max(1).values)
        torch.testing.assert_close(Salience(made, "rank")(windows), outputs[:, 0])
    assert Salience(made, "ac")(windows).min() >= 0.25


def test_normalisation_is_in_the_graph() -> None:
    """Windows in other units give the same, where mean and deviation are in those units, too: of kind keyframes, whose
    outputs follow from these alone.
    """
    spec = small_spec("keyframes")
    windows = torch.rand((2, *spec.input_shape))
    units = torch.arange(1.0, 4.0)
    torch.manual_seed(0)
    plain = SamplerNet(spec, 1, np.zeros(3, np.float32), np.ones(3, np.float32)).eval()
    scaled = SamplerNet(spec, 1, np.full(3, 3, np.float32), units.numpy()).eval()
    scaled.load_state_dict({**plain.state_dict(), "mean": scaled.mean, "std": scaled.std})
    with torch.inference_mode():
        torch.testing.assert_close(plain(windows), scaled(windows * units + 3))


def test_differences_are_looked_at_in_kind_rgb_alone() -> None:
    """Kind compressed has its six channels from the reader; key frames lie too far apart."""
    made = network("rgb")
    assert made.body.frame[0].in_channels == 6  # type: ignore[index, union-attr]
    assert network("compressed").body.frame[0].in_channels == 6  # type: ignore[index, union-attr]
    assert network("keyframes").body.frame[0].in_channels == 3  # type: ignore[index, union-attr]


def test_statistics_of_channels() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal((1, 50), (2, 20), (n, 2, 3, 3, 2)).astype(np.float16) for n in (3, 9)]
    mean, std = channel_statistics(parts)
    whole = np.concatenate(parts).astype(np.float64).reshape(-1, 2)
    np.testing.assert_allclose(mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(std, whole.std(0), rtol=1e-4)


def test_a_channel_that_never_changes_is_no_division_by_zero() -> None:
    spec = small_spec("keyframes")
    made = SamplerNet(spec, 1, np.zeros(3, np.float32), np.zeros(3, np.float32)).eval()
    with torch.inference_mode():
        assert torch.isfinite(made(torch.zeros((1, *spec.input_shape)))).all()


@pytest.mark.parametrize("kind", ["compressed", "rgb"])
def test_motion_energy_is_a_weighted_sum_of_what_the_head_sees(kind: SamplerKind) -> None:
    """A network that has learned nothing gives windows the order of how much changes in them, and how unevenly."""
    made = network(kind)
    spec = default_spec(kind, MODEL_SPEC)
    strength = np.array([0.1, 0.7, 0.4, 0.0], np.float32)
    windows = np.zeros((4, *spec.input_shape), np.float32)
    if kind == "compressed":
        windows[:, :, :8, :, CHANNELS.index("difference")] = strength[:, None, None, None]
    else:  # a part of the picture that flickers
        flicker = (np.arange(spec.samples) % 2)[None, :, None, None, None]
        windows[:, :, :8] = (255 * strength[:, None, None, None, None] * flicker).round()
    with torch.inference_mode():
        scores = made(torch.from_numpy(windows))[:, 0].numpy()
    assert np.argsort(scores).tolist() == np.argsort(strength).tolist()
    assert (network(kind, 5).head.weight != 0).all(), "classes have no order to begin with"
    assert network("keyframes").movement is None
    assert network("audio").movement is None
