"""One server with two small models, and one page of it, shared by tests that harm neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tenclip_serving.helpers import RULE, Sampler, ServerProcess, make_bundle, make_video, running_server

from .browsing import launched
from .helpers import PageProcess, running_page

# What the server of `server` takes at most of an upload.
MAX_UPLOAD_MB = 8


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny`, which can stop early, and `other`, which cannot."""
    root = tmp_path_factory.mktemp("models")
    make_bundle(root, "tiny", sampler=Sampler(stopping=RULE))
    make_bundle(root, "other", labels=("rot", "gruen", "blau", "bewegt"))
    return root


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("samples")
    make_video(root / "colors.mp4", num_frames=100)
    make_video(root / "bar.mp4", num_frames=120, seconds_of_motion=1.0)
    return root


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two megabytes, most of which is nothing."""
    path = tmp_path_factory.mktemp("large") / "large.mp4"
    made = make_video(path, num_frames=60)
    path.write_bytes(made.read_bytes() + bytes(2_000_000))
    return path


@pytest.fixture(scope="session")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bad")
    (root / "text.mp4").write_text("this is no video\n" * 100)
    (root / "empty.mp4").touch()
    (root / "huge.mp4").write_bytes(bytes((MAX_UPLOAD_MB + 24) << 20))
    return root


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[ServerProcess]:
    with running_server(models, "--max-upload-mb", str(MAX_UPLOAD_MB), "--threads", "1") as running:
        yield running


@pytest.fixture(scope="session")
def page(server: ServerProcess, videos: Path) -> Iterator[PageProcess]:
    with running_page(server.address, "--samples", str(videos)) as running:
        yield running


@pytest.fixture(scope="module")  # while it is open, its event loop is in the way of asyncio.run
def browser() -> Iterator[Any]:
    yield from launched()
