"""One server with an HTTP port, shared by tests that change nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tenclip_serving.helpers import ServerProcess, make_bundle, running_server

MAX_UPLOAD_MB = 1


@pytest.fixture(scope="session")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` in versions 1 and 2, and `broken`, which cannot be loaded."""
    root = tmp_path_factory.mktemp("http-models")
    make_bundle(root, "tiny", "1")
    make_bundle(root, "tiny", "2")
    (make_bundle(root, "broken", "1") / "model.onnx").write_bytes(b"no graph")
    return root


@pytest.fixture(scope="session")
def http_server(two_models: Path, videos: Path) -> Iterator[ServerProcess]:
    arguments = ["--http-port", "0", "--runtime", "onnxruntime", "--allow-root", str(videos), "--max-clips", "64"]
    limits = ["--max-upload-mb", str(MAX_UPLOAD_MB), "--max-message-mb", "1", "--decode-workers", "1"]
    with running_server(two_models, *arguments, *limits) as running:
        yield running
