from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tests.tenclip_features.test_probe import SCHEMA, row
from tests.tenclip_training.commands.helpers import error_of, output_of, run


@pytest.fixture
def features(action_videos: Path, tmp_path: Path) -> Path:
    """One number that gives `speed` away, for every clip."""
    lines = [line.split(",") for line in action_videos.read_text().splitlines()]
    speed = lines[0].index("speed")
    rows = [
        row(str(action_videos.parent / r[0]), k, [float(r[speed] == "fast") + 0.1 * k, 1.0])
        for r in lines[1:]
        for k in range(2)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "f.parquet")
    return tmp_path / "f.parquet"


def test_probe(features: Path, action_videos: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        features,
        "--labels",
        action_videos,
        "--label-column",
        "speed",
        "--out",
        tmp_path / "p",
        "-C",
        "1",
    ]
    values = output_of(run("probe", *arguments, "--json"))
    assert values["video_mean_features"]["top1"] == 1
    assert values["clips"]["total"] == 8
    assert values["labels"] == ["fast", "slow"]
    assert values["files"] == [str(tmp_path / "p.npz"), str(tmp_path / "p.json")]
    result = run("probe", *arguments)
    assert "fitted on 12 of 12 videos, tested on 4 of 4" in result.stdout
    assert "saved" in result.stdout


def test_probe_refuses(features: Path, action_videos: Path) -> None:
    error = error_of(run("probe", features, "--labels", action_videos, "--fit-on", "frames"))
    assert isinstance(error, InvalidRequest)
    error = error_of(run("probe", action_videos, "--labels", action_videos))
    assert isinstance(error, DatasetError)
    assert "cannot be read as Parquet" in str(error)
