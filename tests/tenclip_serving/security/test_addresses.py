from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import ServerUnavailable
from tenclip_serving.security.addresses import check_can_listen, explain, plain_host, why_not_listen, with_port
from tests.tenclip_serving.helpers import stopped_by_permissions


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("fe80::1%lo", "fe80::1%lo"),
        ("box.lan", "box.lan"),
    ],
)
def test_hosts(host: str, plain: str) -> None:
    assert plain_host(host) == plain


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "0.0.0.0 listens on every interface"),
        ("unix:/tmp/s.sock", "TCP only"),
        ("unix-abstract:s", "TCP only"),
        ("127.0.0.1:7411", "the port is a setting of its own"),
        ("[::1]:7411", "the port is a setting of its own"),
        ("[::1", "the port is a setting of its own"),
        ("http://box", "the port is a setting of its own"),
        ("[]", "neither an address nor a name"),
        ("a b", "neither an address nor a name"),
        ("box/path", "neither an address nor a name"),
    ],
)
def test_what_is_no_host(host: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        plain_host(host)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_read_back(address: object, port: int) -> None:
    host, _, shown = with_port(str(address), port).rpartition(":")
    assert (plain_host(host), int(shown)) == (str(address), port)


def test_a_port_that_is_taken_and_one_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailable, match=rf"127\.0\.0\.1:{port}: the port is taken; --port 0 takes a free"):
            check_can_listen("127.0.0.1", port, option="--port")
    assert why_not_listen("127.0.0.1", port, option="--port") == ""


def test_hosts_that_nobody_listens_on_here() -> None:
    assert "not this machine's" in why_not_listen("192.0.2.1", 0, option="--port")
    for host in ("nosuch.invalid", "a" * 70 + ".example"):
        assert "name cannot be resolved" in why_not_listen(host, 0, option="--port")


def test_a_low_port() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        if int(file.read()) <= 80:
            pytest.skip("every port is everyone's here")
    with stopped_by_permissions():
        assert "permission denied: low ports" in why_not_listen("127.0.0.1", 80, option="--port")


def test_other_reasons_are_told_as_they_are() -> None:
    assert explain(OSError(errno.EMFILE, "x"), option="--port") == "Too many open files"
    assert explain(OSError("odd"), option="--port") == "odd"
    assert "IPv6 is off" in explain(OSError(errno.EAFNOSUPPORT, "x"), option="--port")
