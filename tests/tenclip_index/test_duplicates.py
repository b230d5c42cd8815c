"""Pairs that are nearly the same: all of them, once, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tenclip_api.errors import InvalidRequest
from tenclip_index import duplicates, open_index
from tenclip_index.build import build_index
from tenclip_index.duplicates import find_duplicates
from tenclip_index.index import Index
from tenclip_index.vectors import unit_vectors

from .made_up import CLIPS, clustered, write


def made(folder: Path, **options: Any) -> tuple[Index, NDArray[np.float32]]:
    """Copies are planted: row 7 is row 3 (of its own video) and row 150, and row 60 is nearly row 61 and row 199."""
    features = clustered(200, 12)
    features[[7, 150]] = features[3]
    features[[61, 199]] = features[60] + 0.01
    build_index([write(folder / "f.parquet", features)], folder / "index", **options)
    return open_index(folder / "index"), features


@pytest.fixture
def index(tmp_path: Path) -> tuple[Index, NDArray[np.float32]]:
    return made(tmp_path, precision="float32")


@pytest.mark.parametrize("threshold", [0.999, 0.9, 0.5, -1.0])
@pytest.mark.parametrize("within_videos", [False, True])
def test_all_pairs_of_numpy(
    index: tuple[Index, NDArray[np.float32]],
    threshold: float,
    within_videos: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, features = index
    monkeypatch.setattr(duplicates, "_ROWS_AT_ONCE", 64)  # several blocks
    unit = unit_vectors(features).astype(np.float64)
    scores = (unit @ unit.T).astype(np.float32)
    expected = {
        (i, j)
        for i, j in zip(*np.nonzero(scores >= threshold), strict=True)
        if i < j and (within_videos or i // CLIPS != j // CLIPS)
    }
    found = find_duplicates(opened, threshold, within_videos=within_videos, limit=10**6)
    pairs = [(p.first.row, p.second.row) for p in found.pairs]
    assert set(pairs) == expected
    assert len(pairs) == found.found == len(expected)
    ordered = [p.score for p in found.pairs]
    assert ordered == sorted(ordered, reverse=True)
    few = find_duplicates(opened, threshold, within_videos=within_videos, limit=3)
    assert (few.pairs, few.found) == (found.pairs[:3], len(expected))


def test_by_video(index: tuple[Index, NDArray[np.float32]]) -> None:
    opened, _ = index
    pairs = find_duplicates(opened, 0.999, by_video=True)
    names = [(p.first.video, p.second.video) for p in pairs.pairs]
    assert sorted(names) == [
        ("v/v000.mp4", "v/v001.mp4"),
        ("v/v000.mp4", "v/v030.mp4"),
        ("v/v001.mp4", "v/v030.mp4"),
        ("v/v012.mp4", "v/v039.mp4"),
    ]
    assert pairs.found == 4
    everything = find_duplicates(opened, -1, by_video=True, within_videos=False)
    assert everything.found == 40 * 39 // 2


@pytest.mark.parametrize("options", [{}, {"max_exact_rows": 100}])
def test_copies_are_found_in_every_kind_of_index(tmp_path: Path, options: dict[str, Any]) -> None:
    opened, _ = made(tmp_path, **options)
    found = {(p.first.row, p.second.row) for p in find_duplicates(opened, 0.99, within_videos=True).pairs}
    assert {(3, 7), (3, 150), (7, 150), (60, 61), (60, 199), (61, 199)} <= found


def test_what_makes_no_sense(index: tuple[Index, NDArray[np.float32]]) -> None:
    with pytest.raises(InvalidRequest, match="a cosine, from -1 to 1, got 98"):
        find_duplicates(index[0], 98)
    with pytest.raises(InvalidRequest, match="limit must be at least 1"):
        find_duplicates(index[0], 0.9, limit=0)
