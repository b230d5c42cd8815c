"""The page in a real Chromium, before a real server: what people do with it, and what can go wrong.

No test lets the browser say that something was blocked: what the policy of the page forbids, the page does not try.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tenclip_serving.helpers import ServerProcess, running_server, stop

from .browsing import Tab, needs_browser
from .conftest import MAX_UPLOAD_MB
from .helpers import PageProcess, running_page, until

expect = pytest.importorskip("playwright.sync_api").expect
pytestmark = needs_browser


@pytest.fixture
def tab(browser: Any, page: PageProcess) -> Iterator[Tab]:
    opened = Tab(browser, page.url)
    expect(opened.page.locator("#server")).to_have_text("2 models on the server")
    yield opened
    opened.close()


def test_a_video_is_uploaded_and_everything_about_it_is_shown(tab: Tab, videos: Path, tmp_path: Path) -> None:
    tab.page.select_option("#model", "tiny:1")
    tab.page.select_option("#clips", "salient")
    tab.page.fill("#num-clips", "3")
    tab.choose(videos / "bar.mp4")
    panel = tab.page.locator(".panel")
    expect(panel.get_by_role("button", name="Save the report")).to_be_visible()
    expect(panel.locator(".figures")).to_contain_text("clips that ran3")
    expect(panel.locator(".strip img")).to_have_count(16)
    expect(panel.locator(".window.selected")).to_have_count(3)
    expect(panel.locator("rect.clip")).to_have_count(3)
    expect(panel.locator("rect.class-bar")).to_have_count(12)  # 4 classes, 3 clips
    said = re.compile(r"^Salience of \d+ windows by .* were taken as clips")
    expect(panel.get_by_role("img", name=said)).to_have_count(1)
    expect(panel.get_by_role("group", name="Classes of the video").locator("tbody tr")).to_have_count(4)
    expect(panel.get_by_role("group", name="Timings")).to_contain_text("upload")
    expect(panel.get_by_role("group", name="Timings")).to_contain_text("decode")
    expect(tab.page.locator("#status")).to_contain_text(re.compile(r"bar.mp4: (red|green|blue|moving), \d"))
    panel.get_by_text("Classes of 3 clips as a table").click()
    expect(panel.get_by_role("group", name="Clips and their classes").locator("tbody tr")).to_have_count(3)
    with tab.page.expect_download() as download:
        panel.get_by_role("button", name="Save the report").click()
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert saved.name == "bar.mp4-tiny.html"
    assert "<title>bar.mp4</title>" in saved.read_text(encoding="utf-8")


def test_two_models_side_by_side(tab: Tab, videos: Path) -> None:
    tab.page.select_option("#model", "tiny:1")
    tab.page.select_option("#second", "other:1")
    expect(tab.page.locator("#adaptive")).to_be_disabled()  # `other` cannot
    tab.choose(videos / "colors.mp4")
    expect(tab.page.locator(".verdict")).to_contain_text(
        re.compile("The models disagree: tiny:1 says .*, other:1 says")
    )
    boxes = [tab.page.locator(".panel").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]
    # Again, with one model and other options, from the same file.
    tab.page.select_option("#second", "")
    tab.page.check("#adaptive")
    expect(tab.page.locator("#clips")).to_be_disabled()
    tab.page.get_by_role("button", name="Run colors.mp4 again").click()
    expect(tab.page.locator(".panel")).to_have_count(1)
    expect(tab.page.locator(".figures")).to_contain_text(re.compile(r"clips that ran\d of 6"))


def test_a_sample_is_picked_and_a_recording_is_made(tab: Tab) -> None:
    tab.page.get_by_role("button", name="bar.mp4").click()
    expect(tab.page.get_by_role("heading", name="bar.mp4")).to_be_focused()
    expect(tab.page.get_by_role("button", name="Save the report")).to_have_count(1)
    tab.page.get_by_role("button", name="Record with the camera").click()
    tab.page.get_by_role("button", name="Record 5 seconds").click()
    expect(tab.page.get_by_role("button", name="Save the report")).to_have_count(2)
    expect(tab.page.get_by_role("heading", name="recording-1.webm")).to_be_visible()


# What was given, and each only when a test allows it.
SLOW_CAMERA = """
    const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.given = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
      const stream = await ask(wanted);
      window.given.push(stream);
      await new Promise((resolve) => { window.allow = resolve; });
      return stream;
    };
