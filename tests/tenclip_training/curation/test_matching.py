from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tenclip_training.curation import matching
from tenclip_training.curation.frame_codes import VideoCodes
from tenclip_training.curation.matching import longest_chain, match_pair

from .helpers import codes_of, random_codes


def video(codes: NDArray[np.uint64], start_seconds: float = 0.0) -> VideoCodes:
    return VideoCodes(codes=codes, flat=np.zeros(len(codes), np.bool_), start_seconds=start_seconds)


def test_the_worked_example() -> None:
    match = match_pair(codes_of(0x0F, 0xF0, 0xFF, 0x00), codes_of(0x0F, 0xF1), radius=1)
    assert match is not None
    assert (match.source_share, match.target_share) == (0.5, 1.0)
    assert match.frames == ((0.0, 0.0, 0), (1 / 16, 1 / 16, 1))


@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_the_chain_is_the_longest(matches: NDArray[np.bool_]) -> None:
    rows, columns = matches.shape
    best = np.zeros((rows + 1, columns + 1), int)
    for i, j in np.ndindex(rows, columns):
        best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + matches[i, j])
    chain = longest_chain(matches)
    assert len(chain) == best[-1, -1]
    assert all(matches[i, j] for i, j in chain)
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(chain))


def test_a_slow_scene_is_matched_where_it_is() -> None:
    """A bit changes from frame to frame, so that each frame matches its neighbours, too."""
    bits = np.random.default_rng(9).permutation(64).astype(np.uint64)
    scene = np.bitwise_xor.accumulate(np.concatenate([random_codes(1, 1), np.uint64(1) << bits]))
    source = np.concatenate([random_codes(2, 50), scene[20:40], random_codes(3, 50)])
    match = match_pair(video(source), video(scene))
    assert match is not None
    assert [(round(16 * s), round(16 * t)) for s, t, _ in match.frames] == [(50 + i, 20 + i) for i in range(20)]


def test_a_target_within_a_source_is_found_with_its_times() -> None:
    target = random_codes(1, 64)
    source = np.concatenate([random_codes(2, 160), target[16:48], random_codes(3, 100)])
    match = match_pair(video(source, start_seconds=5.0), video(target))
    assert match is not None
    assert match.source_share == pytest.approx(32 / len(source))
    assert match.target_share == 0.5
    assert match.seconds == 2.0
    (stretch,) = match.stretches
    assert (stretch.source_from, stretch.source_to) == (15.0, 17.0)
    assert (stretch.target_from, stretch.target_to) == (1.0, 3.0)


def test_two_stretches_the_longer_first() -> None:
    target = random_codes(1, 160)
    source = np.concatenate([target[:20], random_codes(2, 50), target[100:160]])
    match = match_pair(video(source), video(target))
    assert match is not None
    assert [round(s.seconds * 16) for s in match.stretches] == [60, 20]
    assert match.stretches[0].target_from == 100 / 16


def test_a_still_picture_matches_a_moment_of_it_for_a_moment_only() -> None:
    still = video(np.full(160, 0x1234ABCD, np.uint64))
    moment = np.concatenate([random_codes(1, 50), np.full(5, 0x1234ABCD, np.uint64), random_codes(2, 50)])
    match = match_pair(still, video(moment))
    assert match is not None
    assert match.source_share == 1.0
    assert match.seconds == 5 / 16


def test_strangers_and_chance_do_not_match() -> None:
    one, other = random_codes(1, 100), random_codes(2, 100)
    assert match_pair(video(one), video(other)) is None
    other[5:8] = one[5:8]  # three frames
    assert match_pair(video(one), video(other)) is None
    other[5:9] = one[5:9]
    assert match_pair(video(one), video(other)) is not None


def test_flat_frames_are_not_counted() -> None:
    flat = codes_of(1, 2, 3, 4, flat=(0, 1, 2, 3))
    assert match_pair(flat, flat) is None
    half = match_pair(codes_of(1, 2, 3, 4, flat=(0, 1)), codes_of(1, 2, 3, 4), radius=0)
    assert half is not None
    assert (half.source_share, half.target_share) == (1.0, 0.5)


def test_very_long_videos_are_compared_at_fewer_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.repeat(random_codes(1, 40), 10)
    whole = match_pair(video(codes), video(codes))
    monkeypatch.setattr(matching, "_MAX_CELLS", 10_000)
    thin = match_pair(video(codes), video(codes))
    assert whole is not None
    assert thin is not None
    assert len(thin.frames) < len(whole.frames) / 3
    assert thin.seconds == pytest.approx(whole.seconds, abs=0.3)
    assert thin.source_share == whole.source_share == 1.0
