from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenclip_training.curation.candidates import find_candidates
from tenclip_training.curation.code_store import CodeTable
from tenclip_training.curation.frame_codes import VideoCodes

from .helpers import codes_of, random_codes

CODES = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3), max_size=6)


def table(*videos: VideoCodes) -> CodeTable:
    return CodeTable.of({f"v{i}": v for i, v in enumerate(videos)})


@settings(deadline=None)
@given(st.lists(CODES, max_size=4), st.lists(CODES, max_size=4), st.integers(0, 7))
def test_exactly_the_pairs_within_the_radius(source: list[list[int]], target: list[list[int]], radius: int) -> None:
    """With one flipped bit, four tables of 16 bits find every pair of codes up to 7 bits apart."""
    expected = [
        [s, t]
        for s, mine in enumerate(source)
        for t, theirs in enumerate(target)
        if any((a ^ b).bit_count() <= radius for a in mine for b in theirs)
    ]
    made = (table(*(codes_of(*codes) for codes in videos)) for videos in (source, target))
    assert find_candidates(*made, radius=radius, stride=1).tolist() == expected


@pytest.mark.parametrize(("flips", "bits"), [(1, 7), (0, 3)])
def test_what_is_found_for_sure(flips: int, bits: int) -> None:
    codes = random_codes(1, 200)
    rng = np.random.default_rng(2)
    changed = codes.copy()
    for i in range(len(codes)):
        for bit in rng.choice(64, bits, replace=False):
            changed[i] ^= np.uint64(1 << int(bit))
    source, target = (table(*(codes_of(int(c)) for c in many)) for many in (changed, codes))
    found = find_candidates(source, target, radius=bits, flips=flips)
    assert {tuple(pair) for pair in found.tolist()} >= {(i, i) for i in range(200)}


def test_flat_frames_are_not_looked_up_nor_found() -> None:
    flat, lit = codes_of(5, 6, flat=(0, 1)), codes_of(5, 6)
    assert find_candidates(table(flat), table(lit), radius=0, stride=1).tolist() == []
    assert find_candidates(table(lit), table(flat), radius=0, stride=1).tolist() == []
    assert find_candidates(table(lit), table(lit), radius=0, stride=1).tolist() == [[0, 0]]


def test_every_fourth_frame_of_a_source_is_looked_up() -> None:
    source = table(codes_of(9, 8, 7, 6, 5))
    assert find_candidates(source, table(codes_of(5)), radius=0).tolist() == [[0, 0]]
    assert find_candidates(source, table(codes_of(6)), radius=0).tolist() == []


def test_nothing_against_nothing() -> None:
    assert find_candidates(table(), table(), radius=6).shape == (0, 2)
