"""Sets of short and long videos, of real files."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Sample
from tenclip_findings.lab.tasks import rows, synth
from tenclip_findings.lab.tasks_durations import duration_set

SMALL = {"num_classes": 2, "width": 32, "height": 32, "splits": [["train", 1.0]], "frame_rates": [15.0]}
BANDS = {"short": [0.3, 1.0], "long": [2.5, 3.5], "center_seconds": 0.5}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 videos of half a second and 6 of three seconds, in one manifest."""
    root = tmp_path_factory.mktemp("durations")
    long = {"untrimmed": [0.3, 0.5], "scenes": [2, 2], "seed": 2}
    sets: dict[str, dict[str, Any]] = {
        "short": {"seconds": [0.5, 0.6], "total": 8},
        "long": {"seconds": [2.9, 3.1], "total": 6} | long,
    }
    for name, config in sets.items():
        synth(root / name, {**SMALL, **config})
    (root / "both").mkdir()
    rows(root / "both", [str(root / name / "manifest.csv") for name in sets])
    return root / "both" / "manifest.csv"


def made(folder: Path, both: Path, kind: Any, **settings: Any) -> list[Sample]:
    place = folder / json.dumps([kind, sorted(settings)]).replace("/", "")
    place.mkdir()
    duration_set(place, str(both), kind, BANDS, 1, **settings)
    return list(read_manifest(place / "manifest.csv", leaks="allow").samples)


def seconds(sample: Sample) -> float:
    if sample.end_seconds is not None:
        return sample.end_seconds - (sample.start_seconds or 0.0)
    return float(sample.extra["duration"])


def classes(samples: list[Sample]) -> Counter[str]:
    return Counter(s.labels[0] for s in samples)


def test_three_sets_have_equally_many_videos_of_each_class(both: Path, tmp_path: Path) -> None:
    short, long, center = (made(tmp_path, both, kind) for kind in ("short", "long", "long-center"))
    assert classes(short) == classes(long) == classes(center) == Counter({"move_left": 3, "move_right": 3})
    assert all(0.3 <= seconds(s) <= 1 for s in short)
    assert all(2.5 <= seconds(s) <= 3.5 for s in long)
    assert {s.path for s in center} == {s.path for s in long}


def test_where_the_action_is_has_been_forgotten(both: Path, tmp_path: Path) -> None:
    given = [s for s in read_manifest(both, leaks="allow").samples if s.start_seconds is not None]
    assert len(given) == 6, "the generator says it of every long video"
    assert all(s.start_seconds is s.end_seconds is None for s in made(tmp_path, both, "long"))


def test_centres_are_the_middle_of_long_videos(both: Path, tmp_path: Path) -> None:
    for sample in made(tmp_path, both, "long-center"):
        assert sample.start_seconds is not None
        assert seconds(sample) == pytest.approx(0.5)
        assert sample.start_seconds + 0.25 == pytest.approx(float(sample.extra["duration"]) / 2, abs=1e-3)


def test_a_set_is_no_longer_than_another_one(both: Path, tmp_path: Path) -> None:
    like = tmp_path / "like"
    like.mkdir()
    duration_set(like, str(both), "long", BANDS, 1)
    same = made(tmp_path, both, "long", as_long_as=str(like / "manifest.csv"))
    assert len(same) == 6
    some = tmp_path / "some"
    some.mkdir()
    rows(some, [str(like / "manifest.csv")], at_most=4)
    fewer = made(tmp_path / "some", both, "long", as_long_as=str(some / "manifest.csv"))
    assert 2 <= len(fewer) <= 4
    assert sum(map(seconds, fewer)) <= sum(map(seconds, read_manifest(some / "manifest.csv", leaks="allow").samples))


def test_a_band_without_videos_is_named(both: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no video of 50 to 60 s for the long set"):
        duration_set(tmp_path, str(both), "long", {**BANDS, "long": [50.0, 60.0]}, 1)
