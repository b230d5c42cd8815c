from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tenclip_api.errors import InvalidRequest
from tenclip_video.protocols import (
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    Protocol,
    clip_probabilities,
    sigmoid,
    softmax,
    video_probabilities,
)
from tenclip_video.sampling import ClipSelection
from tenclip_video.spec import ClipSpec, Resize

LOGITS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-50, 50, width=32)
)


def test_names_are_keys() -> None:
    assert DEFAULT_PROTOCOL in PROTOCOLS
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    assert all(protocol.description for protocol in PROTOCOLS.values())


def test_views() -> None:
    assert PROTOCOLS["ten-clip"].views == 1
    assert PROTOCOLS["mmaction2-10x3"].views == 3


def test_short_edge_replaces_a_squash_and_nothing_else() -> None:
    protocol = Protocol(name="x", description="x", short_edge=True)
    applied = protocol.apply(ClipSpec(resize=Resize(height=128, width=171)))
    assert (applied.resize.mode, applied.resize.short_edge) == ("short_edge", 128)
    kept = ClipSpec(resize=Resize(mode="short_edge", short_edge=256))
    assert protocol.apply(kept) == kept
    assert PROTOCOLS["ten-clip"].apply(ClipSpec()) == ClipSpec()


def test_applying_a_protocol_again_changes_nothing() -> None:
    for protocol in PROTOCOLS.values():
        once = protocol.apply(ClipSpec(resize=Resize(height=128, width=171)))
        assert protocol.apply(once) == once


@pytest.mark.parametrize(
    ("selection", "planned", "most"),
    [
        (ClipSelection(mode="center"), 3, 3),
        (ClipSelection(num_clips=4), 12, 12),
        (ClipSelection(mode="salient", num_clips=2, max_clips=50), 6, 6),
        (ClipSelection(mode="windows"), None, None),
        (ClipSelection(mode="windows", max_clips=5), None, 15),
        (ClipSelection(num_clips=4, rule="3d-resnets", max_clips=7), None, 21),
    ],
)
def test_how_many_clips_are_planned(selection: ClipSelection, planned: int | None, most: int | None) -> None:
    protocol = Protocol(selection=selection, crop="three")
    assert (protocol.num_planned, protocol.max_planned) == (planned, most)


def test_the_side_of_the_crop() -> None:
    spec = ClipSpec(crop=112, fully_convolutional_crop=128)
    assert Protocol().crop_side(spec) == 112
    assert Protocol(fully_convolutional=True).crop_side(spec) == 128
    pooled = ClipSpec(crop=112, fully_convolutional_crop=None)
    assert Protocol().crop_side(pooled) == 112
    with pytest.raises(InvalidRequest, match="no fully-convolutional crop; ask for pooled prediction"):
        Protocol(fully_convolutional=True).crop_side(pooled)


def test_softmax_by_hand() -> None:
    np.testing.assert_allclose(softmax(np.log(np.array([1, 2, 5], np.float32))), [0.125, 0.25, 0.625], rtol=1e-6)


def test_softmax_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([1e4, 0, -1e4], np.float32)), [1, 0, 0])


@pytest.fixture
def two_positions() -> np.ndarray:
    """[B=1, K=2, P=2]: class 0 wins clearly at position 0, class 1 narrowly at position 1."""
    return np.log(np.array([[[8.0, 2.0], [2.0, 3.0]]], np.float32))


def test_averagings_by_hand(two_positions: np.ndarray) -> None:
    # Per position: (0.8, 0.2) and (0.4, 0.6).
    np.testing.assert_allclose(clip_probabilities(two_positions, "probabilities"), [[0.6, 0.4]], rtol=1e-6)
    # Mean logits are the logs of geometric means: sqrt(16) = 4 and sqrt(6).
    root = 6**0.5
    np.testing.assert_allclose(
        clip_probabilities(two_positions, "logits"), [[4 / (4 + root), root / (4 + root)]], rtol=1e-6
    )
    # One softmax over all four cells, averaged over the two positions: (8 + 2, 2 + 3) / 15 / 2.
    np.testing.assert_allclose(clip_probabilities(two_positions, "vmz_joint"), [[1 / 3, 1 / 6]], rtol=1e-6)


def test_clips_are_averaged_by_hand(two_positions: np.ndarray) -> None:
    other = np.zeros_like(two_positions)  # (0.5, 0.5) at both positions
    both = np.concatenate([two_positions, other])
    np.testing.assert_allclose(video_probabilities(both, "probabilities"), [0.55, 0.45], rtol=1e-6)
    np.testing.assert_allclose(
        video_probabilities(both, "logits"), softmax(np.array([np.log(4) / 2, np.log(6) / 4], np.float32)), rtol=1e-6
    )


@given(LOGITS)
def test_probabilities_sum_to_one(logits: np.ndarray) -> None:
    batch, _, positions = logits.shape
    for averaging in ("probabilities", "logits"):
        np.testing.assert_allclose(clip_probabilities(logits, averaging).sum(axis=1), np.ones(batch), rtol=1e-4)
        np.testing.assert_allclose(video_probabilities(logits, averaging).sum(), 1, rtol=1e-4)
    np.testing.assert_allclose(clip_probabilities(logits, "vmz_joint").sum(axis=1), 1 / positions, rtol=1e-4)


@given(LOGITS)
def test_one_position_and_one_clip_make_no_difference(logits: np.ndarray) -> None:
    single = logits[:1, :, :1]
    expected = softmax(single[0, :, 0])
    for averaging in ("probabilities", "logits", "vmz_joint"):
        np.testing.assert_allclose(video_probabilities(single, averaging), expected, rtol=1e-4, atol=1e-7)


@given(LOGITS)
def test_the_order_of_clips_makes_no_difference(logits: np.ndarray) -> None:
    for averaging in ("probabilities", "logits", "vmz_joint"):
        np.testing.assert_allclose(
            video_probabilities(logits, averaging), video_probabilities(logits[::-1], averaging), rtol=1e-3, atol=1e-6
        )


# -- sigmoids --


def test_a_sigmoid_for_each_class() -> None:
    """Logits log(4), log(1) at one position and 0, 0 at the other: .8 and .5, .5 and .5."""
    logits = np.array([[[np.log(4), 0], [0, 0]]], np.float32)  # [1,2,2]
    np.testing.assert_allclose(clip_probabilities(logits, "probabilities", "sigmoid"), [[0.65, 0.5]], rtol=1e-6)
    # The logits averaged first: log(4)/2 = log(2), a sigmoid of 2/3.
    np.testing.assert_allclose(clip_probabilities(logits, "logits", "sigmoid"), [[2 / 3, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(video_probabilities(logits, "logits", "sigmoid"), [2 / 3, 0.5], rtol=1e-6)
    both = np.concatenate([logits, -logits])
    np.testing.assert_allclose(video_probabilities(both, "probabilities", "sigmoid"), [0.5, 0.5], rtol=1e-6)


def test_sigmoids_have_no_joint_softmax() -> None:
    with pytest.raises(ValueError, match="vmz_joint is one softmax over classes and positions"):
        clip_probabilities(np.zeros((1, 2, 4), np.float32), "vmz_joint", "sigmoid")


@given(hnp.arrays(np.float32, 5, elements=st.floats(-200, 200, width=32)))
def test_sigmoids_do_not_overflow(logits: np.ndarray) -> None:
    found = sigmoid(logits)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2)), atol=1e-6)
