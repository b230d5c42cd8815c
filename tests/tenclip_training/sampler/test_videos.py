from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest, Sample
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.sampler.videos import action_of, labelled_videos, unlabelled_videos

SOURCE = Path("m.csv")
CLASSES = ("run", "jump", "swim")


def sample(name: str, *labels: str, split: str = "train", **values: Any) -> Sample:
    return Sample(path=Path("/videos") / name, name=name, labels=labels or ("jump",), split=split, line=7, **values)


def manifest(*samples: Sample) -> Manifest:
    labels = dict.fromkeys(label for s in samples for label in s.labels)
    return Manifest(source=SOURCE, samples=samples, labels=tuple(labels))


VAL = sample("v.mp4", split="val")


def test_splits_and_labels_of_the_teacher() -> None:
    rows = [sample("a.mp4", "swim"), sample("b.mp4", "run"), VAL, sample("t.mp4", split="test")]
    found = labelled_videos(manifest(*rows), CLASSES)
    assert [(v.name, v.label) for v in found.train] == [("a.mp4", 2), ("b.mp4", 0)]
    assert [v.name for v in (*found.select, *found.held_out)] == ["v.mp4"]
    assert {v.name for v in found.all} == {"a.mp4", "b.mp4", "v.mp4"}
    by_test = labelled_videos(manifest(*rows), CLASSES, val="test")
    assert [v.name for v in (*by_test.select, *by_test.held_out)] == ["t.mp4"]


def test_halves_of_val_follow_from_the_names_alone() -> None:
    rows = [sample(f"{i}.mp4", split="val") for i in range(200)]
    found = labelled_videos(manifest(sample("a.mp4"), *rows), CLASSES)
    again = labelled_videos(manifest(sample("a.mp4"), *rows[::-2]), CLASSES)
    assert 70 < len(found.select) < 130
    assert len(found.select) + len(found.held_out) == 200
    assert not {v.name for v in found.select} & {v.name for v in found.held_out}
    assert {v.name for v in again.select} < {v.name for v in found.select}
    assert {v.name for v in again.held_out} < {v.name for v in found.held_out}


def test_a_video_in_several_rows_shows_its_class_several_times() -> None:
    rows = [
        sample("a.mp4", start_seconds=5.0, end_seconds=6.0),
        sample("a.mp4", start_seconds=1.0, end_seconds=2.0),
        sample("a.mp4", "run", start_seconds=3.0, end_seconds=4.0),
    ]
    found = labelled_videos(manifest(*rows, VAL), CLASSES)
    assert [(v.label, v.action) for v in found.train] == [(1, ((1.0, 2.0), (5.0, 6.0))), (0, ((3.0, 4.0),))]
    assert found.train[0].video == SetVideo(name="a.mp4", path=Path("/videos/a.mp4"))


@pytest.mark.parametrize("named", ["a.mp4", "./a.mp4", "link.mp4"])
def test_a_file_is_learned_from_or_judged_by(tmp_path: Path, named: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    learned = dataclasses.replace(sample("a.mp4", start_seconds=0.0, end_seconds=2.0), path=tmp_path / "a.mp4")
    other = dataclasses.replace(sample(named, split="val", start_seconds=4.0, end_seconds=6.0), path=tmp_path / named)
    with pytest.raises(DatasetError, match=r"1 files are in split 'train' and in split 'val', .*\(a.mp4\) and .*whole"):
        labelled_videos(manifest(learned, VAL, other), CLASSES)
    videos = [SetVideo(name=name, path=tmp_path / name) for name in ("a.mp4", named)]
    assert [v.name for v in unlabelled_videos(videos).all] == ["a.mp4"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([sample("a.mp4")], r"no video in 'val' \(its splits: 'train'\); --val-split names another"),
        ([VAL], r"no video in 'train' \(its splits: 'val'\)"),
        ([sample("a.mp4", split=""), VAL], "no video in 'train'"),
        ([sample("a.mp4", "fly"), sample("b.mp4", "dive"), VAL], "does not know the labels fly, dive; it knows 3"),
        ([sample("a.mp4", "run", "jump"), VAL], r"m.csv, line 7 \(a.mp4\): has 2 labels; .* one label each"),
        ([sample("a.jpg"), VAL], r"a.jpg\): is an image"),
        ([sample("a.mp4", extra={"intervals": "1-x"}), VAL], r"a.mp4\): interval '1-x'; write seconds"),
        ([sample("a.mp4", extra={"intervals": "2-1"}), VAL], "interval '2-1'"),
    ],
)
def test_what_cannot_be_trained_on(rows: list[Sample], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        labelled_videos(manifest(*rows), CLASSES)


def test_where_the_action_is() -> None:
    with_intervals = sample("a.mp4", start_seconds=0.5, end_seconds=1.2, extra={"Intervals": "0.500-1.200 3-3.7"})
    assert action_of(with_intervals, SOURCE) == ((0.5, 1.2), (3.0, 3.7))
    assert action_of(sample("a.mp4", start_seconds=0.5, extra={"intervals": " "}), SOURCE) == ((0.5, math.inf),)
    assert action_of(sample("a.mp4", end_seconds=2.0), SOURCE) == ((0.0, 2.0),)
    assert action_of(sample("a.mp4"), SOURCE) == ()


@given(st.sets(st.text(min_size=1), min_size=1, max_size=60))
def test_unlabelled_videos_are_split_by_their_names(names: set[str]) -> None:
    videos = [SetVideo(name=n, path=Path(f"/x/{i}"), start_seconds=1.0) for i, n in enumerate(sorted(names))]
    found = unlabelled_videos([*videos, *videos])
    assert sorted(v.name for v in found.all) == sorted(names)
    assert {v.name: v for v in unlabelled_videos(videos[::-1]).train} == {v.name: v for v in found.train}
    assert all(v.label is None and v.video.start_seconds is None for v in found.all)
    if len(names) > 50:
        assert len(found.train) > len(names) / 2
