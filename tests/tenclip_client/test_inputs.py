"""Files, folders, patterns and manifests -> an ordered list of videos."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tenclip_api.errors import DatasetError, InvalidRequest
from tenclip_client import ServerPath, ServerUri, VideoNotFound, VideoNotReadable
from tenclip_client._inputs import expand_inputs, read_manifest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tests run: `clips/` with videos, other files, hidden ones and sub-folders."""
    names = ("b.mp4", "a.MP4", "notes.txt", ".hidden.mp4", "sub/c.webm", ".git/d.mp4", "z[1].avi", "B/e.mkv")
    for name in names:
        path = tmp_path / "clips" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"abc")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    return [v.name for v in expand_inputs(arguments)]


def test_files_in_the_order_given_and_each_once(folder: Path) -> None:
    assert names("clips/b.mp4", "gone.mp4", "clips/a.MP4", "clips/b.mp4") == ["clips/b.mp4", "gone.mp4", "clips/a.MP4"]


def test_folder(folder: Path) -> None:
    expected = ["clips/a.MP4", "clips/b.mp4", "clips/z[1].avi", "clips/B/e.mkv", "clips/sub/c.webm"]
    assert names("clips") == names("clips/") == expected


def test_named_file_needs_no_suffix(folder: Path) -> None:
    (folder / "clips" / "plain").write_bytes(b"abc")
    (video,) = expand_inputs(["clips/plain"])
    assert video.error is None


def test_a_list_that_is_named_stands_for_its_videos(folder: Path) -> None:
    (folder / "clips" / "list.txt").write_text("b.mp4 0\nsub/c.webm 1\n")
    (folder / "odd.csv").write_text("name,thing\nx,y\n")
    videos = expand_inputs(["clips/list.txt", "odd.csv", "gone.txt"])
    assert [v.name for v in videos] == ["b.mp4", "sub/c.webm", "odd.csv", "gone.txt"]
    assert [v.source for v in videos[:2]] == [Path("clips/b.mp4"), Path("clips/sub/c.webm")]
    assert "no column 'path'" in str(videos[2].error)
    assert videos[3].error is None  # opening it says that it is not there


def test_lists_beside_another_folder_of_videos(folder: Path) -> None:
    """UCF-101's lists, and those with $VIDEO_ROOT, lie apart from the videos."""
    (folder / "trainlist01.txt").write_text("sub/c.webm 1\n")
    (folder / "list.txt").write_text("$TENCLIP_TEST_UNSET/b.mp4 0\n")
    videos = expand_inputs(["trainlist01.txt", "list.txt"], videos=Path("clips"))
    assert [v.source for v in videos] == [Path("clips/sub/c.webm"), Path("clips/b.mp4")]
    assert read_manifest(folder / "trainlist01.txt", videos=Path("clips")) == videos[:1]
    with pytest.raises(DatasetError, match="gone: no such folder of videos"):
        read_manifest(folder / "list.txt", videos=Path("gone"))


def test_parts_of_videos_are_taken_whole_and_that_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "list.csv").write_text("path,start,end\nclips/b.mp4,0,1\nclips/b.mp4,1,2\nclips/a.MP4,,\n")
    assert names("list.csv") == ["clips/b.mp4", "clips/a.MP4"]
    assert caplog.messages == ["list.csv: 2 rows mark parts of a video (start, end); whole videos are taken, each once"]


def test_patterns(folder: Path) -> None:
    assert names("clips/*.mp4") == ["clips/b.mp4"]
    assert names("clips/**/*.[mw]*") == ["clips/B/e.mkv", "clips/b.mp4", "clips/sub/c.webm"]
    # A name with brackets that is there is a name, not a pattern.
    assert names("clips/z[1].avi") == ["clips/z[1].avi"]


def test_what_cannot_be_expanded_stays_in_its_place(folder: Path) -> None:
    videos = expand_inputs(["empty", "clips/b.mp4", "*.mov"])
    assert [v.name for v in videos] == ["empty", "clips/b.mp4", "*.mov"]
    assert isinstance(videos[0].error, VideoNotFound)
    assert "no video files" in str(videos[0].error)
    assert videos[1].error is None
    assert str(videos[2].error) == "*.mov: matches no file"


def test_tar_files_in_a_folder_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "clips/more.tar.gz").touch()
    (folder / "empty/only.tar").touch()
    assert all(video.error is None for video in expand_inputs(["clips"]))
    (said,) = caplog.messages
    assert said.startswith("clips: videos in tar files are not used (more.tar.gz); `tenclip batch` reads them")
    (video,) = expand_inputs(["empty"])
    assert isinstance(video.error, VideoNotFound)
    assert "empty: no video files below it" in video.error.message
    assert "not used (only.tar)" in video.error.message


def test_a_uri_names_the_option_that_it_needs(folder: Path) -> None:
    first, second = expand_inputs(["https://media.example/a.mp4?sig=secret", "clips/b.mp4"])
    assert isinstance(first.error, InvalidRequest)
    assert "https://media.example/a.mp4: a URI is for the server to fetch: give --server-path" in str(first.error)
    assert "secret" not in f"{first.error} {first.name}"
    assert second.error is None


