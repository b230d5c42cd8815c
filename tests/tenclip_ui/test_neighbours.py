"""Neighbours on the page: found by the server's index, played from folders of the page, and told without paths."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenclip_ui.media import PlayableVideos
from tenclip_ui.streamed import MAX_RUNNING
from tests.tenclip_serving.helpers import ServerProcess, running_server

from .browsing import Tab, needs_browser
from .helpers import OURS, PageProcess, connected, running_page, until


def test_only_videos_of_the_folders_are_played(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
    for path in (root / "a" / "in.mp4", outside / "out.mp4", root / "notes.txt"):
        path.write_bytes(b"content")
    (root / "link.mp4").symlink_to(outside / "out.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    videos = PlayableVideos((root,))
    id = videos.id_of("a/in.mp4")
    assert id is not None
    assert videos.id_of(str(root / "a" / "in.mp4")) == id
    assert "in" not in id
    for name in (
        "../outside/out.mp4",
        str(outside / "out.mp4"),
        "link.mp4",
        "loop.mp4",
        "notes.txt",
        "",
        "a",
        "\0.mp4",
    ):
        assert videos.id_of(name) is None, name
    assert PlayableVideos(()).id_of("a/in.mp4") is None


@pytest.fixture(scope="module")
def indexed(models: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with an index of the two videos, one of which is in no folder of the page."""
    build = pytest.importorskip("tenclip_index.build")
    folder = tmp_path_factory.mktemp("index")
    elsewhere = folder / "elsewhere.mp4"
    shutil.copy(videos / "bar.mp4", elsewhere)
    table = folder / "features.parquet"
    with running_server(models, "--threads", "1") as server:
        command = [sys.executable, "-m", "tenclip_client", "features", str(videos), str(elsewhere)]
        options = ["--out", str(table), "--model", "tiny", "--server", server.address]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=120)
    build.build_index([table], folder / "colours")
    with running_server(models, "--threads", "1", "--index", str(folder / "colours")) as server:
        yield server


@pytest.fixture(scope="module")
def page_with_index(indexed: ServerProcess, videos: Path) -> Iterator[PageProcess]:
    with running_page(indexed.address, "--videos", str(videos)) as page:
        yield page


def test_neighbours_are_told_and_played_without_their_paths(page_with_index: PageProcess, videos: Path) -> None:
    data = (videos / "colors.mp4").read_bytes()
    with page_with_index.client() as client:
        (index,) = client.get("api/page").json()["indexes"]
        assert (index["name"], index["videos"]) == ("colours", 3)
        answer = client.post("api/similar", params={"index": "colours"}, content=data, headers=OURS)
        assert answer.status_code == 200, answer.text
        assert str(videos) not in answer.text
        found: list[dict[str, Any]] = json.loads(answer.text)["neighbours"]
        assert found[0]["name"] == "colors.mp4"
        assert found[0]["score"] == pytest.approx(1, abs=1e-3)
        playable = {one["name"]: one["play"] for one in found}
        assert playable["elsewhere.mp4"] is None
        address = f"videos/{playable['colors.mp4']}"
        part = client.get(address, headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, data[10:20])
        assert client.get(address, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.get("videos/none").status_code == 404
        refused = client.post("api/similar", params={"index": "shapes"}, content=data, headers=OURS)
        assert refused.status_code == 404
        assert refused.json()["error"]["type"] == "IndexNotFound"


def test_videos_on_their_way_are_bounded_whatever_they_are_for(page_with_index: PageProcess, videos: Path) -> None:
    """Half of them to be predicted, half to find videos alike; then neither takes another one."""
    data = (videos / "colors.mp4").read_bytes()
    with contextlib.ExitStack() as stack, page_with_index.client(headers=OURS) as client:
        for i in range(MAX_RUNNING):
            path = ("/api/predict?model=tiny", "/api/similar?index=colours")[i % 2]
            sent = stack.enter_context(connected(page_with_index))
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\nX-Tenclip-Page: 1\r\n\r\n"
            sent.sendall(head.encode() + bytes(1000))
        for path in ("api/predict", "api/similar"):

            def is_refused(path: str = path) -> bool:
                answer = client.post(path, content=data)
                return answer.status_code == 429 and "32 videos are on their way by this page" in answer.text

            until(is_refused)
        stack.close()  # they have hung up
        until(lambda: client.post("api/similar", params={"index": "colours"}, content=data).status_code == 200)


@needs_browser
def test_neighbours_are_shown_with_players(browser: Any, page_with_index: PageProcess, videos: Path) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    tab = Tab(browser, page_with_index.url)
    tab.choose(videos / "bar.mp4")
    tab.page.get_by_role("button", name="Find videos alike").click()
    section = tab.page.get_by_role("region", name="Videos alike, of 3 videos in colours")
    expect(section.get_by_role("listitem")).to_have_count(3)
    expect(section.get_by_role("listitem").filter(has_text="elsewhere.mp4")).to_contain_text("Not in a folder")
    expect(section.get_by_role("listitem").filter(has_text="colors.mp4")).to_contain_text("cosine")
    tab.close()


@needs_browser
@pytest.mark.parametrize("button", ["Cancel", "Remove large.mp4"])
def test_a_search_is_cancelled_on_the_server_too(
    browser: Any, indexed: ServerProcess, page_with_index: PageProcess, large: Path, button: str
) -> None:
    expect = pytest.importorskip("playwright.sync_api").expect
    tab = Tab(browser, page_with_index.url)
    tab.choose(large)
    expect(tab.page.get_by_role("button", name="Save the report")).to_be_visible()
    tab.slow_uploads()
    before = indexed.log.count("SimilarUpload")
    tab.page.get_by_role("button", name="Find videos alike").click()
    section = tab.page.get_by_role("region", name="Videos alike")
    expect(section).to_contain_text(re.compile(r"Uploading, [1-9]\d?%"))
    tab.page.get_by_role("button", name=button).click()
    until(lambda: indexed.log.count("SimilarUpload") > before)
    assert "code=OK" not in indexed.log.splitlines()[-1]
    if button == "Cancel":
        expect(section).to_contain_text("Cancelled.")
        expect(section.get_by_role("button", name="Cancel")).to_be_hidden()
        expect(section.get_by_role("button", name="Find videos alike")).to_be_enabled()
    else:
        expect(section).to_have_count(0)
    tab.close()
