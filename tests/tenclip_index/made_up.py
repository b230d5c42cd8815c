"""Tables of features with made-up numbers, written as `tenclip features` writes them."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenclip_features.rows import ClipRow, VideoRows
from tenclip_features.writer import write_features

SETTINGS = {"model": "moves", "version": "1", "weights": "0123456789abcdef"}
CLIPS = 5  # of a video


def clustered(rows: int, dimension: int, *, clusters: int = 8, seed: int = 0) -> NDArray[np.float32]:
    """Rows around some centres, as features of videos are: [N,D]."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dimension))
    return (centres[rng.integers(0, clusters, rows)] + 0.5 * rng.normal(size=(rows, dimension))).astype(np.float32)


def write(path: Path, features: NDArray[np.float32], *, prefix: str = "v", clips: int = CLIPS, **settings: Any) -> Path:
    """Row i is clip i % clips of video i // clips, and one second long."""
    videos = [
        VideoRows(
            f"{prefix}/{prefix}{number:03d}.mp4",
            None,
            [
                ClipRow(i, float(i), i + 1.0, array("f", vector.tobytes()))
                for i, vector in enumerate(features[number * clips : (number + 1) * clips])
            ],
        )
        for number in range(-(-len(features) // clips))
    ]
    write_features(path, path.with_suffix(".draft"), videos, SETTINGS | settings, protocol="ten-clip")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an index, but for its lock."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"}
