"""A real Chromium, and tabs with the page in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
needs_browser = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}; `make system-packages`")
# Milliseconds. Patient: tests share the cores with others.
PATIENCE = 60_000
# A camera that shows a test picture.
_CAMERA = "--use-fake-device-for-media-stream"


def launched(*arguments: str) -> Iterator[Any]:
    """The browser, until the generator is closed. Skips without playwright."""
    api = pytest.importorskip("playwright.sync_api")
    api.expect.set_options(timeout=PATIENCE)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", _CAMERA, *arguments])
        yield browser
        browser.close()


class Tab:
    """A tab with the page, and what its console said."""

    def __init__(self, browser: Any, url: str, **settings: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        self.context.set_default_timeout(PATIENCE)
        self.context.grant_permissions(["camera"])
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.goto(url)

    def choose(self, *files: Path) -> None:
        """Before it has asked for the models nothing can be uploaded, so wait for them."""
        self.page.locator("#model option").first.wait_for(state="attached")
        self.page.set_input_files("#file", [str(file) for file in files])

    def slow_uploads(self) -> None:
        """From now on uploads take their time: 200 kB a second."""
        session = self.context.new_cdp_session(self.page)
        session.send("Network.enable")
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 200_000}
        session.send("Network.emulateNetworkConditions", limits)

    def close(self) -> None:
        """Raises AssertionError where the console has said anything that is not an answer's status."""
        self.context.close()
        others = [text for text in self.said if "Failed to load resource" not in text]
        assert others == []
