from __future__ import annotations

import os
from pathlib import Path

import pytest

from tenclip_api.errors import DatasetError
from tenclip_training.curation.video_sets import SetVideo, read_set, same_files


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_a_folder_at_any_depth(tmp_path: Path) -> None:
    videos, notes = read_set(touch(tmp_path, "a.mp4", "x/b.avi", "x/y/c.webm", "x/notes.txt", ".hidden.mp4"))
    assert [v.name for v in videos] == ["a.mp4", "x/b.avi", "x/y/c.webm"]
    assert notes == []


def test_a_list_with_parts(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    table = tmp_path / "t.csv"
    table.write_text("path,label,start_seconds,end_seconds\na.mp4,x,0,2\na.mp4,x,2,4.5\na.mp4,x,0,2\n")
    videos, notes = read_set(table)
    assert [v.name for v in videos] == ["a.mp4[0:2]", "a.mp4[2:4.5]"]
    assert videos[1].key == f"{tmp_path / 'a.mp4'}[2:4.5]"
    assert "1 videos are listed more than once" in notes[0]


def test_one_video_and_a_plain_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    assert [v.name for v in read_set(tmp_path / "a.mp4")[0]] == ["a.mp4"]
    (tmp_path / "l.txt").write_text("a.mp4\nb.mp4\n")
    assert [v.path for v in read_set(tmp_path / "l.txt")[0]] == [tmp_path / "a.mp4", tmp_path / "b.mp4"]


def test_what_holds_no_videos(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no videos"):
        read_set(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_set(tmp_path / "none.csv")


def test_the_same_file_under_other_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    os.symlink(tmp_path / "a.mp4", tmp_path / "soft.mp4")
    one = [SetVideo(name=n, path=tmp_path / n) for n in ("hard.mp4", "soft.mp4", "b.mp4", "gone.mp4")]
    other = [SetVideo(name="a.mp4", path=tmp_path / "a.mp4"), SetVideo(name="g", path=tmp_path / "gone.mp4")]
    assert same_files(one, other) == 3
    assert same_files([SetVideo(name="p", path=tmp_path / "a.mp4", start_seconds=1.0)], other) == 0
