"""Teachers that know colours, made once, and opened once: that is what takes time."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tenclip_training.omni import teachers
from tests.tenclip_training.omni.colors import train_teacher

_open_once = functools.lru_cache(maxsize=None)(teachers.open_teacher)


@pytest.fixture(scope="session")
def color_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of frames, as a checkpoint."""
    return train_teacher(tmp_path_factory.mktemp("teacher") / "frames.pt")


@pytest.fixture(scope="session")
def color_clip_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of clips of 4 frames."""
    return train_teacher(tmp_path_factory.mktemp("teacher") / "clips.pt", architecture="r2plus1d_10", frames=4)


@pytest.fixture(autouse=True)
def teachers_are_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling a network for its runtime takes seconds; the files of teachers do not change."""
    monkeypatch.setattr(teachers, "open_teacher", _open_once)
