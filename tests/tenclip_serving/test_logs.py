from __future__ import annotations

import json
import logging

import pytest

from tenclip_serving.logs import LOGGER, REQUEST_ID, configure_logs, log, new_request_id


@pytest.fixture(autouse=True)
def _restore_logger() -> object:
    before = (LOGGER.handlers[:], LOGGER.level, LOGGER.propagate)
    yield
    LOGGER.handlers[:], LOGGER.level, LOGGER.propagate = before
    return None


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    token = REQUEST_ID.set("abc")
    try:
        log(logging.INFO, "rpc", code="OK", path="a\nb")
    finally:
        REQUEST_ID.reset(token)
    captured = capsys.readouterr()
    line = json.loads(captured.err)
    assert line["message"] == "rpc"
    assert line["level"] == "INFO"
    assert (line["code"], line["path"], line["request_id"]) == ("OK", "a\nb", "abc")
    assert captured.out == ""


def test_json_carries_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        log(logging.ERROR, "internal error", exc_info=True)
    assert "RuntimeError: boom" in json.loads(capsys.readouterr().err)["traceback"]


def test_a_field_cannot_replace_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("json")
    log(logging.INFO, "true message", level="FORGED", time="never")
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "INFO"
    assert line["time"] != "never"


@pytest.mark.parametrize("forged", ["a\n2026-01-01 ERROR forged", "x y=z", "", "\x1b[31mred"])
def test_text_is_one_line_whatever_callers_send(capsys: pytest.CaptureFixture[str], forged: str) -> None:
    configure_logs("text")
    log(logging.WARNING, f"about {forged}", name=forged)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert "\x1b" not in written
    assert f"name={json.dumps(forged)}" in written


@pytest.mark.parametrize("proposed", [None, "", "a b", "x" * 65, "ä", "a\n"])
def test_unusable_request_ids_are_replaced(proposed: str | None) -> None:
    assert len(new_request_id(proposed)) == 32


def test_a_usable_request_id_is_kept() -> None:
    assert new_request_id("trace-1.2:3_4") == "trace-1.2:3_4"
    assert new_request_id() != new_request_id()
