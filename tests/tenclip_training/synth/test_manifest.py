"""The manifest of generated videos, read as any other."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tenclip_data.manifest import read_manifest


def test_synthetic_videos_load(action_videos: Path) -> None:
    manifest = read_manifest(action_videos)
    with action_videos.open() as f:
        rows = list(csv.DictReader(f))
    assert len(manifest.samples) == len(rows) == 16
    assert Counter(s.split for s in manifest.samples) == {"train": 12, "test": 4}
    assert {s.extra["speed"] for s in manifest.samples} <= {"slow", "fast"}
    assert set(read_manifest(action_videos, label_column="speed").labels) <= {"slow", "fast"}
