from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import DatasetError, EmptyVideo
from tenclip_data.manifest import Manifest, Sample
from tenclip_training.data.failures import Failure, FailureLog, unreadable_classes


def failure(name: str, split: str = "train") -> Failure:
    return Failure(video=name, reason="EMPTY_VIDEO", message=f"{name}: the file is empty", split=split)


def log(path: Path, max_fraction: float = 1.0) -> FailureLog:
    failures = FailureLog(path, "train", num_videos=10, max_fraction=max_fraction)
    failures.restore([])
    return failures


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_failure_names_the_video_its_split_and_the_reason() -> None:
    sample = Sample(path=Path("/v/a.mp4"), name="a.mp4", labels=("x",), split="val")
    assert Failure.of(sample, EmptyVideo("a.mp4: the file is empty", source="a.mp4")) == Failure(
        video=sample.key, reason="EMPTY_VIDEO", message="a.mp4: the file is empty", split="val"
    )


def test_each_video_of_a_split_is_listed_once(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    failures = log(path)
    failures.record([failure("a"), failure("b")])
    failures.record([failure("a"), failure("a", "val")])
    failures.record([])
    assert [(f["split"], f["video"], f["reason"]) for f in lines_of(path)] == [
        ("train", "a", "EMPTY_VIDEO"),
        ("train", "b", "EMPTY_VIDEO"),
        ("val", "a", "EMPTY_VIDEO"),
    ]


def test_a_run_that_loses_too_many_training_videos_ends(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    failures = log(path, max_fraction=0.2)
    failures.record([failure("a"), failure("b")])
    failures.record([failure(str(i), "val") for i in range(10)])
    with pytest.raises(DatasetError, match=r"3 of 10 videos could not be read, more than the 20% allowed.*a: the file"):
        failures.record([failure("c")])
    assert len(lines_of(path)) == 13


def test_a_resumed_run_goes_back_to_what_its_checkpoint_knows(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    failures = log(path)
    failures.record([failure("a"), failure("b", "val")])
    failures.restore([dataclasses.asdict(failure("b", "val"))])
    assert [f["video"] for f in lines_of(path)] == ["b"]


def test_failures_of_earlier_versions_are_those_of_the_training_split(tmp_path: Path) -> None:
    failures = log(tmp_path / "failures.jsonl")
    failures.restore([{"video": "a", "reason": "EMPTY_VIDEO", "message": "m"}])
    assert list(failures.failures.values()) == [Failure(video="a", reason="EMPTY_VIDEO", message="m", split="train")]


def test_a_class_is_unreadable_when_all_its_videos_are() -> None:
    samples = tuple(
        Sample(path=Path(name), name=name, labels=labels)
        for name, labels in (("x", ("run",)), ("y", ("run", "jump")), ("z", ("jump",)))
    )
    manifest = Manifest(source=Path("m.csv"), samples=samples, labels=("jump", "run", "swim"))
    assert unreadable_classes(manifest, {"x", "y"}) == ("run",)
    assert unreadable_classes(manifest, {"x"}) == ()
    assert unreadable_classes(manifest, {"x", "y", "z"}) == ("jump", "run"), "swim has no videos at all"
    assert unreadable_classes(manifest, set()) == ()


def test_other_splits_are_bounded_where_they_are_named(tmp_path: Path) -> None:
    """Failures that a checkpoint remembers count as those that are met."""
    bounded = FailureLog(tmp_path / "f.jsonl", "train", num_videos=10, max_fraction=0.5, others={"aux:web": 3})
    bounded.restore([{"video": "a", "reason": "EMPTY_VIDEO", "message": "a: empty", "split": "aux:web"}])
    bounded.record([Failure(video=v, reason="EMPTY_VIDEO", message=v, split="val") for v in "abcdefg"])
    with pytest.raises(DatasetError, match=r"2 of 3 videos of aux:web could not be read, more than the 50% allowed"):
        bounded.record([Failure(video="b", reason="EMPTY_VIDEO", message="b: empty", split="aux:web")])
