"""Reports on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import EmptyVideo, InvalidRequest
from tenclip_client.report.writer import Report, page_name, report_to

from .made_up import model, prediction, top
from .pages import Page

NAMES = ("clips/a.mp4", "clips/b.mp4", "c.mp4")


def write(path: Path, done: dict[str, object], names: tuple[str, ...] = NAMES) -> None:
    with report_to(path, names, "Predictions of", model()) as report:
        for name, outcome in done.items():
            report.add(name, outcome)  # type: ignore[arg-type]


def test_one_video_is_a_page_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.html"
    write(path, {"c.mp4": prediction()}, ("c.mp4",))
    page = Page(path.read_text(encoding="utf-8"))
    page.check()
    assert "<title>c.mp4</title>" in page.source
    assert not page.all("section")
    assert [p.name for p in path.parent.iterdir()] == ["run.html"]


def test_several_videos_are_sections_in_their_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    path = tmp_path / "all.HTML"
    failed = EmptyVideo("clips/b.mp4: is empty (0 bytes)", source="clips/b.mp4")
    write(path, {"c.mp4": prediction(top=top(0.9)), "clips/b.mp4": failed, "clips/a.mp4": prediction()})
    page = Page(path.read_text(encoding="utf-8"))
    page.check()
    assert len(page.all("section")) == 3
    assert [a["id"] for a in page.all("h2")] == ["video-1", "video-2", "video-3"]
    assert [a["href"] for a in page.all("a")][:3] == ["#video-1", "#video-2", "#video-3"]
    assert "Predictions of 3 videos" in page.text
    assert "3 videos, 1 of which failed" in page.text
    assert "EmptyVideo: is empty (0 bytes)" in page.text
    assert "archery 90.0%" in page.text


def test_what_is_done_is_written_when_the_command_ends_early(tmp_path: Path) -> None:
    def broken(report: Report) -> None:
        report.add("clips/a.mp4", prediction())
        raise KeyboardInterrupt

    path = tmp_path / "all.html"
    with pytest.raises(KeyboardInterrupt), report_to(path, NAMES, "Predictions of", None) as report:
        broken(report)
    page = Page(path.read_text(encoding="utf-8"))
    assert "Predictions of 1 of 3 videos" in page.text
    assert len(page.all("section")) == 1


def test_nothing_done_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "all.html"
    path.write_text("of an earlier run")
    write(path, {})
    assert path.read_text() == "of an earlier run"
    assert [p.name for p in tmp_path.iterdir()] == ["all.html"]


def test_a_folder_has_a_page_for_each_video_and_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    write(folder, {"c.mp4": prediction(), "clips/a.mp4": prediction()})
    assert {p.name for p in folder.iterdir()} == {"index.html", page_name("c.mp4"), page_name("clips/a.mp4")}
    index = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert [a["href"] for a in index.all("a")] == [page_name("clips/a.mp4"), page_name("c.mp4")]
    for name in ("c.mp4", "clips/a.mp4"):
        Page((folder / page_name(name)).read_text(encoding="utf-8")).check()


def test_a_folder_keeps_the_pages_of_earlier_runs(tmp_path: Path) -> None:
    write(tmp_path, {"clips/a.mp4": prediction()})
    write(tmp_path, {"clips/b.mp4": prediction()})
    index = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert [a["href"] for a in index.all("a")] == [page_name("clips/a.mp4"), page_name("clips/b.mp4")]
    assert "from an earlier run" in index.text


def test_a_folder_that_is_called_like_a_page_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    folder.mkdir()
    write(folder, {"c.mp4": prediction()})
    assert (folder / "index.html").is_file()


def test_places_that_nothing_can_be_written_to_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match=r"a file is there; name a page \(NAME.html\) or a folder"):
        write(tmp_path / "file", {"c.mp4": prediction()})
    with pytest.raises(FileExistsError, match="file"):
        write(tmp_path / "file" / "page.html", {"c.mp4": prediction()})


def test_a_page_whose_name_no_one_can_be_told_is_written(tmp_path: Path) -> None:
    name = "odd\udcff/\x00.mp4"
    write(tmp_path / "one.html", {name: prediction()}, (name,))
    write(tmp_path / "folder", {name: prediction()}, (name,))
    Page((tmp_path / "one.html").read_text(encoding="utf-8")).check()
    assert (tmp_path / "folder" / page_name(name)).is_file()


@given(st.text())
def test_names_of_pages_are_plain(name: str) -> None:
    made = page_name(name)
    assert made.isascii()
    assert not set(made) & set('/\\:*?"<>|\0 ')
    assert not made.startswith((".", "-"))
    assert len(made) <= 80


def test_names_of_pages_differ_where_names_do() -> None:
    assert len({page_name(n) for n in ("a/run.mp4", "b/run.mp4", "run.mp4", "run.MP4", "run mp4", "run-mp4")}) == 6
    assert page_name("index").startswith("index-")
