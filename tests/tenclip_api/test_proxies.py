"""Which proxy leads to which server: the rules, without a network."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tenclip_api.errors import InvalidRequest
from tenclip_api.proxies import PROXY_VARIABLES, Proxy, is_exempt, parse_proxy, proxy_for, route_to

CORP = "http://proxy.corp:3128"


def address_for(target: str, **environ: str) -> str | None:
    proxy = proxy_for(target, environ)
    return None if proxy is None else proxy.address


LOCAL = [
    "localhost:7411", "LocalHost:7411", "localhost.:7411", "127.0.0.1:7411", "127.8.9.1:7411",
    "[::1]:7411", "[::ffff:127.0.0.1]:7411", "0.0.0.0:7411", "dns:///localhost:7411", "dns:127.0.0.1:7411",
    "dns://10.0.0.53/localhost:7411", "ipv4:127.0.0.1:7411", "ipv4:127.0.0.1:1,127.0.0.2:1", "ipv6:[::1]:7411",
    "ipv6:%5B::1%5D:7411", "unix:/run/tenclip.sock", "unix:///run/tenclip.sock", "unix-abstract:tenclip", "vsock:2:80",
    "xds:///anything",
]  # fmt: skip
REMOTE = [
    "gpu-box:7411", "10.0.0.1:7411", "[2001:db8::1]:7411", "dns:///gpu-box:7411", "ipv4:10.0.0.1:7411",
    "localhost.corp:7411", "mylocalhost:7411", "127.0.0.1.corp:7411", "128.0.0.1:7411",
]  # fmt: skip


@pytest.mark.parametrize("target", LOCAL)
@pytest.mark.parametrize("variable", PROXY_VARIABLES)
def test_this_machine_is_reached_directly(target: str, variable: str) -> None:
    assert address_for(target, **{variable: CORP}) is None
    assert route_to(target, environ={variable: CORP}).options == (("grpc.enable_http_proxy", 0),)


@pytest.mark.parametrize("target", REMOTE)
@pytest.mark.parametrize("variable", [*PROXY_VARIABLES, *map(str.upper, PROXY_VARIABLES)])
def test_others_are_reached_through_the_proxy(target: str, variable: str) -> None:
    assert address_for(target, **{variable: CORP}) == "proxy.corp:3128"
    assert address_for(target) is None


def test_the_first_variable_that_is_set_decides() -> None:
    environ = {v: f"http://{v}:1" for v in PROXY_VARIABLES}
    for variable in PROXY_VARIABLES:
        proxy = proxy_for("box:1", environ)
        assert proxy is not None
        assert (proxy.host, proxy.source) == (variable, variable)
        del environ[variable]
    both = {"http_proxy": "http://lower:1", "HTTP_PROXY": "http://upper:1"}
    assert address_for("box:1", **both) == "lower:1"
    assert address_for("box:1", grpc_proxy="", http_proxy=CORP) is None


def test_a_header_of_somebodys_request_is_no_proxy() -> None:
    assert address_for("box:1", HTTP_PROXY=CORP, REQUEST_METHOD="GET") is None
    assert address_for("box:1", http_proxy=CORP, REQUEST_METHOD="GET") == "proxy.corp:3128"


@pytest.mark.parametrize(
    ("no_proxy", "target"),
    [
        ("*", "gpu-box:7411"),
        ("other, * ", "gpu-box:7411"),
        ("gpu-box", "gpu-box:7411"),
        ("GPU-Box", "gpu-box:7411"),
        ("a,gpu-box:7411,b", "gpu-box:7411"),
        ("a gpu-box\tb", "gpu-box:7411"),
        ("lab.example", "gpu.lab.example:7411"),
        (".lab.example", "gpu.lab.example:7411"),
        ("*.lab.example", "gpu.lab.example.:7411"),
        (".lab.example", "lab.example:7411"),
        ("lab.example.", "gpu.lab.example:7411"),
        (".lab.example:7411", "gpu.lab.example:7411"),
        ("10.1.2.3", "10.1.2.3:7411"),
        ("10.1.2.3:7411", "10.1.2.3:7411"),
        ("10.0.0.0/8", "10.1.2.3:7411"),
        ("10.1.2.3/8", "ipv4:10.9.9.9:7411"),
        ("2001:db8::/32", "[2001:db8::1]:7411"),
        ("2001:db8:0:0::1", "[2001:db8::1]:7411"),
        ("[2001:db8::1]", "[2001:db8::1]:7411"),
        ("[2001:db8::1]:7411", "[2001:db8::1]:7411"),
        ("::ffff:10.1.2.3", "10.1.2.3:7411"),
    ],
)
def test_no_proxy(no_proxy: str, target: str) -> None:
    assert address_for(target, http_proxy=CORP, no_proxy=no_proxy) is None
    assert address_for(target, http_proxy=CORP, NO_PROXY=no_proxy) is None
    assert address_for(target, http_proxy=CORP, no_grpc_proxy=no_proxy, no_proxy="") is None
    assert address_for(target, http_proxy=CORP, no_grpc_proxy="elsewhere", no_proxy=no_proxy) == "proxy.corp:3128"


@pytest.mark.parametrize(
    ("no_proxy", "target"),
    [
        ("", "gpu-box:7411"),
        (",, ,", "gpu-box:7411"),
        (".", "gpu-box:7411"),
        ("box", "gpu-box:7411"),
        ("gpu-box:80", "gpu-box:7411"),
        ("ab.example", "gpu.lab.example:7411"),
        ("gpu.lab.example", "lab.example:7411"),
        ("10.1.2.3", "10.1.2.30:7411"),
        ("2.3", "10.1.2.3:7411"),
        ("10.0.0.0/8", "11.0.0.1:7411"),
        ("10.0.0.0/8", "gpu-box:7411"),
        ("10.0.0.0/99", "10.0.0.1:7411"),
        ("nonsense/8", "10.0.0.1:7411"),
        ("0.0.0.0/0", "[2001:db8::1]:7411"),
        ("[2001:db8::1]:80", "[2001:db8::1]:7411"),
        ("http://gpu-box", "gpu-box:7411"),
    ],
)
def test_what_no_proxy_does_not_name(no_proxy: str, target: str) -> None:
    assert address_for(target, http_proxy=CORP, no_proxy=no_proxy) == "proxy.corp:3128"


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@given(domain=HOST, below=st.lists(LABEL, max_size=3), dot=st.sampled_from(["", ".", "*."]), noise=st.text(", ab/:[]."))
def test_a_domain_stands_for_everything_below_it(domain: str, below: list[str], dot: str, noise: str) -> None:
    host = ".".join([*below, domain])
    assert is_exempt(host, 7411, f"{noise},{dot}{domain}")
    assert is_exempt(host.upper(), 7411, f"{dot}{domain}:7411 {noise}")


@given(host=HOST, entry=HOST)
def test_names_match_at_their_dots_only(host: str, entry: str) -> None:
    assert is_exempt(host, 1, entry) == (host == entry or host.endswith("." + entry))


@given(address=st.ip_addresses(), bits=st.integers(0, 32), other=st.ip_addresses())
def test_networks(address: Any, bits: int, other: Any) -> None:
    network = ipaddress.ip_network((address, bits), strict=False)
    assume(getattr(other, "ipv4_mapped", None) is None)
    assert is_exempt(str(other), 1, f"{address}/{bits}") == (other.version == network.version and other in network)


@given(no_proxy=st.text(), host=st.text(min_size=1), port=st.none() | st.integers(1, 65535))
def test_any_list_can_be_read(no_proxy: str, host: str, port: int | None) -> None:
    assert is_exempt(host, port, no_proxy) in (True, False)


SECRET = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0%"), min_size=8).filter(str.strip)


@given(user=st.from_regex(r"[a-z]{1,8}", fullmatch=True), password=SECRET, port=st.integers(1, 65535))
def test_a_password_of_any_characters_is_sent_and_never_shown(user: str, password: str, port: int) -> None:
    url = f"http://{user}:{password}@proxy.corp:{port}/"
    proxy = parse_proxy(url, source="http_proxy")
    assert (proxy.address, proxy.credentials) == (f"proxy.corp:{port}", f"{user}:{password}")
    assert str(proxy) == f"http://proxy.corp:{port} (from http_proxy)"
    assert proxy == Proxy(host="proxy.corp", port=port, source="http_proxy", credentials=f"{user}:{password}")
    assert "credentials" not in repr(proxy)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://proxy.corp:3128", "proxy.corp:3128"),
        ("HTTP://Proxy.corp:3128/", "Proxy.corp:3128"),
        (" proxy.corp:3128 ", "proxy.corp:3128"),
        ("http://proxy", "proxy:80"),
        ("http://[2001:db8::1]:3128", "[2001:db8::1]:3128"),
        ("http://10.0.0.1:3128", "10.0.0.1:3128"),
        ("user@proxy", "proxy:80"),
    ],
)
def test_addresses_of_proxies(url: str, address: str) -> None:
    assert parse_proxy(url, source="x").address == address


def test_escaped_credentials() -> None:
    assert parse_proxy("http://m%40x:p%3Aw%25@proxy:1", source="x").credentials == "m@x:p:w%"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@proxy:443", "x: names a proxy of https://"),
        ("socks5h://me:secret@proxy:1080", "x: names a proxy of socks5h://"),
        ("http://me:secret@proxy:port", "http://HOST:PORT"),
        ("http://me:secret@proxy:70000", "http://HOST:PORT"),
        ("http://me:secret@proxy:0", "http://HOST:PORT"),
        ("http://me:secret@", "http://HOST:PORT"),
        ("http://", "http://HOST:PORT"),
        ("http://proxy:1/secret", "http://HOST:PORT"),
        ("two words", "http://HOST:PORT"),
    ],
)
def test_what_is_no_proxy(url: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse_proxy(url, source="x")
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidRequest, match="proxy: "):
        route_to("box:1", proxy=url, environ={})


def test_a_proxy_of_another_kind_is_passed_over_and_told_of() -> None:
    environ = {"https_proxy": "socks5://me:secret@proxy:1080", "http_proxy": CORP}
    route = route_to("box:1", environ=environ)
    assert route.proxy is not None
    assert route.proxy.source == "http_proxy"
    direct = route_to("box:1", environ={"all_proxy": environ["https_proxy"]})
    assert direct.proxy is None
    assert "all_proxy: names a proxy of socks5://" in direct.note
    assert "secret" not in direct.note + route.note
    assert route_to("127.0.0.1:1", environ=environ).note == ""


def test_what_the_caller_says_wins() -> None:
    environ = {"http_proxy": CORP, "no_proxy": "*"}
    for target in ("box:7411", "127.0.0.1:7411", "dns:///box:7411"):
        route = route_to(target, proxy="http://mine:1", environ=environ)
        assert route.proxy is not None
        assert (route.address, route.proxy.address) == ("dns:///mine:1", "mine:1")
        assert dict(route.options)["grpc.http_connect_server"] == target.removeprefix("dns:///")
    for none in ("", " ", False):
        assert route_to("box:1", proxy=none, environ={"http_proxy": CORP}).proxy is None


@pytest.mark.parametrize("target", ["unix:/run/a.sock", "xds:///a", "ipv4:10.0.0.1:1,10.0.0.2:1"])
def test_where_no_proxy_can_lead(target: str) -> None:
    with pytest.raises(InvalidRequest, match="is not one HOST:PORT"):
        route_to(target, proxy=CORP)
    assert route_to(target, environ={"http_proxy": CORP}).proxy is None


def test_true_is_no_proxy() -> None:
    with pytest.raises(InvalidRequest, match="http://HOST:PORT"):
        route_to("box:1", proxy=True)  # type: ignore[arg-type]


def test_what_grpc_is_told() -> None:
    route = route_to("[2001:db8::1]:7411", environ={"http_proxy": "http://me:pass@proxy:3128"})
    assert route.address == "dns:///proxy:3128"
    assert dict(route.options) == {
        "grpc.enable_http_proxy": 0,
        "grpc.http_connect_server": "[2001:db8::1]:7411",
        "grpc.default_authority": "[2001:db8::1]:7411",
        "grpc.http_connect_headers": "Proxy-Authorization:Basic bWU6cGFzcw==",
    }
    assert "bWU6" not in str(route.proxy)
