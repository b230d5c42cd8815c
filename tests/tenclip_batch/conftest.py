"""One bundle and one folder of videos, shared by tests that change neither."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.tenclip_serving.helpers import make_bundle, make_video

from .helpers import numbers, run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of bundles that a server would serve, with `tiny/1` in it."""
    root = tmp_path_factory.mktemp("models")
    make_bundle(root)
    return root


@pytest.fixture(scope="session")
def bundle(models: Path) -> Path:
    return models / "tiny" / "1"


@pytest.fixture(scope="session")
def shared_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five good videos of different lengths, one in a folder, and two that fail."""
    root = tmp_path_factory.mktemp("shared-videos")
    for i in range(4):
        make_video(root / f"v{i}.mp4", num_frames=20 + 15 * i, seconds_of_motion=0.5)
    (root / "sub").mkdir()
    make_video(root / "sub" / "deep.mp4", num_frames=120)
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 100)
    return root


@pytest.fixture(scope="session")
def files(shared_videos: Path) -> list[Path]:
    """Four of them that are good."""
    return sorted(shared_videos.glob("v*.mp4"))


@pytest.fixture(scope="session")
def expected(bundle: Path, files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Rows of these files themselves."""
    out = tmp_path_factory.mktemp("expected") / "out"
    run(bundle, out, *files)
    return numbers(out)
