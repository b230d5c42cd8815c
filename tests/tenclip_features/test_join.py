"""Which labels and groups the clips of a table have."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import Manifest, Sample, read_manifest
from tenclip_data.scan import printable_name
from tenclip_features.join import label_clips, match_videos, mean_by_group
from tenclip_features.names import path_of_name
from tenclip_features.table import read_feature_table

from .tables import row, write_labels, write_table


def test_clips_find_their_labels_by_file_by_name_or_by_ending(tmp_path: Path) -> None:
    labels = [("x/1.mp4", "a", "train"), ("x/2.mp4", "b", "train"), ("y/2.mp4", "a", "train"), ("z/3.mp4", "a", "test")]
    manifest = write_labels(tmp_path / "m.csv", labels)
    names = [str(tmp_path / "x/1.mp4"), "elsewhere/x/2.mp4", "2.mp4", "z/3.mp4", "other.mp4"]
    table = read_feature_table([write_table(tmp_path / "f.parquet", [row(n, 0, [i]) for i, n in enumerate(names)])])
    train = label_clips(table, manifest, "train")
    # "2.mp4" could be two of them, so it is neither.
    assert train.names == ("x/1.mp4", "x/2.mp4")
    assert train.features[:, 0].tolist() == [0, 1]
    assert train.labels == (("a",), ("b",))
    assert (train.videos_asked, train.without_features) == (3, ("y/2.mp4",))
    assert label_clips(table, manifest, "test").names == ("z/3.mp4",)


@pytest.mark.parametrize(
    ("listed", "videos", "chosen"),
    [
        ("archery/001.mp4", ["{root}/archery/001.mp4", "/k/bowling/001.mp4", "test/archery/001.mp4"], 0),
        ("archery/001.mp4", ["/k/bowling/001.mp4", "/k/archery/001.mp4", "/k/001.mp4"], 1),
        ("all/archery/001.mp4", ["/k/archery/001.mp4", "/k/all/archery/001.mp4"], 1),
        ("archery/001.mp4", ["/k/archery/001.mp4", "/l/archery/001.mp4", "/k/bowling/001.mp4"], None),
        ("001.mp4", ["/k/archery/001.mp4", "/k/bowling/001.mp4"], None),
        ("001.mp4", ["/k/archery/001.mp4", "/k/bowling/../archery/001.mp4"], 0),
    ],
)
def test_a_sample_is_one_video(tmp_path: Path, listed: str, videos: list[str], chosen: int | None) -> None:
    """Of videos whose paths end alike the others are strangers; where it could be several, it is none."""
    names = [v.format(root=tmp_path) for v in videos]
    samples = (Sample(path=tmp_path / listed, name=listed, labels=("archery",)),)
    for order in (names, names[::-1]):
        wanted = [] if chosen is None else [v for v in order if Path(v).resolve() == Path(names[chosen]).resolve()]
        assert list(match_videos(order, samples)) == wanted


def test_clips_of_strangers_are_in_no_sample(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "m.csv", [("archery/001.mp4", "a", "train"), ("x/2.mp4", "b", "train")])
    names = [str(tmp_path / "archery/001.mp4"), "/k/bowling/001.mp4", "test/archery/001.mp4", "/k/2.mp4", "/l/2.mp4"]
    table = read_feature_table([write_table(tmp_path / "f.parquet", [row(n, 0, [i]) for i, n in enumerate(names)])])
    clips = label_clips(table, manifest, "train")
    assert clips.names == ("archery/001.mp4",)
    assert clips.features[:, 0].tolist() == [0]
    assert clips.without_features == ("x/2.mp4",)


def test_clips_go_to_the_part_that_holds_their_middle(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,label,start,end,split\nv.mp4,a,0,2,train\nv.mp4,b,2,4,train\n")
    table = read_feature_table([write_table(tmp_path / "f.parquet", [row("v.mp4", i, [i]) for i in range(6)])])
    clips = label_clips(table, read_manifest(path, missing="keep"), "train")
    assert clips.names == ("v.mp4[0:2]", "v.mp4[2:4]")
    assert clips.samples.tolist() == [0, 0, 1, 1]
    assert clips.video_features()[:, 0].tolist() == [0.5, 2.5]


def test_nothing_in_common(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "m.csv", [("x.mp4", "a", "train")])
    table = read_feature_table([write_table(tmp_path / "f.parquet", [row("y.mp4", 0, [1])])])
    with pytest.raises(DatasetError, match=r"none of its videos \(y\.mp4, \.\.\.\) is in split 'train'"):
        label_clips(table, manifest, "train")


def test_mean_by_group() -> None:
    means = mean_by_group(np.array([[1, 2], [3, 4], [9, 9]], np.float32), np.array([1, 1, 0]), 2)
    assert means.tolist() == [[9, 9], [2, 3]]


def test_all_splits_and_a_part_of_them(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "m.csv", [(f"{i}.mp4", "ab"[i % 2], "train") for i in range(4)])
    table = read_feature_table(
        [write_table(tmp_path / "f.parquet", [row(f"{i}.mp4", k, [10 * i + k]) for i in range(4) for k in range(2)])]
    )
    clips = label_clips(table, manifest, None)
    part = clips.select([3, 1])
    assert part.names == ("1.mp4", "3.mp4")
    assert part.features[:, 0].tolist() == [10, 11, 30, 31]
    assert part.samples.tolist() == [0, 0, 1, 1]
    assert part.groups == (str(tmp_path / "1.mp4"), str(tmp_path / "3.mp4"))


def test_groups_are_files_or_what_a_column_says(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("path,label,start,end,split,source\nv.mp4,a,0,2,train,x\nv.mp4,b,2,4,train,x\nw.mp4,b,,,train,y\n")
    manifest = read_manifest(path, missing="keep")
    table = read_feature_table(
        [write_table(tmp_path / "f.parquet", [row("v.mp4", i, [i]) for i in range(4)] + [row("w.mp4", 0, [9])])]
    )
    v, w = str(tmp_path / "v.mp4"), str(tmp_path / "w.mp4")
    assert label_clips(table, manifest, None).groups == (v, v, w), "parts of one file belong together"
    assert label_clips(table, manifest, None, group_column="source").groups == ("x", "x", "y")
    with pytest.raises(DatasetError, match=r"no column 'person' to group videos by; it has source"):
        label_clips(table, manifest, None, group_column="person")
    path.write_text("path,label,split,source\nv.mp4,a,train,\nw.mp4,b,train,y\n")
    with pytest.raises(DatasetError, match=r"line 2 \(v\.mp4\): column 'source' is empty"):
        label_clips(table, read_manifest(path, missing="keep"), None, group_column="source")


def test_names_that_stand_for_other_bytes(tmp_path: Path) -> None:
    files = [os.fsdecode(name) for name in (b"caf\xe9.mp4", b"caf\xe8.mp4", b"caf\\xe9.mp4")]
    samples = tuple(Sample(path=tmp_path / f, name=f, labels=("a",)) for f in files)
    written = [r"clips/caf\xe9.mp4", r"clips/caf\xe8.mp4", r"clips/caf\\xe9.mp4"]
    assert {v: s[0].name for v, s in match_videos(written, samples).items()} == dict(zip(written, files, strict=True))
    assert Manifest(source=tmp_path, samples=samples, labels=("a",)).labels == ("a",)


@given(st.binary(min_size=1, max_size=12).filter(lambda b: b"\0" not in b))
def test_every_name_is_the_way_to_one_path(raw: bytes) -> None:
    path = Path(os.fsdecode(raw))
    assert path_of_name(printable_name(path)) == path


@pytest.mark.parametrize("raw", [b"caf\xe9", rb"caf\xe9", b"\\\xe9", rb"\\xe9", rb"a\b", b"\xe9\\xe9", "é".encode()])
def test_names_that_are_nearly_escaped(raw: bytes) -> None:
    path = Path(os.fsdecode(raw))
    assert os.fsencode(path_of_name(printable_name(path))) == raw
