"""Which files of a folder are videos: the rules that every command shares."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_data.scan import (
    SYSTEM_NAMES,
    VIDEO_SUFFIXES,
    Scan,
    data_folders,
    is_data_name,
    printable_name,
    scan_folder,
    tar_notes,
)

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs names and links of Unix")


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")


def found(folder: Path) -> list[str]:
    scan = scan_folder(folder)
    assert scan.problems == ()
    return [path.relative_to(folder).as_posix() for path in scan.videos]


def test_files_come_before_subfolders_each_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b.mp4", "a.MP4", "z/1.avi", "B/2.mkv", "z/deep/er/3.WebM", "notes.txt", "mp4", "a.mp4.part")
    assert found(tmp_path) == ["a.MP4", "b.mp4", "B/2.mkv", "z/1.avi", "z/deep/er/3.WebM"]


def test_paths_begin_with_the_folder_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "clips/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert scan_folder("clips").videos == (Path("clips/a.mp4"),)
    assert scan_folder("./clips/").videos == (Path("clips/a.mp4"),)
    assert scan_folder(tmp_path).videos == (tmp_path / "clips/a.mp4",)


@pytest.mark.parametrize("name", [".git", ".ipynb_checkpoints", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found"])
def test_what_systems_leave_behind_is_no_data(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.mp4", f"{name.upper()}_/b.mp4", "._c.avi", ".hidden.mp4")
    expected = [] if name.startswith(".") else [f"{name.upper()}_/b.mp4"]
    assert found(tmp_path) == expected


@pytest.mark.parametrize("name", [".cache", "__MACOSX"])
def test_the_folder_that_is_named_is_searched_whatever_its_name(tmp_path: Path, name: str) -> None:
    make(tmp_path, f"{name}/a.mp4")
    assert found(tmp_path / name) == ["a.mp4"]


def test_system_names_whatever_their_case() -> None:
    for name in SYSTEM_NAMES:
        assert not is_data_name(name)
        assert not is_data_name(name.upper())
    assert is_data_name("train")


def test_other_suffixes(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "b.npy")
    assert scan_folder(tmp_path, suffixes={".npy"}).videos == (tmp_path / "b.npy",)
    assert ".mp4" in VIDEO_SUFFIXES


def test_empty_folder(tmp_path: Path) -> None:
    assert scan_folder(tmp_path) == Scan(())


@pytest.mark.parametrize("name", ["gone", "file.mp4"])
def test_what_is_no_folder_is_a_problem(tmp_path: Path, name: str) -> None:
    make(tmp_path, "file.mp4")
    (problem,) = scan_folder(tmp_path / name).problems
    assert problem.path == tmp_path / name
    assert str(problem).startswith(f"{tmp_path / name}: cannot be listed: ")


@pytest.mark.usefixtures("locked_folders")
def test_folder_that_cannot_be_listed_is_reported_beside_the_others(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "locked/b.mp4", "open/c.mp4")
    scan = scan_folder(tmp_path)
    assert scan.videos == (tmp_path / "a.mp4", tmp_path / "open/c.mp4")
    assert [(p.path, p.reason) for p in scan.problems] == [(tmp_path / "locked", "Permission denied")]


def test_tar_files_are_reported_beside_the_videos(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "b.tar", "c/d.TAR.GZ", "c/e.tgz", "c/f.gz", "c/g.tar.idx", ".h.tar", "c/i.tar.zst")
    scan = scan_folder(tmp_path)
    assert scan.videos == (tmp_path / "a.mp4",)
    assert [p.name for p in scan.tars] == ["b.tar", "d.TAR.GZ", "e.tgz", "i.tar.zst"]
    (note,) = scan.notes(tmp_path)
    assert note.startswith(f"{tmp_path}: videos in tar files are not used (b.tar, d.TAR.GZ, e.tgz, i.tar.zst); ")
    assert note.endswith("training does after `tenclip shards index`, once packed ones are unpacked to .tar")
    (note,) = tar_notes(tmp_path, scan.tars[:1])
    assert note.endswith("`tenclip batch` reads them, and training does after `tenclip shards index`")
    assert tar_notes(tmp_path, ()) == []


@unix_only
def test_links_are_followed(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/x.mp4", "elsewhere/sub/y.mp4", "elsewhere/plain.bin", "data/a.mp4")
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "data/b.mp4").symlink_to(tmp_path / "elsewhere/plain.bin")
    assert found(tmp_path / "data") == ["a.mp4", "b.mp4", "link/x.mp4", "link/sub/y.mp4"]


@unix_only
def test_each_real_folder_once_so_loops_end(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "a/b/2.mp4", "c/3.mp4")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "a/b/top").symlink_to("../..")
    (tmp_path / "d").symlink_to("c")
    (tmp_path / "self").symlink_to("self")
    assert found(tmp_path) == ["a/1.mp4", "a/b/2.mp4", "c/3.mp4"]
    (tmp_path / "C").symlink_to("c")  # the name that comes first leads there
    assert found(tmp_path) == ["C/3.mp4", "a/1.mp4", "a/b/2.mp4"]


@unix_only
def test_a_video_behind_a_broken_link_stays_for_its_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to("gone.mp4")
    (tmp_path / "b.mp4").symlink_to("b.mp4")
    (tmp_path / "notes").symlink_to("gone")
    assert found(tmp_path) == ["a.mp4", "b.mp4"]


@unix_only
def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    raw = [b"a\xe9.mp4", b"a\xe8.mp4", "aé.mp4".encode(), b"\xff/b.avi"]
    for name in raw:
        make(tmp_path, os.fsdecode(name))
    videos = scan_folder(tmp_path).videos
    assert [os.fsencode(v)[len(os.fsencode(tmp_path)) + 1 :] for v in videos] == [raw[2], raw[1], raw[0], raw[3]]
    assert [printable_name(v.name) for v in videos] == ["aé.mp4", r"a\xe8.mp4", r"a\xe9.mp4", "b.avi"]


def test_data_folders(tmp_path: Path) -> None:
    make(tmp_path, "run/a.mp4", "hop/b.mp4", ".ipynb_checkpoints/c.mp4", "__MACOSX/d.mp4", "e.mp4")
    (tmp_path / "empty").mkdir()
    assert [f.name for f in data_folders(tmp_path)] == ["empty", "hop", "run"]
    with pytest.raises(FileNotFoundError):
        data_folders(tmp_path / "gone")


@given(st.text().map(lambda t: t.encode("utf-8", "ignore").decode()))
def test_valid_names_are_printed_as_they_are(name: str) -> None:
    if r"\x" not in name:
        assert printable_name(name) == name


ODD = st.lists(st.sampled_from([b"\\", b"x", b"8", b"f", b"\xff", b"\x8f", "é".encode()]), max_size=8).map(b"".join)


@given(ODD, ODD)
@unix_only
def test_different_names_are_printed_differently(a: bytes, b: bytes) -> None:
    shown = printable_name(os.fsdecode(a)), printable_name(os.fsdecode(b))
    assert (shown[0] == shown[1]) == (a == b)
    "".join(shown).encode()  # raises for what no encoder takes


def test_half_of_a_pair_is_printed_too() -> None:
    assert printable_name("\ud83d.mp4") == r"\ud83d.mp4"
