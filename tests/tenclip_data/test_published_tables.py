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


@pytest.mark.parametrize("name", ["val/abc_000012_000022.mp4", "videos_val/air drumming/abc_000012_000022.MP4"])
@pytest.mark.parametrize("split", ["validate", "val"])
def test_kinetics_names_of_splits(tmp_path: Path, name: str, split: str) -> None:
    touch(tmp_path, name)
    file = write(tmp_path / "k.csv", KINETICS.upper() + f"air drumming,abc,12,22,{split}\n")
    (sample,) = read_manifest(file).samples
    assert (sample.name, sample.split) == (name, "val")


def test_kinetics_without_splits_is_the_split_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "val/abc_000012_000022.mp4")
    file = write(tmp_path / "kinetics_val.csv", "label,youtube_id,time_start,time_end\na;b,abc,12.0,22.0\n")
    (sample,) = read_manifest(file).samples
    assert (sample.name, sample.split, sample.labels) == ("val/abc_000012_000022.mp4", "val", ("a;b",))


def test_kinetics_without_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "k.csv", "youtube_id,time_start,time_end,split\nabc,12,22,test\n")
    with pytest.raises(DatasetError, match="no column 'label'; it has youtube_id"):
        read_manifest(file)


EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]\n"
    "P01_01_1,P01,P01_01,00:00:02.629,00:01:04.37,01:00:06.17,262,370,turn on light,turn-on,6,light,114,"
    "\"['light', 'tap']\",\"[114, 7]\"\n"
)


@pytest.mark.parametrize("place", ["P01/videos/P01_01.MP4", "P01/P01_01.mp4", "videos/P01_01.mkv", "P01_01.avi"])
@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("verb", [("open",), ("turn-on",)]),
        ("noun_class", [("3",), ("114",)]),
        ("narration", [("open door",), ("turn on light",)]),
        ("all_nouns", [("door",), ("light", "tap")]),
        ("All_Noun_Classes", [("3",), ("114", "7")]),
    ],
)
def test_epic_kitchens(tmp_path: Path, place: str, column: str, labels: list[tuple[str, ...]]) -> None:
    touch(tmp_path, place)
    manifest = read_manifest(write(tmp_path / "EPIC_100_validation.csv", EPIC), label_column=column)
    first, second = manifest.samples
    assert [s.labels for s in manifest.samples] == labels
    assert (first.name, first.split) == (place, "val")
    assert (first.start_seconds, first.end_seconds) == (0.14, 3.37)
    assert (second.start_seconds, second.end_seconds) == (64.37, 3606.17)
    assert manifest.warnings == ()


def test_epic_kitchens_needs_the_column_to_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "EPIC_100_train.csv", EPIC)
    with pytest.raises(DatasetError, match="name one as the label column: verb, noun, verb_class, noun_class, n"):
        read_manifest(file)
    with pytest.raises(DatasetError, match=r"no column 'vreb'; it has narration_id"):
        read_manifest(file, label_column="vreb")
    with pytest.raises(DatasetError, match=r"line 2 \(P01/videos/P01_01\.MP4\): no such file"):
        read_manifest(file, label_column="verb")


def test_epic_kitchens_with_its_file_of_verbs(tmp_path: Path) -> None:
    touch(tmp_path, "P01/videos/P01_01.MP4")
    verbs = "id,key,instances,category\n" + "".join(f"{i},verb {i},\"['a', 'b']\",x\n" for i in range(97))
    classes = write(tmp_path / "EPIC_100_verb_classes.csv", verbs)
    file = write(tmp_path / "EPIC_100_validation.csv", EPIC)
    manifest = read_manifest(file, label_column="verb_class", labels=classes)
    assert [s.labels for s in manifest.samples] == [("verb 3",), ("verb 6",)]
    assert len(manifest.labels) == 97
