"""Folders: classes, splits, and what is neither."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest

from .files import touch


def test_folder_of_class_folders(tmp_path: Path) -> None:
    names = [f"{c}/{i}.mp4" for c in ("jump", "run") for i in range(5)]
    touch(tmp_path, *names, "run/notes.txt", ".cache/x.mp4", "run/deeper/9.AVI")
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("jump", "run")
    assert sorted(s.name for s in manifest.samples) == sorted([*names, "run/deeper/9.AVI"])
    assert Counter((s.labels[0], s.split) for s in manifest.samples) == {
        ("jump", "train"): 4,
        ("jump", "val"): 1,
        ("run", "train"): 5,
        ("run", "val"): 1,
    }


def test_folder_with_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4", "Validation/run/b.mp4", "test/jump/c.mp4")
    manifest = read_manifest(tmp_path)
    assert {s.name: s.split for s in manifest.samples} == {
        "train/run/a.mp4": "train",
        "Validation/run/b.mp4": "val",
        "test/jump/c.mp4": "test",
    }
    assert [s.name for s in manifest.split("test").samples] == ["test/jump/c.mp4"]
    with pytest.raises(DatasetError, match="no video in split 'trian'; its splits are"):
        manifest.split("trian")


def manifest_of(root: Path) -> dict[str, tuple[str, str]]:
    return {s.name: (s.labels[0], s.split) for s in read_manifest(root).samples}


SPLITS = ("train/run/a.mp4", "train/jump/b.mp4", "val/run/c.mp4")


@pytest.mark.parametrize(
    "extra",
    ["__MACOSX/._a.mp4", "__MACOSX/train/run/a.mp4", ".git/x.mp4", "@eaDir/run/a.mp4", ".ipynb_checkpoints/c.mp4"],
)
def test_hidden_and_system_folders_beside_splits_are_nothing(tmp_path: Path, extra: str) -> None:
    touch(tmp_path, *SPLITS, extra, "README.md")
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("jump", "run")
    assert manifest.splits == ("train", "val")
    assert manifest.warnings == ()


@pytest.mark.parametrize(
    "extra",
    ["train/run/.ipynb_checkpoints/c-checkpoint.mp4", "train/.ipynb_checkpoints/c.mp4", "train/run/._a.mp4"],
)
def test_hidden_copies_are_not_learned_from(tmp_path: Path, extra: str) -> None:
    touch(tmp_path, *SPLITS)
    touch(tmp_path, extra)
    assert set(manifest_of(tmp_path)) == set(SPLITS)


@pytest.mark.parametrize("extra", ["notes", "annotations/list.txt"])
def test_folders_without_videos_beside_splits_are_named(tmp_path: Path, extra: str) -> None:
    touch(tmp_path, *SPLITS)
    (tmp_path / extra).mkdir(parents=True) if "." not in extra else touch(tmp_path, extra)
    manifest = read_manifest(tmp_path)
    assert manifest.splits == ("train", "val")
    assert manifest.warnings == (f"{tmp_path}: no videos in {extra.split('/')[0]}/: passed over",)


@pytest.mark.parametrize("extra", ["extra/d.mp4", "extra/run/d.mp4", "run/d.mp4"])
def test_folders_with_videos_beside_splits_are_an_error(tmp_path: Path, extra: str) -> None:
    touch(tmp_path, *SPLITS, extra)
    name = extra.split("/")[0]
    with pytest.raises(DatasetError, match=rf"{name}/ \(1 video\) beside train/, val/: .*Move {name}/ out"):
        read_manifest(tmp_path)


def test_videos_in_no_class_folder_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *SPLITS, "top.mp4", "train/stray.mp4")
    manifest = read_manifest(tmp_path)
    assert len(manifest.samples) == 3
    assert manifest.warnings == (
        f"{tmp_path / 'train'}: 1 video in no class folder not used: stray.mp4",
        f"{tmp_path}: 1 video in no class folder not used: top.mp4",
    )


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/a.mp4")
    (tmp_path / "val" / "run").mkdir(parents=True)
    manifest = read_manifest(tmp_path)
    assert manifest.splits == ("train",)
    assert manifest.warnings == (f"{tmp_path}: no videos in val/: passed over",)


def test_splits_without_class_folders_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "val/b.mp4")
    with pytest.raises(DatasetError, match="train/, val/ hold videos but no class folders"):
        read_manifest(tmp_path)
    touch(tmp_path, "train/run/c.mp4")
    with pytest.raises(DatasetError, match=r"val/ holds videos in no class folder.*val/CLASS"):
        read_manifest(tmp_path)


def test_a_class_that_is_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "train/b.mp4", "boat/c.mp4", "boat/d.mp4")
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("boat", "train")
    (warning,) = manifest.warnings
    assert "train/ holds videos directly and is taken as a class" in warning


def test_two_folders_for_one_split_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, *SPLITS, "validation/run/d.mp4")
    with pytest.raises(DatasetError, match="val/ and validation/ are both 'val'"):
        read_manifest(tmp_path)


def test_one_level_too_high(tmp_path: Path) -> None:
    touch(tmp_path, "UCF-101/run/a.mp4", "UCF-101/jump/b.mp4")
    with pytest.raises(DatasetError, match=r"below UCF-101/, which would be the only class; did you mean .*UCF-101\?"):
        read_manifest(tmp_path)
    touch(tmp_path / "x", "train/train/run/a.mp4", "val/run/b.mp4")
    with pytest.raises(DatasetError, match=r"did you mean .*x/train/train\?"):
        read_manifest(tmp_path / "x")
    touch(tmp_path / "y", "videos_train/run/a.mp4", "videos_val/run/b.mp4")
    with pytest.raises(DatasetError, match="named like splits; name them train, val and test"):
        read_manifest(tmp_path / "y")


def test_subjects_below_classes_are_fine(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i:03}/v.avi" for c in ("Diving", "Golf") for i in range(3)))
    assert read_manifest(tmp_path).labels == ("Diving", "Golf")


def test_a_folder_name_is_one_label(tmp_path: Path) -> None:
    touch(tmp_path, "run;jump/a.mp4", "run;jump/b.mp4", "#fun #run/c.mp4", "a|b/d.mp4")
    assert read_manifest(tmp_path).labels == ("#fun #run", "a|b", "run;jump")


def test_folders_that_are_named_by_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{c}/{i}.mp4" for c in (1, 2, 10) for i in range(2)))
    manifest = read_manifest(tmp_path)
    assert manifest.labels == ("1", "2", "10")
    assert manifest.warnings == ()


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (b"caf\xe9.mp4", b"caf\xe8.mp4"):
        (tmp_path / "run" / os.fsdecode(name)).write_bytes(name)
    manifest = read_manifest(tmp_path)
    assert [s.name for s in manifest.samples] == ["run/caf\\xe8.mp4", "run/caf\\xe9.mp4"]
    assert [s.path.read_bytes() for s in manifest.samples] == [b"caf\xe8.mp4", b"caf\xe9.mp4"]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    touch(tmp_path / "far", "a.mp4", "b.mp4")
    (tmp_path / "videos" / "jump").mkdir(parents=True)
    touch(tmp_path / "videos", "jump/c.mp4")
    (tmp_path / "videos" / "run").symlink_to(tmp_path / "far")
    (tmp_path / "videos" / "jump" / "loop").symlink_to(tmp_path / "videos")
    names = manifest_of(tmp_path / "videos")
    assert {n for n in names if n.startswith("run/")} == {"run/a.mp4", "run/b.mp4"}


@pytest.mark.usefixtures("locked_folders")
def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/b.mp4", "run/locked/c.mp4")
    with pytest.raises(DatasetError, match="locked: cannot be listed: Permission denied"):
        read_manifest(tmp_path)
    (warning, *_) = read_manifest(tmp_path, missing="keep").warnings
    assert "locked: cannot be listed" in warning


def test_tar_files_in_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/b.mp4", "run/deep/c.tar.gz", "jump/d.mp4", "e.tgz", "notes.gz")
    warning = read_manifest(tmp_path).warnings[0]
    assert warning.startswith(f"{tmp_path}: videos in tar files are not used (e.tgz, c.tar.gz); ")
    shards = tmp_path / "shards"
    touch(shards, "train/x-000000.tar", "train/x-000001.tar")
    with pytest.raises(DatasetError, match=r"no videos in .*not used \(x-000000\.tar, x-000001\.tar\); `tenclip"):
        read_manifest(shards)
    with pytest.raises(DatasetError, match=r"not used \(e\.tgz\); .*once packed ones are unpacked to \.tar"):
        read_manifest(tmp_path / "e.tgz")


@pytest.mark.usefixtures("locked_folders")
def test_a_folder_that_cannot_be_listed_beside_a_list(tmp_path: Path) -> None:
    """Not "no videos": nobody knows."""
    touch(tmp_path, "locked/c.mp4", "videos.csv")
    with pytest.raises(DatasetError, match="locked: cannot be listed: Permission denied"):
        read_manifest(tmp_path)


def test_lists_beside_class_folders_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/b.mp4", "jump/c.mp4", "train.csv")
    assert "the lists in it (train.csv) are not used" in read_manifest(tmp_path).warnings[-1]


def test_folders_of_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "run/a/0001.jpg")
    with pytest.raises(DatasetError, match=r"it holds pictures \(.*run/a/0001\.jpg\), and tenclip reads videos"):
        read_manifest(tmp_path)


def test_folder_without_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "run/readme.txt")
    with pytest.raises(DatasetError, match="no videos in class-named sub-folders"):
        read_manifest(tmp_path)
