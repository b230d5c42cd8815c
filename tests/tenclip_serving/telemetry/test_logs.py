from __future__ import annotations

import json
import logging
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_serving.telemetry.logs import LOGGER, REQUEST_ID, configure_logs, log, new_request_id, shorten


@pytest.fixture(autouse=True)
def _restore_logger() -> object:
    before = (LOGGER.handlers[:], LOGGER.level, LOGGER.propagate)
    yield
    LOGGER.handlers[:], LOGGER.level, LOGGER.propagate = before
    return None


def test_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    token = REQUEST_ID.set("abc")
    try:
        log(logging.INFO, "rpc", code="OK", path="a\nb")
    finally:
        REQUEST_ID.reset(token)
    captured = capfd.readouterr()
    line = json.loads(captured.err)
    assert line["message"] == "rpc"
    assert line["level"] == "INFO"
    assert (line["code"], line["path"], line["request_id"]) == ("OK", "a\nb", "abc")
    assert captured.out == ""


def test_json_carries_the_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log(logging.ERROR, "internal error", exc_info=True)
    assert "RuntimeError: boom" in json.loads(capfd.readouterr().err)["traceback"]


def test_a_field_cannot_replace_the_line(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    log(logging.INFO, "true message", level="FORGED", time="never")
    line = json.loads(capfd.readouterr().err)
    assert line["level"] == "INFO"
    assert line["time"] != "never"


@pytest.mark.parametrize("forged", ["a\n2026-01-01 ERROR forged", "x y=z", "", "\x1b[31mred"])
def test_text_is_one_line_whatever_callers_send(capfd: pytest.CaptureFixture[str], forged: str) -> None:
    configure_logs("text")
    log(logging.WARNING, f"about {forged}", name=forged)
    written = capfd.readouterr().err
    assert written.count("\n") == 1
    assert "\x1b" not in written
    assert f"name={json.dumps(forged)}" in written


@pytest.mark.parametrize("proposed", [None, "", "a b", "x" * 65, "ä", "a\n"])
def test_unusable_request_ids_are_replaced(proposed: str | None) -> None:
    assert len(new_request_id(proposed)) == 32


def test_a_usable_request_id_is_kept() -> None:
    assert new_request_id("trace-1.2:3_4") == "trace-1.2:3_4"
    assert new_request_id() != new_request_id()


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("char", ["x", "\x01", "\U0001f600", "\ud800", '"'])
def test_a_line_is_never_long(
    capfd: pytest.CaptureFixture[str], char: str, log_format: Literal["json", "text"]
) -> None:
    """Names and messages come from callers, and every caller's request may be as large as a video."""
    configure_logs(log_format)
    text = char * (2 << 20)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log(logging.ERROR, f"model {text}", exc_info=True, model=text, names=[text], seconds=1.5)
    written = capfd.readouterr().err
    assert len(written) < 3 * 8_000 + 32_000 + 1_000
    assert f"(cut, {len(text) + 6} characters in all)" in written
    assert f"(cut, {len(text)} characters in all)" in written
    assert "RuntimeError" in written
    if log_format == "json":
        line = json.loads(written)
        assert line["seconds"] == 1.5
        assert line["model"].startswith(char)


def test_what_is_short_is_whole(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    fields: dict[str, Any] = {"text": "x" * 8000, "none": None, "number": 7, "yes": True, "names": ["a", "b"]}
    log(logging.INFO, "m" * 8000, **fields)
    line = json.loads(capfd.readouterr().err)
    assert fields.items() <= line.items()
    assert line["message"] == "m" * 8000


@given(st.text() | st.text('ab"\\\n'), st.integers(0, 50))
def test_shortened_texts(text: str, most: int) -> None:
    short = shorten(text, most)
    if len(json.dumps(text)) - 2 <= most:
        assert short == text
    else:
        head, found, _ = short.rpartition(f"... (cut, {len(text)} characters in all)")
        assert found
        assert text.startswith(head)
        assert len(json.dumps(head)) - 2 <= most
