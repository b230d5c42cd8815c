"""The OpenAPI document, held to a real server by schemathesis, and the page."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import error_classes
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_serving.http.openapi import openapi
from tenclip_serving.http.options import options_of
from tenclip_serving.http.routes import OPERATIONS
from tests.tenclip_serving.helpers import ServerProcess, running_server
from tests.tenclip_serving.http.helpers import as_grpc, get, url

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method,allow_header_conformance"
)


def test_schemathesis_finds_nothing(http_server: ServerProcess, tmp_path: Path) -> None:
    """In a process of its own, for a bounded number of requests of one seed; its own report is shown when it fails."""
    pytest.importorskip("schemathesis", reason="pip install schemathesis")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", url(http_server, "/openapi.json")),
        *("--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "2", "--seed", "1"),
        *("--max-time", "20", "--no-color", "--suppress-health-check", "all", "--generation-database", "none"),
        *("--header", "Request-Timeout: 30"),  # a made-up one may be over before the request is read, rightly so
    ]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d+ generated, \d+ passed", done.stdout), done.stdout[-3000:]
    assert "Traceback" not in http_server.log


def test_every_route_is_described(http_server: ServerProcess) -> None:
    document = get(http_server, "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document == openapi(OPERATIONS, with_tokens=False)
    described = {(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs}
    assert described == {(o.verb, o.path) for o in OPERATIONS}
    identifiers = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(set(identifiers)) == len(identifiers)
    assert set(_references(document)) <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}


def _references(part: Any) -> list[str]:
    if isinstance(part, dict):
        found = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return found + [reference for value in part.values() for reference in _references(value)]
    return [reference for value in part for reference in _references(value)] if isinstance(part, list) else []


def test_options_are_the_fields_of_the_messages() -> None:
    """Whatever is added to a message becomes an option; only the bytes of a video are none."""
    fields = {
        ".".join(option.place)
        for kind in (pb.PredictRequest, pb.ExtractFeaturesRequest)
        for option in options_of(kind).values()
    }
    for message in (pb.PredictRequest, pb.ExtractFeaturesRequest):
        for field in message.DESCRIPTOR.fields:
            inner = field.message_type
            names = {field.name} if inner is None else {f"{field.name}.{below.name}" for below in inner.fields}
            assert names - {"video.data"} <= fields


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        self.links += [found[name] or "" for name in ("href", "src") if name in found]
        assert not [name for name in found if name.startswith("on") or name == "style"]


def test_the_page_needs_nothing_and_runs_nothing(http_server: ServerProcess) -> None:
    answer = get(http_server, "/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = _Page()
    page.feed(answer.text)
    assert "script" not in page.tags
    assert page.links == ["openapi.json"]
    assert set(error_classes()) <= page.ids  # where the types of problems lead
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "unsafe" not in policy


def test_a_browser_shows_the_page(http_server: ServerProcess) -> None:
    """In Debian's chromium: nothing is blocked by the policy, and the style is there."""
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("needs Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-proxy-server"])
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(url(http_server, "/docs#OVERLOADED"))
        assert page.title() == "tenclip over HTTP"
        assert page.evaluate("getComputedStyle(document.querySelector('pre')).borderRadius") != "0px"
        assert page.locator("tr:target td").nth(1).inner_text() == "429"
        browser.close()
    assert [line for line in said if "favicon" not in line] == []


def test_neither_where_reflection_is_off(one_model: Path) -> None:
    with running_server(one_model, "--http-port", "0", "--runtime", "onnxruntime", "--reflection", "off") as server:
        assert [as_grpc(get(server, path))[0] for path in ("/docs", "/openapi.json")] == [404, 404]
        assert get(server, "/v1/models").status_code == 200
