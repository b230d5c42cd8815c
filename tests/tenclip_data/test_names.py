"""The videos of a list, without labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tenclip_api.errors import DatasetError
from tenclip_data.names import read_video_names

from .files import touch, write


def names(path: Path) -> list[str]:
    return [v.name for v in read_video_names(path)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a.mp4\nc d.mp4\n"),
        ("l.txt", "# two\n\na.mp4  \n  c d.mp4\n"),
        ("l.txt", "a.mp4 0\nc d.mp4 1\n"),
        ("l.csv", "a.mp4 0\r\nc d.mp4 1\r\n"),
        ("l.csv", "a.mp4,0,5,run\nc d.mp4,0,5,jump\n"),
        ("l.csv", "label,Path\nrun,a.mp4\njump,c d.mp4\n"),
        ("l.csv", "path\na.mp4\nc d.mp4\n"),
        ("l.tsv", "video\tlabel\na.mp4\trun\nc d.mp4\thop\n"),
        ("l.json", '[{"path": "a.mp4"}, {"path": "c d.mp4"}]'),
        ("l.jsonl", '{"path": "a.mp4"}\n{"path": "c d.mp4"}'),
        ("trainlist01.txt", "x/a.mp4 1\nx/c d.mp4 1\n"),
        ("x_test_split1.txt", "a.mp4 1\nc d.mp4 0\n"),
    ],
)
def test_names_as_written_whether_the_files_are_there_or_not(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "testlist01.txt", "x/other.mp4\n")
    write(tmp_path / "y_test_split1.txt", "other.mp4 1\n")
    folder = "x/" if "list01" in name or "split1" in name else ""
    file = write(tmp_path / name, text)
    for _ in range(2):
        videos = read_video_names(file)
        assert [v.name for v in videos] == [f"{folder}a.mp4", f"{folder}c d.mp4"]
        assert [v.path for v in videos] == [tmp_path / folder / "a.mp4", tmp_path / folder / "c d.mp4"]
        touch(tmp_path / folder, "a.mp4", "c d.mp4")


def test_parts_and_repeats_are_kept(tmp_path: Path) -> None:
    videos = read_video_names(write(tmp_path / "l.txt", "a.mp4 0 5 x\na.mp4 5 9 y\n"))
    assert [(v.name, v.start_seconds, v.end_seconds) for v in videos] == [("a.mp4", 0, 5), ("a.mp4", 5, 9)]


def test_parquet_reads_only_what_names_need(tmp_path: Path) -> None:
    file = tmp_path / "l.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"File": ["a.mp4"], "features": [[1.0, 2.0]]}), file)
    assert names(file) == ["a.mp4"]


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEO_ROOT", str(tmp_path / "far"))
    (video,) = read_video_names(write(tmp_path / "l.txt", "$VIDEO_ROOT/a.mp4 3\n"))
    assert (video.name, video.path) == ("$VIDEO_ROOT/a.mp4", tmp_path / "far" / "a.mp4")


def test_uris(tmp_path: Path) -> None:
    uris = ["https://media.example/get?id=1", "https://media.example/get?id=2", "s3://bucket/a b.mp4"]
    assert names(write(tmp_path / "l.txt", "\n".join(uris))) == uris


def test_kinetics_and_epic_need_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "test/abc_000012_000022.mp4", "P01/videos/P01_11.MP4")
    kinetics = write(tmp_path / "k.csv", "youtube_id,time_start,time_end,split\nabc,12,22,test\n")
    assert names(kinetics) == ["test/abc_000012_000022.mp4"]
    epic = write(tmp_path / "e.csv", "video_id,start_timestamp,stop_timestamp\nP01_11,00:00:01,00:00:02\n")
    assert names(epic) == ["P01/videos/P01_11.MP4"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "label,thing\nrun,x\n", r"no column 'path' .*it has label, thing"),
        ("l.csv", "", "it has none"),
        ("l.csv", "path\n", "lists no videos"),
        ("l.txt", "# nothing\n", "lists no videos"),
        ("l.csv", "path,label\na.mp4,x\n,y\n", r"line 3: column 'path' is empty"),
        ("l.csv", 'path\n"a.mp4\n', "unexpected end of data"),
        ("l.txt", "frames/one 163 1\n", "rawframe list"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_video_names(write(tmp_path / name, text))


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_video_names(tmp_path / "gone.csv")
