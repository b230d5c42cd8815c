"""What may be connected to, and what comes back through the RTSP relay."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tenclip_api.errors import FetchFailed, InvalidRequest, NotAFile, TenclipError, UriNotAllowed, VideoNotFound
from tenclip_serving.config import LIVE_SCHEMES, ServerConfig
from tenclip_serving.intake.uri_policy import UriPolicy
from tenclip_serving.live.connect import LiveRules, connect, judge_host
from tenclip_serving.live.requests import LiveRequest
from tenclip_serving.live.rtsp_relay import RtspResponses
from tenclip_serving.live.source import parse_address, parse_source
from tests.ports import free_port
from tests.tenclip_serving.helpers import make_bundle
from tests.tenclip_serving.live.helpers import open_engine, watch

LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


def policy(**values: Any) -> UriPolicy:
    return UriPolicy(**{"schemes": LIVE_SCHEMES, "hosts": ("cam.example", "*.cam.example:8554"), **values})


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("rtsp://cam.example/s", "rtsp"),
        ("RTSPS://user:secret@cam.example/s", "rtsp"),
        ("https://cam.example/s.ts", "http"),
        ("tcp://[::1]:9000", "tcp"),
        ("udp://239.0.0.1:1234", "udp"),
    ],
)
def test_addresses(uri: str, kind: str) -> None:
    source = parse_source(uri)
    assert (source.kind, source.is_live) == (kind, True)
    assert "secret" not in source.name


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        (
            "ftp://cam.example/s",
            UriNotAllowed,
            "ftp://cam.example/s: no live streams are read by ftp:, only by rtsp://",
        ),
        ("file:///etc/passwd", UriNotAllowed, "by file:"),
        ("concat:a|b", UriNotAllowed, "by concat:"),
        ("rtsp:///s", InvalidRequest, "names no host"),
        ("tcp://cam.example", InvalidRequest, r"names no port; write tcp://HOST:PORT"),
        ("rtsp://cam.example:x/s", InvalidRequest, "is no URI with a host and a port that can be read"),
        ("", UriNotAllowed, "by this"),
    ],
)
def test_addresses_that_are_none(uri: str, error: type[TenclipError], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_address(uri)


def test_sources_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"x")
    (tmp_path / "rtsp:").mkdir()
    assert parse_source("-").kind == "stdin"
    assert parse_source("/dev/video3").kind == "webcam"
    assert not parse_source(str(tmp_path / "a.ts"), follow=True).is_live
    with pytest.raises(NotAFile, match="is a directory"):
        parse_source(str(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFile, match=r"a pipe can be standard input \(-\)"):
        parse_source(str(tmp_path / "pipe"))
    with pytest.raises(VideoNotFound, match="no such file; an address begins with"):
        parse_source("nothing.ts")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("rtsp://other.example/s", r"this server does not fetch from other.example, port 554 \(allow_hosts\)"),
        ("rtsp://cam.example:8554/s", "port 8554"),
        ("rtsp://127.0.0.1/s", "127.0.0.1, port 554"),
        ("udp://cam.example:99", "port 99"),
    ],
)
def test_hosts_that_are_not_allowed(uri: str, message: str) -> None:
    with pytest.raises(UriNotAllowed, match=message):
        judge_host(parse_address(uri), policy())


def test_the_rules_are_those_of_uris() -> None:
    assert judge_host(parse_address("rtsp://cam.example/s"), policy()) == ("cam.example", 554)
    assert judge_host(parse_address("rtsp://a.cam.example:8554/s"), policy()) == ("a.cam.example", 8554)
    assert judge_host(parse_address("rtsp://10.0.0.1:1/"), None) == ("10.0.0.1", 1)
    loose = policy(hosts=("*", "*:9000"))
    with pytest.raises(UriNotAllowed, match=r"not of the public Internet.*\(allow_networks\)"):
        judge_host(parse_address("rtsp://10.0.0.1/s"), loose)
    with pytest.raises(UriNotAllowed, match="is no name, and no address"):
        judge_host(parse_address("rtsp://2130706433/s"), loose)
    with pytest.raises(UriNotAllowed, match=r"reads live streams by rtsp: and nothing else \(live_schemes\)"):
        judge_host(parse_address("tcp://cam.example:9000"), policy(schemes=("rtsp",)))
    with pytest.raises(UriNotAllowed, match=r"reads no live streams \(live_schemes\)"):
        judge_host(parse_address("rtsp://cam.example/s"), policy(schemes=()))
    with pytest.raises(InvalidRequest, match="user and password do not belong into a URI"):
        judge_host(parse_address("tcp://a:b@cam.example:9000"), loose)


@pytest.mark.parametrize("uri", ["rtsp://localhost:{port}/s", "tcp://localhost:{port}", "http://localhost:{port}/"])
def test_a_name_that_leads_into_our_own_network_is_refused_when_it_is_resolved(uri: str) -> None:
    pytest.importorskip("aiohttp")
    port = free_port()
    rules = LiveRules(policy=policy(hosts=(f"localhost:{port}",)))

    async def go() -> None:
        async with connect(parse_address(uri.format(port=port)), rules):
            raise AssertionError("connected")

    with pytest.raises(UriNotAllowed, match="not of the public Internet"):
        asyncio.run(go())


def test_settings_of_the_server(tmp_path: Path) -> None:
    config = ServerConfig(
        directory=tmp_path, live_schemes=("rtsp",), allow_hosts=("cam.example",), allow_networks=("10.0.0.0/8",)
    )
    assert config.live_policy.schemes == ("rtsp",)
    assert config.uri_policy.schemes == ()  # videos are not fetched for that
    with pytest.raises(ValueError, match="live_schemes 'file' is not one of rtsp, rtsps, http, https, tcp, udp"):
        ServerConfig(directory=tmp_path, live_schemes=("file",), allow_hosts=("*",))
    with pytest.raises(ValueError, match="live_schemes without allow_hosts would allow nothing"):
        ServerConfig(directory=tmp_path, live_schemes=("rtsp",))


# -- RTSP -------------------------------------------------------------------------------------------------------------

OPTIONS = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: OPTIONS\r\n\r\n"
DESCRIBE = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 24\r\n\r\nRTSP/1.0 302 in the body"
PACKET = b"$\x00\x00\x14RTSP/1.0 302 Found\r\n"
MOVED = b"RTSP/1.0 302 Moved\r\nCSeq: 3\r\nLocation: rtsp://10.0.0.1/\r\n\r\n"


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_only_a_status_line_is_a_status(size: int) -> None:
    stream = OPTIONS + PACKET + DESCRIBE + PACKET + PACKET + OPTIONS
    responses = RtspResponses("rtsp://cam.example/s")
    for i in range(0, len(stream), size):
        responses.check(stream[i : i + size])
    responses.check(MOVED[:-1])
    with pytest.raises(UriNotAllowed, match=r"rtsp://cam.example/s: sends us on to another address"):
        responses.check(MOVED[-1:])


def test_what_does_not_speak_rtsp_is_not_kept_for_ever() -> None:
    with pytest.raises(FetchFailed, match="does not speak RTSP"):
        RtspResponses("rtsp://cam.example/s").check(b"x" * 70_000)


def test_a_server_that_sends_us_on_is_not_followed(tmp_path: Path) -> None:
    """The place that it names never hears of us."""
    bundle = make_bundle(tmp_path)

    async def go() -> bool:
        with socket.create_server(("127.0.0.1", 0)) as secret:
            secret.setblocking(False)

            async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                number = 1
                while await reader.readuntil(b"\r\n\r\n"):
                    where = f"rtsp://127.0.0.1:{secret.getsockname()[1]}/"
                    writer.write(f"RTSP/1.0 302 Moved\r\nCSeq: {number}\r\nLocation: {where}\r\n\r\n".encode())
                    number += 1

            server = await asyncio.start_server(redirect, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with (
                server,
                open_engine(bundle, live_schemes=("rtsp",), allow_hosts=(f"127.0.0.1:{port}",)) as engine,
            ):
                request = LiveRequest(source=parse_source(f"rtsp://127.0.0.1:{port}/s"), idle_seconds=10)
                with pytest.raises(UriNotAllowed, match="sends us on to another address, and that is not followed"):
                    await watch(engine, request)
            try:
                secret.accept()
            except BlockingIOError:
                return False
            return True

    assert not asyncio.run(go())
