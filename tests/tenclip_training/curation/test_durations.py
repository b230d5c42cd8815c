from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenclip_data.samples import Sample
from tenclip_training.curation.durations import find_durations

from .helpers import smooth_video


def sample(path: Path, **options: Any) -> Sample:
    return Sample(path=path, name=path.name, labels=("x",), **options)


def test_what_the_manifest_says_comes_first(tmp_path: Path) -> None:
    samples = [
        sample(tmp_path / "part.mp4", start_seconds=1.0, end_seconds=3.5, extra={"duration": "99"}),
        sample(tmp_path / "told.mp4", extra={"Duration": "00:01:02.5"}),
        sample(tmp_path / "number.mp4", extra={"seconds": 7}),
        sample(tmp_path / "open.mp4", start_seconds=2.0, extra={"seconds": 7}),
    ]
    found = find_durations(samples, workers=1)
    assert list(found.seconds.values()) == [2.5, 62.5, 7.0, 5.0]
    assert found.unknown == {}


def test_else_the_file_is_looked_at(tmp_path: Path) -> None:
    video = smooth_video(tmp_path / "a.mp4", 1, 2.0)
    (tmp_path / "bad.mp4").write_text("no video")
    samples = [
        sample(video, extra={"duration": "unknown"}),
        sample(video, start_seconds=0.5),
        sample(tmp_path / "bad.mp4", extra={"duration": "0"}),
        sample(tmp_path / "gone.mp4"),
    ]
    found = find_durations(samples, workers=1)
    assert found.seconds == {"a.mp4": pytest.approx(2.0), "a.mp4[0.5:]": pytest.approx(1.5)}
    assert {v: e.reason for v, e in found.unknown.items()} == {"bad.mp4": "NOT_A_VIDEO", "gone.mp4": "VIDEO_NOT_FOUND"}
