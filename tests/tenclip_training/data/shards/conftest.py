from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenclip_data.manifest import read_manifest
from tenclip_training.data.shards.write import write_shards
from tests.tenclip_training.data.shards.server import Files, serving


@pytest.fixture(scope="session")
def shards(validated_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`validated_videos` in its order: 4 shards of 3 training videos, 2 of 2 and 2 validation videos."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    write_shards(read_manifest(validated_videos), folder, videos_per_shard=3, shuffle_seed=None)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Files]:
    """A web server of `tmp_path`/served."""
    with serving(tmp_path / "served") as files:
        yield files