def test_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listdir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr("os.scandir", refuse)
    videos = expand_inputs(["clips"])
    assert isinstance(videos[0].error, VideoNotReadable)
    assert len(videos) == 5


def test_server_paths_are_left_alone(folder: Path) -> None:
    videos = expand_inputs(["clips", "*.mp4", "a b/c.mp4"], server_paths=True)
    assert [v.source for v in videos] == [ServerPath("clips"), ServerPath("*.mp4"), ServerPath("a b/c.mp4")]


def test_names_that_are_no_utf8(folder: Path) -> None:
    (folder / "clips" / os.fsdecode(b"\xe9.mp4")).write_bytes(b"abc")
    (video,) = expand_inputs(["clips/*\udce9*"])
    assert video.name == r"clips/\xe9.mp4"
    assert isinstance(video.source, Path)
    assert video.source.exists()


def test_names_that_differ_in_bytes_that_are_no_utf8_are_two_videos(folder: Path) -> None:
    for raw in (b"\xe9.mp4", b"\xe8.mp4"):
        (folder / "clips" / os.fsdecode(raw)).write_bytes(b"abc")
    videos = [v for v in expand_inputs(["clips"]) if "\\" in v.name]
    assert [v.name for v in videos] == [r"clips/\xe8.mp4", r"clips/\xe9.mp4"]
    assert [os.fsencode(v.source) for v in videos if isinstance(v.source, Path)] == [
        b"clips/\xe8.mp4",
        b"clips/\xe9.mp4",
    ]


def test_patterns_find_no_system_files_unless_they_are_named(folder: Path) -> None:
    for name in ("clips/__MACOSX/b.mp4", "clips/@eaDir/b.mp4"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"abc")
    assert names("clips/**/b.mp4") == ["clips/b.mp4"]
    assert names("clips/__MACOSX/*.mp4") == ["clips/__MACOSX/b.mp4"]


def test_linked_folders_are_searched(folder: Path) -> None:
    (folder / "linked").symlink_to("clips/sub")
    assert names("linked") == ["linked/c.webm"]
    (folder / "clips" / "sub" / "loop").symlink_to("..")
    assert "clips/sub/c.webm" in names("clips")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "label,path\nrun,a.mp4\nhop,sub/b.mp4\n"),
        ("list.csv", '\ufeffpath ,"label"\r\n"a.mp4","run, fast"\r\n"sub/b.mp4",""\r\n'),
        ("list.tsv", "video\tlabel\na.mp4\trun\nsub/b.mp4\thop\na.mp4\trun\n"),
        ("list.txt", "# two videos\n\na.mp4  \n  sub/b.mp4\n"),
        ("list.txt", "a.mp4 0\nsub/b.mp4 1\na.mp4 1\n"),
        ("list.csv", "a.mp4 0 10 run\r\nsub/b.mp4 2 5.5 jump\r\n"),
        ("train.csv", "Path;Label\na.mp4;run\nsub/b.mp4;hop\n"),
        ("list.json", '[{"path": "a.mp4"}, {"path": "sub/b.mp4"}]'),
    ],
)
def test_manifests(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    videos = read_manifest(path)
    assert [v.name for v in videos] == ["a.mp4", "sub/b.mp4"]
    assert [v.source for v in videos] == [tmp_path / "a.mp4", tmp_path / "sub/b.mp4"]
    assert [v.source for v in read_manifest(path, server_paths=True)] == [ServerPath("a.mp4"), ServerPath("sub/b.mp4")]


def test_parquet_manifest(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"label": ["run", "hop"], "path": ["a.mp4", "/data/b.mp4"]}), path)
    assert [v.source for v in read_manifest(path)] == [tmp_path / "a.mp4", Path("/data/b.mp4")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"label,thing\nrun,x\n", "no column 'path' .* it has label, thing"),
        ("list.csv", b"", r"it has none"),
        ("list.csv", b"path\n", "lists no videos"),
        ("list.csv", b"path,label\na.mp4,x\n,y\n", "line 3: column 'path' is empty"),
        ("list.csv", b'path\n"a.mp4\n', "cannot be read as CSV"),
        ("list.csv", b"path\n\xff\xfe\n", "line 2: cannot be read as text in UTF-8"),
        ("list.txt", b"# nothing\n", "lists no videos"),
        ("list.txt", b"\xff.mp4\n", "cannot be read as text in UTF-8"),
        ("list.parquet", b"PAR1 not really", "cannot be read as Parquet"),
        ("list.json", b"[]", "not a manifest that tenclip reads: holds an empty list"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


def test_parquet_manifest_without_paths(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["a.mp4", None]}), path)
    with pytest.raises(DatasetError, match="row 2: column 'path' is empty"):
        read_manifest(path)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "gone.csv")


def test_what_the_server_opens_is_a_path_or_a_uri(tmp_path: Path) -> None:
    names = ["a.mp4", "https://media.example/get?id=1", "https://media.example/get?id=2", "s3://bucket/a.mp4"]
    expected = [ServerPath(names[0]), *map(ServerUri, names[1:])]
    assert [v.source for v in expand_inputs(names, server_paths=True)] == expected
    manifest = tmp_path / "videos.txt"
    manifest.write_text("\n".join(names))
    assert [v.source for v in read_manifest(manifest, server_paths=True)] == expected
