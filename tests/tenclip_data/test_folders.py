"""Folders: classes, splits, and what is neither."""

from __future__ import annotations

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


def test_folder_without_videos(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "run/readme.txt")
    with pytest.raises(DatasetError, match="no videos in class-named sub-folders"):
        read_manifest(tmp_path)
