"""What would give away a token is refused before anything listens; the folder of samples."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import InvalidRequest
from tenclip_ui.media import MediaFolder
from tenclip_ui.settings import PageSettings, page_tls
from tests.certificates import Authority

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "0.0.0.0", "lends_token": True}, "everyone who can reach the page at 0.0.0.0 would use the server"),
        ({"host": "gpu-box", "lends_token": True, "tls": TLS}, "give --page-token-file"),
        ({"host": "10.0.0.7", "token": "t" * 20}, "plain text at 10.0.0.7: set --page-certificate"),
        ({"host": "::", "token": "t" * 20, "lends_token": True}, "or --insecure-page where something in front"),
        ({"samples": Path("/nowhere/at/all")}, "/nowhere/at/all: is not a directory of videos"),
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        PageSettings(**settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        ({}, False),
        ({"host": "localhost", "lends_token": True}, False),
        ({"host": "::1", "token": "t" * 20}, False),
        ({"host": "0.0.0.0", "token": "t" * 20, "tls": TLS, "lends_token": True}, False),
        ({"host": "0.0.0.0", "token": "t" * 20, "insecure": True}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "tls": TLS}, True),
    ],
)
def test_others_are_taken_and_an_open_page_is_warned_of(settings: dict[str, Any], warns: bool) -> None:
    assert bool(PageSettings(**settings).warning) == warns


def test_visitors_send_tokens_only_where_nobody_else_reads_them() -> None:
    assert PageSettings().takes_tokens
    assert PageSettings(host="0.0.0.0", tls=TLS).takes_tokens
    assert PageSettings(host="0.0.0.0", insecure=True).takes_tokens
    assert not PageSettings(host="0.0.0.0").takes_tokens


@pytest.mark.parametrize(
    ("settings", "name", "taken"),
    [
        ({}, "localhost", True),
        ({}, "127.0.0.1", True),
        ({}, "[::1]:8050", True),
        ({}, "evil.example", False),
        ({}, "192.168.0.7", False),
        ({"names": ("Lab.example",)}, "lab.Example:8050", True),
        ({}, "[::1", False),
        ({}, "", False),
        ({"host": "0.0.0.0"}, "anything", True),
        ({"host": "0.0.0.0", "names": ("lab.example",)}, "evil.example", False),
    ],
)
def test_names_that_the_page_answers_to(settings: dict[str, Any], name: str, taken: bool) -> None:
    assert PageSettings(**settings).host_names.accepts(name) == taken


def test_certificates_are_read_or_refused_by_name(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("page")
    other = Authority(tmp_path, "other").issue("page")
    assert page_tls(pair.certificate, pair.key) is not None
    assert page_tls(None, None) is None
    with pytest.raises(InvalidRequest, match="both or neither"):
        page_tls(pair.certificate, None)
    with pytest.raises(InvalidRequest, match="is not the key of"):
        page_tls(pair.certificate, other.key)


@pytest.mark.usefixtures("locked_folders")
def test_a_part_of_the_samples_that_cannot_be_listed_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.mp4").touch()
    for _ in range(2):
        assert [media.name for media in MediaFolder(tmp_path).list()] == ["a.mp4"]
    assert caplog.messages == [f"{tmp_path}/locked: cannot be listed: Permission denied"]
