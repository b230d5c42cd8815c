"""URIs that are fetched through a proxy: what goes there, what does not, and that no policy is passed by."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme
from yarl import URL

from tenclip_api.errors import DeadlineExceeded, FetchFailed, InvalidRequest, UriNotAllowed
from tenclip_serving.intake.fetch_http import proxy_for_url
from tenclip_serving.intake.uri_policy import UriPolicy
from tests.connect_proxy import connect_proxy
from tests.tenclip_serving.intake.test_fetch import DATA, get, serving

PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"
SECRET = "TOPSECRET"


@dataclass
class ForwardProxy:
    """An HTTP proxy for http: URIs. requests: request lines that it got; authorizations: their Proxy-Authorization.

    hosts: HOST:PORT -> HOST:PORT, where it really connects to. status: what it answers instead of forwarding.
    """

    address: str = ""
    hosts: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    proxy: ForwardProxy

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.proxy.requests.append(self.requestline)
        self.proxy.authorizations.append(self.headers.get("Proxy-Authorization", ""))
        self.close_connection = True
        if self.proxy.status:
            self.send_response(self.proxy.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        target = self.requestline.split(" ")[1].removeprefix("http://")
        host, _, path = target.partition("/")
        connection = http.client.HTTPConnection(self.proxy.hosts.get(host, host), timeout=20)
        connection.putrequest("GET", f"/{path}", skip_host=True, skip_accept_encoding=True)
        for name in ("Host", "Accept-Encoding"):
            connection.putheader(name, self.headers[name])
        connection.endheaders()
        answer = connection.getresponse()
        self.send_response(answer.status)
        for name in ("Content-Length", "Location"):
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.read())
        connection.close()


@contextlib.contextmanager
def forward_proxy(hosts: Mapping[str, str] | None = None, status: int = 0) -> Iterator[ForwardProxy]:
    proxy = ForwardProxy(hosts=hosts or {}, status=status)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Made", (_Handler,), {"proxy": proxy}))
    proxy.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """public.example is of the public Internet, private.example is not, mixed.example is both; nobody is another."""
    real = socket.getaddrinfo
    known = {
        "public.example": [PUBLIC],
        "other.example": [PUBLIC],
        "private.example": [PRIVATE],
        "mixed.example": [PUBLIC, PRIVATE],
        "this-machine.example": ["127.0.0.1"],
    }

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".example") and host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        addresses = known.get(host, [host])
        return [found for address in addresses for found in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def policy(*hosts: str, **changes: Any) -> UriPolicy:
    return UriPolicy(**{"schemes": ("http",), "hosts": hosts or ("*",), "idle_seconds": 5, **changes})


# -- which proxy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "setting", "environ", "address"),
    [
        ("http://a.example/", "", {"http_proxy": "http://p:1", "all_proxy": "http://q:2"}, None),
        ("http://a.example/", "environment", {"http_proxy": "http://p:1"}, "p:1"),
        ("http://a.example/", "environment", {"HTTP_PROXY": "p:1"}, "p:1"),
        ("http://a.example/", "environment", {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, None),
        ("http://a.example/", "environment", {"https_proxy": "http://p:1"}, None),
        ("https://a.example/", "environment", {"https_proxy": "http://p:1", "http_proxy": "http://q:2"}, "p:1"),
        ("https://a.example/", "environment", {"ALL_PROXY": "http://p:1"}, "p:1"),
        ("https://a.example/", "environment", {"https_proxy": "", "all_proxy": "http://p:1"}, None),
        ("https://a.example/", "environment", {}, None),
        ("http://a.example/", "http://named:3", {"http_proxy": "http://p:1"}, "named:3"),
        ("http://a.example/", "http://named:3", {"no_proxy": ".example"}, None),
        ("http://a.example/", "environment", {"http_proxy": "p:1", "NO_PROXY": "b.example, a.example"}, None),
        ("http://a.example:81/", "environment", {"http_proxy": "p:1", "no_proxy": "a.example:80"}, "p:1"),
        ("http://10.1.2.3/", "environment", {"http_proxy": "p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("http://127.0.0.1:8000/", "http://named:3", {}, None),
        ("http://localhost/", "http://named:3", {}, None),
        ("http://[::1]/", "environment", {"http_proxy": "p:1"}, None),
    ],
)
def test_which_proxy(uri: str, setting: str, environ: dict[str, str], address: str | None) -> None:
    found = proxy_for_url(URL(uri), setting, environ)
    assert (None if found is None else found.address) == address


@pytest.mark.parametrize("bad", [f"https://user:{SECRET}@p:1", f"socks5://{SECRET}", f"http://{SECRET}:99999", "a b"])
def test_what_is_no_proxy_is_refused_without_quoting_it(bad: str) -> None:
    for setting, environ in ((bad, {}), ("environment", {"http_proxy": bad})):
        with pytest.raises(InvalidRequest, match="write http://") as caught:
            proxy_for_url(URL("http://a.example/"), setting, environ)
        assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_an_environment_that_names_no_proxy_is_not_the_callers_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"socks5://user:{SECRET}@proxy:1080")
    with pytest.raises(FetchFailed, match="cannot be fetched: http_proxy: names no proxy; write http://") as caught:
        get("http://public.example/data", policy("*", proxy="environment"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# -- through it -------------------------------------------------------------------------------------------------------


def test_a_uri_goes_through_the_proxy_as_it_was_given() -> None:
    with serving() as (host, seen), forward_proxy({"public.example": host}) as proxy:
        allowed = policy("public.example", proxy=f"http://user:pass%40word@{proxy.address}")
        assert get("http://public.example/data?sig=%2f%3D~a+b", allowed) == (DATA, len(DATA))
        assert proxy.requests == ["GET http://public.example/data?sig=%2f%3D~a+b HTTP/1.1"]
        assert proxy.authorizations == [f"Basic {base64.b64encode(b'user:pass@word').decode()}"]
        assert seen == ["/data?sig=%2f%3D~a+b"]


def test_nothing_goes_through_a_proxy_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (host, _), forward_proxy() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://{proxy.address}")
        networks = (ipaddress.ip_network("127.0.0.1/32"),)
        port = host.partition(":")[2]
        name = f"this-machine.example:{port}"
        # By default; an address of this machine; a name of this machine; and what no_proxy names.
        assert get(f"http://{name}/data", policy(name, networks=networks))[0] == DATA
        for uri in (f"http://{host}/data", f"http://{name}/data"):
            assert get(uri, policy(host, name, networks=networks, proxy="environment"))[0] == DATA
        monkeypatch.setenv("no_proxy", ".example")
        assert get(f"http://{name}/data", policy(name, networks=networks, proxy="environment"))[0] == DATA
        assert proxy.requests == []


def test_the_environment_names_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (host, _), forward_proxy({"public.example": host}) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        assert get("http://public.example/data", policy("public.example", proxy="environment"))[0] == DATA
        assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        (
            "http://private.example/data",
            UriNotAllowed,
            "private.example: leads to an address that is not",
        ),
        ("http://mixed.example/data", UriNotAllowed, "not of the public Internet"),
        ("http://10.1.2.3/data", UriNotAllowed, "not of the public Internet"),
        ("http://169.254.169.254/latest/meta-data", UriNotAllowed, "not of the public Internet"),
        ("http://2130706433/data", UriNotAllowed, "is no name"),
        ("http://localhost/data", UriNotAllowed, "not of the public Internet"),
        ("http://public.example:8080/data", UriNotAllowed, "allow_hosts"),
        ("http://unknown.example/data", FetchFailed, "unknown.example: "),
    ],
)
def test_the_policy_holds_behind_a_proxy(uri: str, error: type[Exception], message: str) -> None:
    with forward_proxy() as proxy:
        for first in (uri, f"http://public.example/to/{uri}"):
            if first != uri:
                with serving() as (host, _):
                    proxy.hosts = {"public.example": host}
                    with pytest.raises(error, match=message):
                        get(first, policy("*", proxy=f"http://{proxy.address}"))
            else:
                with pytest.raises(error, match=message):
                    get(first, policy("*", proxy=f"http://{proxy.address}"))
        assert [r for r in proxy.requests if "public.example/to/" not in r] == []


def test_a_network_that_is_allowed_is_reached_through_the_proxy_too() -> None:
    with serving() as (host, _), forward_proxy({"private.example": host}) as proxy:
        allowed = policy("*", networks=(ipaddress.ip_network("10.0.0.0/8"),), proxy=proxy.address)
        assert get("http://private.example/data", allowed)[0] == DATA


def test_a_redirect_may_leave_the_proxy_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "this-machine.example")
    with serving() as (host, seen), forward_proxy({"public.example": host, "other.example": host}) as proxy:
        port = host.partition(":")[2]
        allowed = policy(
            "*", f"*:{port}", networks=(ipaddress.ip_network("127.0.0.1/32"),), proxy=f"http://{proxy.address}"
        )
        last = "http://other.example/data"
        uri = f"http://public.example/to/http://this-machine.example:{port}/to/{last}"
        assert get(uri, allowed)[0] == DATA
        assert [r.split(" ")[1] for r in proxy.requests] == [uri, last]
        assert len(seen) == 3


# -- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "says"), [(407, "wants another user and password"), (502, "status 502")])
def test_a_proxy_that_refuses_is_named(status: int, says: str) -> None:
    with forward_proxy(status=status) as proxy, pytest.raises(FetchFailed, match=says) as caught:
        get("http://public.example/data", policy("*", proxy=f"http://user:{SECRET}@{proxy.address}"))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    if status == 407:
        assert f"the proxy http://{proxy.address} (from fetch_proxy)" in caught.value.message


def test_a_proxy_that_is_not_there_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(FetchFailed, match=f"cannot connect to the proxy http://{address}"):
            get("http://public.example/data?sig=hush", policy("*", proxy=f"http://{address}"))


def test_a_proxy_that_says_nothing_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineExceeded, match=f"through the proxy http://{address}"):
            get("http://public.example/data", policy("*", proxy=f"http://{address}", idle_seconds=0.2))


# -- https ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving_tls(authority: trustme.CA, name: str) -> Iterator[str]:
    """HOST:PORT of a server that answers one fixed body to whatever it is asked for, with a certificate for `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    raw, _ = listener.accept()
                    raw.settimeout(20)
                    with context.wrap_socket(raw, server_side=True) as client:
                        client.recv(1 << 16)
                        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nvideo")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


def test_https_is_a_tunnel_whose_end_shows_the_certificate_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    with serving_tls(authority, "public.example") as host:
        hosts = {"public.example:443": host, "other.example:443": host}
        with connect_proxy(hosts, credentials="user:password") as proxy:
            allowed = policy("*", schemes=("https",), proxy=proxy.url)
            with pytest.raises(FetchFailed, match="certificate is not one to trust"):
                get("https://public.example/v.mp4", allowed)
            trusting = ssl.create_default_context()
            authority.configure_trust(trusting)
            monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
            assert get("https://public.example/v.mp4", allowed) == (b"video", 5)
            with pytest.raises(FetchFailed, match="certificate is not one to trust"):
                get("https://other.example/v.mp4", allowed)
            assert set(proxy.connects) == {"public.example:443", "other.example:443"}
            with pytest.raises(UriNotAllowed):
                get("https://private.example/v.mp4", allowed)
            with pytest.raises(FetchFailed, match=r"the proxy http://\S+ \(from fetch_proxy\) refuses with status 407"):
                get("https://public.example/v.mp4", policy("*", schemes=("https",), proxy=f"http://{proxy.address}"))
            assert "private.example:443" not in proxy.connects
