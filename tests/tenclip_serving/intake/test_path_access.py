from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest, NotAFile, PathNotAllowed, TenclipError, VideoNotFound, VideoNotReadable
from tenclip_serving.intake import path_access as sources
from tenclip_serving.intake.path_access import OpenFile, open_path


def resolved(path: str, roots: Sequence[Path]) -> Path:
    """The file that is opened, without symlinks."""
    opened = open_path(path, roots)
    try:
        return Path(os.readlink(f"/proc/self/fd/{opened.descriptor}"))
    finally:
        opened.close()


def test_absolute_and_relative(videos: Path) -> None:
    expected = (videos / "colors.mp4").resolve()
    assert resolved(str(videos / "colors.mp4"), [videos]) == expected
    assert resolved("colors.mp4", [videos]) == expected
    assert resolved("./folder.mp4/../colors.mp4", [videos]) == expected


def test_a_link_that_stays_inside_is_followed(videos: Path) -> None:
    assert resolved("alias.mp4", [videos]) == (videos / "colors.mp4").resolve()


def test_relative_paths_are_looked_up_below_each_root(videos: Path, tmp_path: Path) -> None:
    assert resolved("colors.mp4", [tmp_path, videos]) == (videos / "colors.mp4").resolve()


def test_a_root_may_be_a_link_itself(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(videos)
    assert resolved(str(tmp_path / "link" / "colors.mp4"), [tmp_path / "link"]).name == "colors.mp4"
    assert resolved(str(videos / "colors.mp4"), [tmp_path / "link"]).name == "colors.mp4"


@pytest.mark.parametrize(
    "path",
    [
        "../outside0/secret.mp4",
        "..",
        "/etc/passwd",
        "leak.mp4",
        "leak/secret.mp4",
        "leak/../../etc/passwd",
        "a/../../b",
    ],
)
def test_nothing_outside_the_roots(videos: Path, path: str) -> None:
    with pytest.raises(PathNotAllowed, match="outside the directories"):
        resolved(path, [videos])


def test_a_sibling_with_the_roots_name_as_prefix_is_outside(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos-private").mkdir()
    (tmp_path / "videos-private" / "a.mp4").touch()
    with pytest.raises(PathNotAllowed):
        resolved("../videos-private/a.mp4", [tmp_path / "videos"])


def test_existence_outside_is_not_told(videos: Path) -> None:
    """The same words for a file that is there and for one that is not."""
    messages = []
    for path in ("/etc/passwd", "/etc/no-such-file"):
        with pytest.raises(PathNotAllowed) as caught:
            resolved(path, [videos])
        messages.append(caught.value.message.replace(path, ""))
    assert messages[0] == messages[1]


def test_no_roots_says_which_flag(videos: Path) -> None:
    with pytest.raises(PathNotAllowed, match="--allow-root"):
        resolved(str(videos / "colors.mp4"), [])


@pytest.mark.parametrize("path", ["nothing.mp4", "colors.mp4/below", "loop.mp4", "x" * 300, "x/" * 3000])
def test_not_found(videos: Path, path: str) -> None:
    with pytest.raises(VideoNotFound, match="no such file"):
        resolved(path, [videos])


def test_only_regular_files(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAFile, match=r"folder.mp4: a directory; a video must be a regular file"):
        resolved("folder.mp4", [videos])
    with pytest.raises(NotAFile, match="a directory"):
        resolved(str(videos), [videos])
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(NotAFile, match="no regular file"):
        resolved("pipe.mp4", [tmp_path])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket.mp4"))
        with pytest.raises(NotAFile, match="no regular file"):
            resolved("socket.mp4", [tmp_path])


@pytest.mark.parametrize("path", ["", "a\0b", "\0"])
def test_what_is_no_path(videos: Path, path: str) -> None:
    with pytest.raises(InvalidRequest, match="is no path"):
        resolved(path, [videos])


@given(path=st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "leak", "a", "", "~"])).map("/".join))
def test_whatever_the_path_the_answer_is_inside_or_typed(videos: Path, path: str) -> None:
    try:
        found = resolved(path, [videos])
    except TenclipError:
        return
    assert found.is_relative_to(videos.resolve())


# -- opening ----------------------------------------------------------------------------------------------------------


def content(opened: OpenFile) -> bytes:
    try:
        return os.pread(opened.descriptor, 1 << 20, 0)
    finally:
        opened.close()


def test_opens_what_it_resolves(videos: Path) -> None:
    expected = (videos / "colors.mp4").read_bytes()
    for path in ("colors.mp4", "alias.mp4", str(videos / "colors.mp4"), "./folder.mp4/../colors.mp4"):
        assert content(open_path(path, [videos])) == expected
    assert content(open_path(str(videos / "colors.mp4"), [videos / "colors.mp4"])) == expected


def test_a_file_that_is_open_is_closed_by_itself(videos: Path) -> None:
    opened = open_path("colors.mp4", [videos])
    descriptor = opened.descriptor
    del opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("swap", ["a/b/c.mp4", "a/b", "a"])
def test_a_link_that_takes_the_place_of_what_was_judged_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    for folder in ("root/a/b", "outside/b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "c.mp4").write_bytes(folder.encode())
    root, outside = tmp_path / "root", tmp_path / "outside"
    judge = sources._resolve

    def judge_then_swap(path: str, roots: Sequence[Path]) -> tuple[Path, Path]:
        found = judge(path, roots)
        (root / swap).rename(root / "moved")
        (root / swap).symlink_to({"a/b/c.mp4": outside / "b/c.mp4", "a/b": outside / "b", "a": outside}[swap])
        return found

    monkeypatch.setattr(sources, "_resolve", judge_then_swap)
    with pytest.raises(VideoNotReadable, match=r"a/b/c\.mp4: was replaced while it was opened"):
        open_path("a/b/c.mp4", [root])


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    monkeypatch.setattr(sources, "_resolve", lambda path, roots: (tmp_path, tmp_path / path))
    with pytest.raises(NotAFile, match="no regular file"):
        open_path("a.mp4", [tmp_path])
    with pytest.raises(VideoNotFound, match=r"gone\.mp4: no such file"):
        open_path("gone.mp4", [tmp_path])


@given(path=st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "leak", "a", "", "~"])).map("/".join))
def test_whatever_the_path_it_is_opened_or_a_typed_error(videos: Path, path: str) -> None:
    with contextlib.suppress(TenclipError):
        open_path(path, [videos]).close()
