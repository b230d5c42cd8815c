"""Feature extraction from a real server: what the table says was done, and under which names."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tenclip_client import AsyncClient
from tenclip_client._extract import extract_to_parquet
from tenclip_client._extraction import ClipChoice, ExtractionReport
from tenclip_client._inputs import expand_inputs
from tenclip_features.names import path_of_name

from ..tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    models = tmp_path_factory.mktemp("models")
    make_bundle(models, default_protocol="tsn-3")
    with running_server(models) as running:
        yield running


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    make_video(folder / "a.mp4")
    return folder


def extract(server: ServerProcess, videos: Path, out: Path, **choice: Any) -> ExtractionReport:
    async def run() -> ExtractionReport:
        async with AsyncClient(server.address) as client:
            return await extract_to_parquet(client, expand_inputs([str(videos)]), out, choice=ClipChoice(**choice))

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("choice", "protocol"),
    [
        ({}, "tsn-3"),
        ({"protocol": "vmz-logits"}, "vmz-logits"),
        # The clips, the crop and the averaging of "vmz-logits", which nobody has asked for.
        ({"clips": "uniform", "num_clips": 10}, "custom: 10 uniform clips, centre crop, pooled, logits averaged"),
        ({"num_clips": 5}, "custom: 5 uniform clips placed by tsn, centre crop, pooled, logits averaged"),
    ],
)
def test_the_protocol_that_was_run(
    server: ServerProcess, videos: Path, tmp_path: Path, choice: dict[str, Any], protocol: str
) -> None:
    extract(server, videos, tmp_path / "f.parquet", **choice)
    assert pq.read_schema(tmp_path / "f.parquet").metadata[b"tenclip.protocol"].decode() == protocol


def test_names_that_differ_in_bytes_that_are_no_text(server: ServerProcess, videos: Path, tmp_path: Path) -> None:
    for name in (b"caf\xe9.mp4", b"caf\xe8.mp4"):
        shutil.copy(videos / "a.mp4", videos / os.fsdecode(name))
    assert extract(server, videos, tmp_path / "f.parquet").videos == 3
    names = pq.read_table(tmp_path / "f.parquet")["video"].unique().to_pylist()
    assert sorted(os.fsencode(path_of_name(n).name) for n in names) == [b"a.mp4", b"caf\xe8.mp4", b"caf\xe9.mp4"]
    again = extract(server, videos, tmp_path / "f.parquet")
    assert (again.reused, again.removed) == (3, ())
    (videos / os.fsdecode(b"caf\xe8.mp4")).unlink()
    assert extract(server, videos, tmp_path / "f.parquet").removed == (str(videos / "caf\\xe8.mp4"),)


def test_a_folder_behind_a_link(server: ServerProcess, videos: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "linked").symlink_to(videos)
    (videos / "loop").symlink_to(tmp_path / "all")
    extract(server, tmp_path / "all", tmp_path / "f.parquet")
    names = pq.read_table(tmp_path / "f.parquet")["video"].unique().to_pylist()
    assert names == [str(tmp_path / "all" / "linked" / "a.mp4")]
