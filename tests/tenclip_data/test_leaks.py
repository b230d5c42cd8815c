"""The same video in two splits, under whatever name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import DatasetError
from tenclip_data.leaks import FileFacts, check_leaks
from tenclip_data.manifest import Manifest, Sample, read_manifest

from .files import touch, write


def table(folder: Path, *rows: str, columns: str = "path,label,split") -> Path:
    return write(folder / "m.csv", "\n".join((columns, *rows)) + "\n")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    touch(tmp_path, "a.mp4", "b.mp4", "sub/c.mp4")
    return tmp_path


@pytest.mark.parametrize("other", ["./a.mp4", "sub/../a.mp4", "link.mp4", "hard.mp4", "folder_link/a.mp4", "ABSOLUTE"])
@pytest.mark.parametrize("split", ["val", "test", "fold2"])
def test_one_file_under_two_names_in_two_splits(videos: Path, other: str, split: str) -> None:
    (videos / "link.mp4").symlink_to("a.mp4")
    os.link(videos / "a.mp4", videos / "hard.mp4")
    (videos / "folder_link").symlink_to(".")
    other = str(videos / "a.mp4") if other == "ABSOLUTE" else other
    file = table(videos, "a.mp4,run,train", "b.mp4,run,train", f"{other},run,{split}")
    with pytest.raises(DatasetError) as caught:
        read_manifest(file)
    message = str(caught.value)
    assert f"{file}: the same video is in two splits" in message
    assert f"line 2 (a.mp4) in 'train' and {file}, line 4 ({other}) in {split!r}" in message
    (warning,) = read_manifest(file, leaks="warn").warnings
    assert "line 2 (a.mp4) in 'train'" in warning
    assert read_manifest(file, leaks="allow").warnings == ()


def test_the_same_row_in_two_splits(videos: Path) -> None:
    file = table(videos, "a.mp4,run,train", "a.mp4,run,val")
    with pytest.raises(DatasetError, match=r"line 2 \(a\.mp4\) in 'train' and .*line 3 \(a\.mp4\) in 'val'"):
        read_manifest(file)


@pytest.mark.parametrize("splits", [("val", "test"), ("test", "test_hard"), ("validation", "eval2")])
def test_between_splits_that_are_both_held_out_it_is_a_warning(videos: Path, splits: tuple[str, str]) -> None:
    file = table(videos, "b.mp4,run,train", f"a.mp4,run,{splits[0]}", f"./a.mp4,run,{splits[1]}")
    (warning,) = read_manifest(file).warnings
    assert "line 3 (a.mp4) in" in warning


def test_unused_videos_of_hmdb_are_left_alone(videos: Path) -> None:
    assert read_manifest(table(videos, "b.mp4,run,train", "a.mp4,run,unused", "./b.mp4,run,unused")).warnings == ()


def test_copies_are_named(videos: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(videos, "x.mp4")  # of equal size and other content
    (videos / "copy.mp4").write_bytes((videos / "a.mp4").read_bytes())
    file = table(videos, "a.mp4,run,train", "x.mp4,run,val", "copy.mp4,run,val", "b.mp4,run,train")
    (warning,) = read_manifest(file).warnings
    assert "copy of equal content in another split" in warning
    assert f"{file}, line 2 (a.mp4) in 'train' and {file}, line 4 (copy.mp4) in 'val'" in warning
    assert [r.getMessage() for r in caplog.records] == [warning]
    assert read_manifest(file, leaks="allow").warnings == ()


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_copies_are_compared_whole(videos: Path, place: int) -> None:
    content = bytearray(os.urandom(100_000))
    (videos / "a.mp4").write_bytes(content)
    content[place] ^= 1
    (videos / "b.mp4").write_bytes(content)
    assert read_manifest(table(videos, "a.mp4,run,train", "b.mp4,run,val")).warnings == ()


def test_empty_files_are_no_copies(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    assert read_manifest(table(tmp_path, "a.mp4,run,train", "b.mp4,run,val")).warnings == ()


def test_missing_files_are_known_by_their_paths(tmp_path: Path) -> None:
    file = table(tmp_path, "gone.mp4,run,train", "./gone.mp4,run,val")
    with pytest.raises(DatasetError, match="in two splits"):
        read_manifest(file, missing="keep")


PARTS = "path,label,split,start,end"


def test_parts_that_overlap(videos: Path) -> None:
    file = table(videos, "a.mp4,run,train,0,5", "a.mp4,run,train,9,12", "./a.mp4,run,val,10,", columns=PARTS)
    with pytest.raises(DatasetError, match=r"line 3 \(a\.mp4\)\[9:12\] in 'train' and .*\(\./a\.mp4\)\[10:\] in 'val'"):
        read_manifest(file)


def test_parts_that_only_touch_are_a_warning(videos: Path) -> None:
    file = table(videos, "a.mp4,run,train,0,5", "a.mp4,run,val,5,9", columns=PARTS)
    (warning,) = read_manifest(file).warnings
    assert "parts in two splits, which do not overlap" in warning
    assert "line 2 (a.mp4)[0:5] in 'train'" in warning


def test_a_video_twice_in_one_split_under_two_names(videos: Path) -> None:
    (videos / "link.mp4").symlink_to("a.mp4")
    file = table(videos, "a.mp4,run,train", "link.mp4,run,train", "b.mp4,run,val")
    (warning,) = read_manifest(file).warnings
    assert "under two names in one split" in warning
    assert "line 3 (link.mp4)" in warning


def test_many_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.mp4" for i in range(9)))
    rows = [f"{dot}{i}.mp4,run,{split}" for dot, split in (("", "train"), ("./", "val")) for i in range(9)]
    with pytest.raises(DatasetError, match="; and 6 more"):
        read_manifest(table(tmp_path, *rows))


# -- folders, and what is held out of them --


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "train/run/c.mp4", "val/run/b.mp4")
    (tmp_path / "val/run/again.mp4").symlink_to(tmp_path / "train/run/a.mp4")
    with pytest.raises(DatasetError, match=r"train/run/a\.mp4 in 'train' and val/run/again\.mp4 in 'val'"):
        read_manifest(tmp_path)


def test_a_split_that_is_a_link_to_another(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4")
    (tmp_path / "val").symlink_to("train")
    with pytest.raises(DatasetError, match="in two splits"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_copies_and_links_are_held_out_together(tmp_path: Path, seed: int) -> None:
    touch(tmp_path, *(f"run/{i}.mp4" for i in range(6)))
    for i in range(6):
        (tmp_path / f"run/{i}_copy.mp4").write_bytes((tmp_path / f"run/{i}.mp4").read_bytes())
        (tmp_path / f"run/{i}_link.mp4").symlink_to(f"{i}.mp4")
    manifest = read_manifest(tmp_path, held_out=0.4, seed=seed)
    splits = [{s.split for s in manifest.samples if s.path.name.startswith(str(i))} for i in range(6)]
    assert all(len(s) == 1 for s in splits)
    assert {s for found in splits for s in found} == {"train", "val"}


def test_copies_alone_leave_nothing_to_hold_out(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes(b"same")
    with pytest.raises(DatasetError, match=r"single video \(copies of one video count as one\)"):
        read_manifest(tmp_path)


# -- overlaps --

_PART = st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda t: (float(t[0]), float(t[0] + t[1])))


@given(train=st.lists(_PART, min_size=1, max_size=6), val=st.lists(_PART, min_size=1, max_size=6))
def test_an_overlap_is_found_exactly_where_there_is_one(
    train: list[tuple[float, float]], val: list[tuple[float, float]]
) -> None:
    path = Path("a.mp4")
    samples = tuple(
        Sample(path=path, name="a.mp4", labels=("x",), split=split, start_seconds=a, end_seconds=b, line=1)
        for split, parts in (("train", train), ("val", val))
        for a, b in parts
    )
    manifest = Manifest(source=Path("m.csv"), samples=samples, labels=("x",))
    facts = {path: FileFacts("one", 1)}
    overlapping = any(a < d and c < b for a, b in train for c, d in val)
    if overlapping:
        with pytest.raises(DatasetError, match="in two splits"):
            check_leaks(manifest.source, samples, facts, "error")
    else:
        warnings = check_leaks(manifest.source, samples, facts, "error")
        assert any("do not overlap" in w for w in warnings)
