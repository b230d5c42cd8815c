from __future__ import annotations

import pytest

from tenclip_api.addresses import endpoints_of, ip_address_of, is_ipv6, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", True), ("fe80::1%eth0", True), ("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("", False)],
)
def test_is_ipv6(host: str, expected: bool) -> None:
    assert is_ipv6(host) is expected


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("127.1", None),
        ("box", None),
        ("cafe", None),
        ("1a.2b", None),
        ("10.0.0.1.corp", None),
        ("", None),
    ],
)
def test_ip_addresses(host: str, address: str | None) -> None:
    assert (None if address is None else str(ip_address_of(host))) == address
    assert (ip_address_of(host) is None) == (address is None)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.255.0.1", "::1", "0.0.0.0"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "box", "localhost.corp", "126.0.0.1", "::2", "8.8.8.8"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("target", "endpoints"),
    [
        ("box:7411", [("box", 7411)]),
        ("box", [("box", None)]),
        ("[::1]:80", [("::1", 80)]),
        ("::1", [("::1", None)]),
        ("dns:///box:7411", [("box", 7411)]),
        ("dns:box:7411", [("box", 7411)]),
        ("dns://8.8.8.8/box:7411", [("box", 7411)]),
        ("ipv4:10.0.0.1:1,10.0.0.2:2", [("10.0.0.1", 1), ("10.0.0.2", 2)]),
        ("ipv6:%5B::1%5D:80", [("::1", 80)]),
        ("unix:/run/a.sock", []),
        ("unix-abstract:a", []),
        ("vsock:2:1", []),
        ("xds:///a", []),
    ],
)
def test_endpoints(target: str, endpoints: list[tuple[str, int | None]]) -> None:
    assert endpoints_of(target) == endpoints
