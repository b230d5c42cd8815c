"""One directory of bundles, one folder of videos and one server process, shared by tests that change none of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tenclip_serving.helpers import (
    SPEC,
    ServerProcess,
    make_bundle,
    make_video,
    running_server,
    without_fully_convolutional,
)

# What a server of `server` was started with.
MAX_MESSAGE_MB = 1
MAX_CLIPS = 64


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` in three versions, `pooled` without a fully-convolutional crop, `drifted` and `broken` that must fail."""
    root = tmp_path_factory.mktemp("models")
    for version in ("2", "10"):
        make_bundle(root, "tiny", version)
    make_bundle(root, "tiny", "11", golden_shift=3.0)
    make_bundle(root, "pooled", "1", spec=without_fully_convolutional())
    make_bundle(root, "drifted", "1", golden_shift=3.0)
    make_bundle(root, "strided", "1", spec=replace(SPEC, frame_stride=2))
    broken = make_bundle(root, "broken", "1")
    (broken / "model.onnx").write_bytes(b"no graph")
    return root


@pytest.fixture(scope="session")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` alone, which loads fast: for servers that are started to be harmed."""
    root = tmp_path_factory.mktemp("one-model")
    make_bundle(root)
    return root


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and bad files, and links that leave the folder."""
    root = tmp_path_factory.mktemp("videos")
    make_video(root / "colors.mp4")
    make_video(root / "bar.mp4", num_frames=80, seconds_of_motion=0.5)
    make_video(root / "short.mp4", num_frames=2)
    make_video(root / "long.mp4", num_frames=400)
    (root / "empty.mp4").touch()
    (root / "text.mp4").write_text("this is no video\n" * 100)
    (root / "folder.mp4").mkdir()
    outside = tmp_path_factory.mktemp("outside")
    make_video(outside / "secret.mp4")
    (root / "leak.mp4").symlink_to(outside / "secret.mp4")
    (root / "leak").symlink_to(outside)
    (root / "alias.mp4").symlink_to(root / "colors.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    return root


@pytest.fixture(scope="session")
def server(models: Path, videos: Path) -> Iterator[ServerProcess]:
    """A server that no test may harm; those that do start their own."""
    arguments = ["--allow-root", str(videos), "--max-message-mb", str(MAX_MESSAGE_MB), "--max-clips", str(MAX_CLIPS)]
    with running_server(models, *arguments) as running:
        yield running
