"""Videos that several tests read; each is encoded once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.videos import Recipe, make_video


@pytest.fixture(scope="session")
def mp4() -> bytes:
    """40 frames of 64x48, H.264 with B-frames, a keyframe every 12, the index at the end."""
    return make_video(Recipe())


@pytest.fixture(scope="session")
def long_mp4() -> bytes:
    """250 frames (10 s) of 64x48, keyframes every 50."""
    return make_video(Recipe(num_frames=250, gop=50))


@pytest.fixture
def mp4_path(mp4: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    path.write_bytes(mp4)
    return path
