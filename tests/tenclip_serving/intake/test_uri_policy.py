"""The policy on URIs: addresses, hosts and spellings. No server, no socket."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest, UriNotAllowed
from tenclip_serving.intake.uri_policy import (
    UriPolicy,
    check_address,
    checked_url,
    file_path,
    host_allowed,
    is_public,
    looks_numeric,
)

# Metadata of cloud machines, loopback, private, link-local, carrier-grade, unspecified, broadcast, multicast,
# documents; and the same IPv4 addresses within IPv6.
NOT_PUBLIC = (
    "169.254.169.254", "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.0.1", "100.64.0.1",
    "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1",
    "fd00:ec2::254", "ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1",
)  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    with pytest.raises(UriNotAllowed, match=r"media\.example.*allow_networks"):
        check_address("media.example", address, UriPolicy())
    everything = tuple(ipaddress.ip_network(n) for n in ("0.0.0.0/0", "::/0"))
    check_address("media.example", address, UriPolicy(networks=everything))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_within_another_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address))
    assert is_public(mapped) == is_public(translated) == is_public(address)


@pytest.mark.parametrize(
    ("host", "port", "pattern", "allowed"),
    [
        ("media.example", 443, "media.example", True),
        ("MEDIA.example.", 443, "media.EXAMPLE", True),
        ("media.example", 8443, "media.example", False),
        ("media.example", 8443, "media.example:8443", True),
        ("media.example", 443, "media.example:8443", False),
        ("a.media.example", 443, "media.example", False),
        ("a.media.example", 443, "*.media.example", True),
        ("media.example", 443, "*.media.example", False),
        ("evilmedia.example", 443, "*.media.example", False),
        ("anything", 443, "*", True),
        ("anything", 80, "*", False),
        ("::1", 8080, "[::1]:8080", True),
        ("::1", 443, "[::1]", True),
        ("::1", 443, "::1", True),
    ],
)
def test_hosts(host: str, port: int, pattern: str, allowed: bool) -> None:
    assert host_allowed(host, port, 443, [pattern]) is allowed


def test_paths_of_file_uris() -> None:
    assert file_path("file:/videos/a%20b.mp4") == file_path("file:///videos/a%20b.mp4") == "/videos/a b.mp4"
    assert file_path("file://localhost/a.mp4") == "/a.mp4"
    assert file_path("https://localhost/a.mp4") is None
    assert file_path("file:///what%3F.mp4") == "/what?.mp4"
    for uri in ("file:///a.mp4?x=1", "file:///a.mp4#t=10"):
        with pytest.raises(InvalidRequest, match=r"file:///a\.mp4: a file: URI has no query or fragment"):
            file_path(uri)
    for bad in ("file://elsewhere/a.mp4", "file:"):
        with pytest.raises(InvalidRequest, match="file:/PATH"):
            file_path(bad)


@given(st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(codec="utf-8"), max_size=30))
def test_no_uri_makes_two_requests_of_one(path: str, query: str) -> None:
    """No blank and no end of a line gets into the request line, whatever is given."""
    allowed = UriPolicy(schemes=("http",), hosts=("media.example",))
    try:
        url = checked_url(f"http://media.example/{path}?{query}", "v", allowed)
    except (InvalidRequest, UriNotAllowed):
        return
    sent = url.raw_path_qs
    assert sent.startswith("/")
    assert all("!" <= character <= "~" for character in sent)


@pytest.mark.parametrize("host", ["1.example", "0x7f.example", "a1", "127.0.0.1.example", "3.14.example.", "0xg", "x0"])
def test_names_with_numbers_in_them(host: str) -> None:
    assert not looks_numeric(host)


@given(st.ip_addresses(v=4), st.sampled_from(["d", "o", "x"]), st.integers(1, 4))
def test_all_that_c_reads_as_an_address_looks_numeric(
    address: ipaddress.IPv4Address, base: str, num_parts: int
) -> None:
    parts = [*address.packed[: num_parts - 1], int.from_bytes(address.packed[num_parts - 1 :])]
    host = ".".join(
        format(part, base).rjust(1) if base == "d" else f"0{base.strip('o')}{part:{base}}" for part in parts
    )
    assert socket.inet_aton(host) == address.packed
    assert looks_numeric(host)
