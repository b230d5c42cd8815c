"""Kinetics and EPIC-KITCHENS-100."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest

from .files import touch, write

KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("air drumming/abc_000012_000022.mp4", (None, None)),
        ("air_drumming/abc_000012_000022.mkv", (None, None)),
        ("train/air drumming/abc_000012_000022.webm", (None, None)),
        ("abc_000012_000022.mp4", (None, None)),
        ("abc.mp4", (12, 22)),
    ],
)
def test_kinetics_finds_videos_where_tools_put_them(
    tmp_path: Path, name: str, part: tuple[float | None, float | None]
) -> None:
    videos = tmp_path / "videos"
    touch(videos, name)
    file = write(tmp_path / "k.csv", KINETICS + "air drumming,abc,12,22,train\n")
    (sample,) = read_manifest(file, videos=videos).samples
    assert (sample.name, sample.labels, sample.split) == (name, ("air drumming",), "train")
    assert (sample.start_seconds, sample.end_seconds) == part
    assert sample.extra["youtube_id"] == "abc"


def test_kinetics_missing_videos(tmp_path: Path) -> None:
    file = write(tmp_path / "k.csv", KINETICS + "air drumming,abc,12,22,train\n")
    with pytest.raises(DatasetError, match=r"line 2 \(air drumming/abc_000012_000022\.mp4\): no such file"):
        read_manifest(file)
    assert read_manifest(file, missing="keep").samples[0].labels == ("air drumming",)
    with pytest.raises(DatasetError, match="line 2: time_start and time_end are needed"):
        read_manifest(write(tmp_path / "k.csv", KINETICS + "air drumming,abc,,,train\n"))