"""
STATES = "() => window.given.flatMap((stream) => stream.getTracks()).map((track) => track.readyState)"


def test_a_camera_that_is_closed_is_off(tab: Tab) -> None:
    page, opener = tab.page, tab.page.get_by_role("button", name="Record with the camera")
    page.add_init_script(SLOW_CAMERA)
    page.reload()
    opener.click()
    until(lambda: page.evaluate("Boolean(window.allow)"))
    page.get_by_role("button", name="Close the camera").click()
    page.evaluate("window.allow()")
    until(lambda: page.evaluate(STATES)[0] == "ended")
    expect(page.locator("#camera")).to_be_hidden()

    page.evaluate("window.allow = null")
    opener.click()
    until(lambda: page.evaluate("Boolean(window.allow)"))
    page.evaluate("window.allow()")
    page.get_by_role("button", name="Record 5 seconds").click()
    expect(page.locator("#camera-words")).to_contain_text(re.compile("[1-4] seconds left"))
    page.get_by_role("button", name="Close the camera").click()
    until(lambda: page.evaluate(STATES)[1] == "ended")
    page.wait_for_timeout(500)
    expect(page.locator(".run")).to_have_count(0)


def test_a_camera_that_cannot_be_had_is_said(browser: Any, page: PageProcess) -> None:
    without = Tab(browser, page.url)
    without.page.add_init_script("delete Navigator.prototype.mediaDevices")
    without.page.reload()
    without.page.get_by_role("button", name="Record with the camera").click()
    expect(without.page.locator("#camera-words")).to_contain_text(
        "The camera cannot be used: browsers give it to pages"
    )
    expect(without.page.locator("#camera-record")).to_be_disabled()
    without.close()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text.mp4", "NotAVideo: text.mp4: not a video that tenclip reads"),
        ("empty.mp4", "EmptyVideo: empty.mp4"),
        ("huge.mp4", f"VideoTooLarge: huge.mp4: 32.0 MiB or more; this server takes at most {MAX_UPLOAD_MB}.0 MiB"),
    ],
)
def test_a_file_that_is_refused_is_said_with_the_words_of_the_server(
    tab: Tab, bad_files: Path, name: str, says: str
) -> None:
    tab.choose(bad_files / name)
    expect(tab.page.get_by_role("alert").filter(has_text=says)).to_be_visible()
    expect(tab.page.get_by_role("progressbar")).to_have_count(0)


def test_what_is_dropped_is_uploaded(tab: Tab, videos: Path) -> None:
    script = """(bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "<b>dropped</b>.mp4", { type: "video/mp4" }));
        return data;
    }"""
    data = tab.page.evaluate_handle(script, list((videos / "colors.mp4").read_bytes()))
    tab.page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    expect(tab.page.get_by_role("heading", name="<b>dropped</b>.mp4")).to_be_visible()
    expect(tab.page.get_by_role("button", name="Save the report")).to_be_visible()


@pytest.fixture
def slow(tab: Tab) -> Tab:
    """A tab whose uploads take their time."""
    tab.slow_uploads()
    return tab


def test_an_upload_is_cancelled_on_the_server_too(slow: Tab, server: ServerProcess, large: Path) -> None:
    before = server.log.count("PredictUploadStream")
    slow.choose(large)
    expect(slow.page.locator(".progress-words")).to_contain_text(re.compile(r"Uploading, [1-9]\d?%"))
    assert slow.page.get_by_role("progressbar").count() == 1
    slow.page.get_by_role("button", name="Cancel").click()
    expect(slow.page.locator(".panel")).to_contain_text("Cancelled.")
    until(lambda: server.log.count("PredictUploadStream") > before)
    assert "code=OK" not in server.log.splitlines()[-1]
    assert slow.page.get_by_role("alert").locator("visible=true").count() == 0


def test_two_uploads_go_side_by_side(slow: Tab, large: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    other.write_bytes(large.read_bytes())
    slow.choose(large, other)
    words = slow.page.locator(".progress-words")
    for i in range(2):
        expect(words.nth(i)).to_contain_text(re.compile(r"Uploading, [1-9]\d?%"))
    assert words.count() == 2
    expect(slow.page.get_by_role("button", name="Save the report")).to_have_count(2)
    slow.page.get_by_role("button", name="Remove large.mp4").click()
    expect(slow.page.locator(".run")).to_have_count(1)
    expect(slow.page.get_by_role("heading", name="other.mp4")).to_be_focused()


def test_a_server_that_goes_down_and_comes_back(browser: Any, models: Path, videos: Path) -> None:
    with running_server(models, "--threads", "1") as server, running_page(server.address) as page:
        opened = Tab(browser, page.url)
        opened.page.locator("#model option").first.wait_for(state="attached")
        stop(server.process)
        opened.choose(videos / "colors.mp4")
        alert = opened.page.get_by_role("alert").filter(has_text="ServerUnavailable: the server: no server answers")
        expect(alert).to_be_visible()
        opened.page.reload()
        expect(opened.page.locator("#trouble")).to_contain_text("ServerUnavailable")
        with opened.page.expect_response(re.compile("/api/page")) as tried:
            opened.page.get_by_role("button", name="Try again").click()
        assert tried.value.status == 503
        port = server.address.rpartition(":")[2]
        with running_server(models, "--threads", "1", "--port", port):
            # The page goes on asking: gRPC waits up to five seconds before it connects again, so a press may fail.
            expect(opened.page.locator("#server")).to_have_text("2 models on the server")
            expect(opened.page.locator("#trouble")).to_be_hidden()
            opened.choose(videos / "colors.mp4")
            expect(opened.page.get_by_role("button", name="Save the report")).to_be_visible()
        # And where the page's own process ends.
        stop(page.process)
        opened.page.get_by_role("button", name="Run colors.mp4 again").click()
        expect(opened.page.get_by_role("alert").filter(has_text="no answer from the page's own server")).to_be_visible()
        opened.close()


def test_the_page_asks_for_a_token_and_keeps_it_in_its_tab(
    browser: Any, server: ServerProcess, videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "page.txt").write_text("sesame-sesame-sesame")
    with running_page(server.address, "--page-token-file", str(tmp_path / "page.txt")) as page:
        opened = Tab(browser, page.url)
        dialog = opened.page.get_by_role("dialog")
        expect(dialog).to_contain_text("This page wants a token.")
        expect(opened.page.get_by_role("textbox", name="Token")).to_be_focused()
        opened.page.keyboard.type("wrong-wrong-wrong")
        opened.page.keyboard.press("Enter")
        expect(dialog).to_contain_text("The token is not the one of this page.")
        opened.page.keyboard.press("Escape")
        expect(opened.page.locator("#trouble")).to_contain_text("Unauthenticated")
        opened.page.get_by_role("button", name="Try again").click()
        opened.page.get_by_role("textbox", name="Token").fill("sesame-sesame-sesame")
        opened.page.get_by_role("button", name="Go on").click()
        expect(opened.page.locator("#server")).to_have_text("2 models on the server")
        opened.choose(videos / "colors.mp4")
        expect(opened.page.get_by_role("button", name="Save the report")).to_be_visible()
        assert opened.page.evaluate("() => [document.cookie, localStorage.length, location.search]") == ["", 0, ""]
        opened.close()


def test_everything_works_by_keyboard(tab: Tab, videos: Path) -> None:
    page = tab.page
    choosers: list[Any] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()

    def chooser_opens() -> bool:
        # The browser may not be told yet that a test waits for its dialog: then it opens none.
        page.keyboard.press("Enter")
        page.wait_for_timeout(2000)
        return bool(choosers)

    until(chooser_opens, seconds=60)
    choosers[0].set_files(str(videos / "colors.mp4"))
    expect(page.get_by_role("heading", name="colors.mp4")).to_be_focused()
    expect(page.get_by_role("button", name="Save the report")).to_be_visible()
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.textContent.trim()"))
        if reached[-1] == "Save the report":
            break
    assert {"Run again", "Remove", "Save the report", "Classes of 10 clips as a table"} <= set(reached), reached
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Play from 0 s").first).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    browser: Any, page: PageProcess, videos: Path, bad_files: Path, scheme: str
) -> None:
    phone = Tab(browser, page.url, viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True)
    phone.page.select_option("#second", "other:1")
    phone.choose(videos / "bar.mp4", bad_files / "text.mp4")
    expect(phone.page.get_by_role("button", name="Save the report")).to_have_count(2)
    expect(phone.page.get_by_role("alert").filter(has_text="NotAVideo")).to_have_count(2)
    for summary in phone.page.locator("summary").all():
        summary.click()
    assert phone.page.evaluate("() => document.documentElement.scrollWidth") == 360
    shown = phone.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert shown == {"light": "rgb(246, 245, 241)", "dark": "rgb(18, 20, 22)"}[scheme]
    small = phone.page.evaluate(
        "() => [...document.querySelectorAll('button, select')].filter((e) => e.offsetParent && e.offsetHeight < 24)"
        ".map((e) => e.textContent)"
    )
    assert small == [], "too small for a finger"
    phone.close()


def test_every_control_has_a_name(tab: Tab, videos: Path) -> None:
    tab.choose(videos / "colors.mp4")
    expect(tab.page.get_by_role("button", name="Save the report")).to_be_visible()
    nameless = tab.page.evaluate(
        "() => [...document.querySelectorAll('button, input:not([hidden]), select, progress, [role=group], video')]"
        ".filter((e) => e.offsetParent && !(e.textContent.trim() || e.labels?.length || e.ariaLabel"
        " || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML)"
    )
    assert nameless == []
    assert tab.page.locator("img:not([alt])").count() == 0
    script = "() => [...document.querySelectorAll('h1,h2,h3,h4')].map((e) => Number(e.tagName[1]))"
    levels = tab.page.evaluate(script)
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), levels


def test_the_policy_of_the_page_holds(tab: Tab) -> None:
    """A positive control of all the others: what is forbidden is seen on the console."""
    script = "() => { const i = new Image(); i.src = 'https://elsewhere.example/x.png'; document.body.append(i); }"
    tab.page.evaluate(script)
    until(lambda: tab.page.wait_for_timeout(50) or any("Content Security Policy" in text for text in tab.said))
    tab.said.clear()
