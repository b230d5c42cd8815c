"""URIs: what may be fetched and what may not, from servers on the loopback that answer well, badly and never."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import grpc
import pytest

from tenclip_api.errors import (
    DeadlineExceeded,
    FetchFailed,
    InvalidRequest,
    TenclipError,
    UriNotAllowed,
    VideoNotFound,
    VideoNotReadable,
)
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client import Client, ServerUri
from tenclip_serving.intake import fetch_s3
from tenclip_serving.intake.fetch import PartFetcher, fetch
from tenclip_serving.intake.fetch_http import _socket
from tenclip_serving.intake.parts import FileStamp
from tenclip_serving.intake.uri_policy import (
    UriPolicy,
    file_path,
)
from tenclip_serving.requests import RecognitionRequest
from tests.tenclip_serving.helpers import ServerProcess, running_server
from tests.tenclip_serving.test_server import metric, status_of, wait_until

DATA = bytes(range(256)) * 5000


# -- a server that does what its paths say ----------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """`/data`: the file. `/status/N`. `/to/URL`: a redirect. `/shorter`, `/slow`, `/endless`, `/silent`, `/chunked`."""

    protocol_version = "HTTP/1.1"
    body = DATA
    ended = threading.Event()
    seen: list[str]

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        # As it was sent: `self.path` has slashes taken off.
        self.seen.append(self.requestline.split(" ", 1)[1].rsplit(" ", 1)[0])
        kind, _, argument = self.path[1:].partition("/")
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            getattr(self, f"_{kind.partition('?')[0]}")(argument.partition("?")[0])

    def _head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _data(self, _: str) -> None:
        assert self.headers["Accept-Encoding"] == "identity"
        self._head(Content_Length=str(len(self.body)))
        self.wfile.write(self.body)

    def _status(self, status: str) -> None:
        self._head(int(status), Content_Length="0")

    def _to(self, location: str) -> None:
        # What headers hold beyond ASCII is UTF-8 in practice, and http.server writes Latin-1.
        self._head(302, Location=unquote(location).encode().decode("latin-1"), Content_Length="0")

    def _hidden(self, index: str) -> None:
        self._to(quote(HIDDEN[int(index)]))

    def _loop(self, _: str) -> None:
        self._head(301, Location="/loop", Content_Length="0")

    def _shorter(self, _: str) -> None:
        self._head(Content_Length=str(len(self.body) + 1))
        self.wfile.write(self.body)

    def _gzip(self, _: str) -> None:
        self._head(Content_Length="3", Content_Encoding="gzip")
        self.wfile.write(b"abc")

    def _garbage(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 abc garbage\r\nx\r\n\r\n")

    def _binary(self, _: str) -> None:
        self.wfile.write(bytes(range(256)) * 10)

    def _hangup(self, _: str) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def _lying(self, _: str) -> None:
        self._head(Transfer_Encoding="chunked")
        self.wfile.write(b"no number\r\n")

    def _chunked(self, _: str) -> None:
        self._head(Transfer_Encoding="chunked")
        for first in range(0, len(self.body), 1000):
            piece = self.body[first : first + 1000]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _endless(self, _: str) -> None:
        self._head()
        while not self.ended.is_set():
            self.wfile.write(bytes(1 << 16))

    def _slow(self, _: str) -> None:
        self._head()
        while not self.ended.wait(0.02):
            self.wfile.write(b"x")

    def _silent(self, _: str) -> None:
        self._head(Content_Length="1000")
        self.wfile.write(b"x")
        self.wfile.flush()
        self.ended.wait(30)


@contextlib.contextmanager
def serving(body: bytes = DATA, host: str = "127.0.0.1") -> Iterator[tuple[str, list[str]]]:
    """`HOST:PORT`, and the paths that were asked for."""
    ended, seen = threading.Event(), list[str]()
    made = type("Made", (Handler,), {"body": body, "ended": ended, "seen": seen})
    server = ThreadingHTTPServer((host, 0), made)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    try:
        yield f"{host}:{server.server_port}", seen
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)


def policy(*hosts: str, **changes: Any) -> UriPolicy:
    return UriPolicy(**{"schemes": ("http",), "hosts": hosts, "networks": LOOPBACK, "idle_seconds": 5, **changes})


def get(uri: str, allowed: UriPolicy) -> tuple[bytes, int]:
    """(all of it, the size that was announced)."""

    async def run() -> tuple[bytes, int]:
        async with fetch(uri, allowed) as upload:
            return b"".join([piece async for piece in upload.chunks]), upload.num_bytes

    return asyncio.run(run())


def test_a_file_and_where_it_has_moved_to() -> None:
    with serving() as (host, seen):
        allowed = policy(host)
        assert get(f"http://{host}/data?token=secret", allowed) == (DATA, len(DATA))
        assert get(f"http://{host}/chunked", allowed) == (DATA, 0)
        assert get(f"http://{host}/to//data", allowed) == (DATA, len(DATA))
        assert get(f"http://{host}/to/http://{host}/to//data", allowed) == (DATA, len(DATA))
    assert seen[0] == "/data?token=secret"


# Spellings that a signature may be of: what is encoded stays so, what is not stays so too.
AS_GIVEN = (
    "/data?X-Amz-Credential=AKIA%2F20261129%2Fus-east-1%2Fs3&X-Amz-Signature=ab%3d%3D",
    "/data?sig=a%2bb%2Bc%20d+e&empty=&flag&&=x",
    "/data?a=%7E~%2d-%5F_%2e.&slash=/%2f/?&at=@%40&colon=:%3A",
    "/data/%41%2f%2F%7e%2e%2E/b;c=1,2!$'()*@:?x=[%5B]%5D{}|\\^`<>\"",
    "/data/%e4%b8%ad?%E4%B8%AD=%zz%&100%",
    "/data//double//slash/./dot/../up",
    "/data?",
)


@pytest.mark.parametrize("path", AS_GIVEN)
@pytest.mark.parametrize("way", ["given", "redirect to a URI", "redirect to a path"])
def test_a_uri_is_sent_as_it_was_given(path: str, way: str) -> None:
    """At every hop of a redirect, too, whether that names a whole URI or a path."""
    expected = path.removesuffix("?")  # an empty query is none
    if way == "redirect to a path":
        expected = expected.replace("/./dot/..", "")  # RFC 3986, section 5.2.2: relative to where it came from
    with serving() as (host, seen):
        uri = f"http://{host}{path}"
        if way != "given":
            uri = f"http://{host}/to/{quote(uri if way == 'redirect to a URI' else path, safe='')}"
        assert get(uri, policy(host))[0] == DATA
        assert seen[-1] == expected


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("/data/a b.mp4?q=c d", "/data/a%20b.mp4?q=c%20d"),
        ("/data/\u4e2d.mp4?q=\u00e9%C3%A9", "/data/%E4%B8%AD.mp4?q=%C3%A9%C3%A9"),
        ("/data?x=1#fragment", "/data?x=1"),
        ("/data?a=\x7f\x01", "/data?a=%7F%01"),
    ],
)
def test_what_a_request_cannot_hold_is_encoded_and_nothing_else(given: str, sent: str) -> None:
    with serving() as (host, seen):
        assert get(f"http://{host}{given}", policy(host))[0] == DATA
        assert seen == [sent]


def test_a_host_without_a_path_is_asked_for_its_root() -> None:
    with serving() as (host, seen):
        for given, sent in ((f"http://{host}?a=%2F", "/?a=%2F"), (f"http://{host}", "/")):
            with pytest.raises(TenclipError):
                get(given, policy(host))
            assert seen[-1] == sent


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/status/404", VideoNotFound, "404"),
        ("/status/403", VideoNotReadable, "403"),
        ("/status/500", FetchFailed, "500"),
        ("/status/206", FetchFailed, "206"),
        ("/status/302", FetchFailed, "302"),
        ("/loop", FetchFailed, "more than 5 times"),
        ("/shorter", FetchFailed, "ended before all"),
        ("/gzip", FetchFailed, "compressed"),
        ("/to/file:///etc/passwd", UriNotAllowed, "file"),
        ("/to/https://127.0.0.1/", UriNotAllowed, "https"),
        ("/to/http://elsewhere.example/", UriNotAllowed, r"elsewhere\.example, port 80"),
        ("/to/http://user:pass@127.0.0.1/", InvalidRequest, "password do not belong"),
    ],
)
def test_answers_that_are_no_video(path: str, error: type[TenclipError], message: str) -> None:
    with serving() as (host, _), pytest.raises(error, match=message) as caught:
        get(f"http://{host}{path}", policy(host))
    assert host.partition(":")[0] in caught.value.message


@pytest.mark.parametrize("target", ["127.0.0.2", "127.0.0.2:{port}", "[::1]", "169.254.169.254", "[::ffff:127.0.0.2]"])
def test_a_redirect_to_a_private_address_is_refused_though_every_host_is_allowed(target: str) -> None:
    with serving(host="127.0.0.2") as (other, seen), serving() as (host, _):
        port = other.partition(":")[2]
        uri = f"http://{host}/to/http://{target.format(port=port)}/data"
        with pytest.raises(UriNotAllowed, match="not of the public Internet"):
            get(uri, policy(host, "*", f"*:{port}"))
        assert seen == []


# Of 127.0.0.2, as C libraries read them; not all of them read all of these.
ODD = (
    "2130706434", "0x7f.2", "0x7f000002", "0X7F.0.0.2", "0177.0.0.2", "017700000002", "127.2", "127.0.2", "127.0.0.2.",
    "127.0.0.02", "127.0.0.0x2", "①②⑦.2", "127。2", "\uff11\uff12\uff17.2", "0", "0.", "00", "0x",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_other_spellings_of_a_private_address(odd: str) -> None:
    """At every hop, whatever the version of aiohttp does about them, and with its network allowed, too."""
    with serving(host="127.0.0.2") as (other, seen), serving() as (host, _):
        port = other.partition(":")[2]
        uri = f"http://{odd}:{port}/data"
        for first in (uri, f"http://{host}/to/{quote(uri)}", f"http://{host}/to/http://{host}/to/{quote(quote(uri))}"):
            for networks in (LOOPBACK, (ipaddress.ip_network("127.0.0.0/8"),)):
                with pytest.raises(UriNotAllowed, match=r"is no name|not of the public Internet"):
                    get(first, policy("*", f"*:{port}", host, networks=networks))
        assert seen == []


@pytest.mark.parametrize("address", ["127.0.0.2", "2130706434", "::1", "localhost"])
def test_a_socket_is_made_for_an_address_that_was_judged_and_for_nothing_else(address: str) -> None:
    """However it got past the resolver."""
    target = (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 80))
    with pytest.raises(UriNotAllowed):
        _socket(policy("*"), target)
    _socket(policy("*"), (*target[:4], ("127.0.0.1", 80))).close()


def test_a_name_that_changes_its_address_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was judged is the one that is connected to: the name is asked for once."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *args, **kwargs)
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with serving() as (host, _):
        port = host.partition(":")[2]
        allowed = policy(f"rebind.example:{port}")
        assert get(f"http://rebind.example:{port}/data", allowed)[0] == DATA
        assert asked == ["rebind.example"]
        with pytest.raises(UriNotAllowed, match=r"rebind\.example"):
            get(f"http://rebind.example:{port}/data", allowed)


def test_one_private_address_among_others_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        return [*real("127.0.0.1", port, *args, **kwargs), *real("10.0.0.1", port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with serving() as (host, seen), pytest.raises(UriNotAllowed):
        get(f"http://two.example:{host.partition(':')[2]}/data", policy(f"two.example:{host.partition(':')[2]}"))
    assert seen == []


@pytest.mark.parametrize(
    ("uri", "error", "message"),
    [
        ("http://10.0.0.1/a.mp4", UriNotAllowed, "not of the public Internet"),
        ("https://10.0.0.1/a.mp4", UriNotAllowed, r"fetches file:, http: and nothing else"),
        ("ftp://host/a.mp4", UriNotAllowed, "ftp"),
        ("gopher://host", UriNotAllowed, "gopher"),
        ("s3://bucket/a.mp4", UriNotAllowed, "s3"),
        ("a.mp4", UriNotAllowed, "nothing else"),
        ("http:///a.mp4", InvalidRequest, "no host"),
        ("http://[::1", InvalidRequest, "no URI"),
        ("http://host:99999/", InvalidRequest, "no URI"),
        ("http://user:secret@10.0.0.1/", InvalidRequest, "password do not belong"),
    ],
)
def test_uris_that_are_not_fetched(uri: str, error: type[TenclipError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        get(uri, policy("*"))
    assert "secret" not in caught.value.message


SECRET = "TOPSECRET"
# Where `/hidden/0` and so on lead to.
HIDDEN = (
    f"http://user:{SECRET}@127.0.0.1/", f"http://user:{SECRET}@ex\u2100mple.com/", f"http:user:{SECRET}@127.0.0.1/",
    f"https://127.0.0.1/?{SECRET}", f"http://[{SECRET}/", f"http:\\\\user:{SECRET}@127.0.0.1/",
    f"http://127.0.0.1:{SECRET}/", f"/garbage?{SECRET}", f"http://nobody.invalid/?{SECRET}",
)  # fmt: skip
SECRETS = (
    f"/garbage?X-Amz-Signature={SECRET}", f"/binary?X-Amz-Signature={SECRET}", f"/hangup?X-Amz-Signature={SECRET}",
    f"/lying?X-Amz-Signature={SECRET}", f"/status/403?{SECRET}", f"/shorter?{SECRET}", f"/gzip?{SECRET}",
    f"/loop?{SECRET}", *(f"/hidden/{i}" for i in range(len(HIDDEN))),
)  # fmt: skip


@pytest.mark.parametrize("path", SECRETS)
def test_no_secret_of_a_uri_is_in_an_error(path: str) -> None:
    """Neither in its message, nor in what a log or a trace shows of it."""
    with serving() as (host, _), pytest.raises(TenclipError) as caught:
        get(f"http://{host}{path}", policy(host, "nobody.invalid", idle_seconds=1))
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    "uri",
    [
        f"http://user:{SECRET}@ex\u2100mple.com/",
        f"http://user:{SECRET}@example.com/",
        f"https://user:{SECRET}@example.com/?{SECRET}#{SECRET}",
        f"http:user:{SECRET}@example.com/",
        f"http:/user:{SECRET}@example.com/",
        f"http:\\\\user:{SECRET}@example.com/",
        f"user:{SECRET}@example.com/",
        f"http://[{SECRET}/",
        f"s3://user:{SECRET}@bucket/key?{SECRET}",
        f"file://user:{SECRET}@elsewhere/a.mp4",
    ],
)
def test_no_secret_of_a_uri_that_cannot_be_used_is_in_an_error(uri: str) -> None:
    def use() -> None:
        assert file_path(uri) is None
        get(uri, policy("*", schemes=("http", "s3")))

    with pytest.raises(TenclipError) as caught:
        use()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in caught.value.message
    assert SECRET not in RecognitionRequest(uri=uri).source


def test_nothing_is_fetched_unless_it_is_allowed() -> None:
    with serving() as (host, seen):
        for refusing in (UriPolicy(), UriPolicy(schemes=("http",)), policy(host, networks=())):
            with pytest.raises(UriNotAllowed):
                get(f"http://{host}/data", refusing)
        assert seen == []


def test_time_has_an_end() -> None:
    with serving() as (host, _):
        with pytest.raises(DeadlineExceeded, match="max_fetch_seconds"):
            get(f"http://{host}/slow", policy(host, max_seconds=0.3))
        with pytest.raises(DeadlineExceeded, match="sends nothing"):
            get(f"http://{host}/silent", policy(host, idle_seconds=1))


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(FetchFailed, match="cannot be fetched from"):
            get(f"http://{host}/data", policy(host))


def test_parts_by_the_same_rules() -> None:
    """Redirects are judged, and followed with what was asked for; a store may send all of a file."""

    async def look(uri: str, allowed: UriPolicy) -> tuple[FileStamp, bool]:
        async with PartFetcher(allowed) as fetcher:
            return await fetcher.look(uri)

    with serving() as (host, _):
        stamp, in_parts = asyncio.run(look(f"http://{host}/to//data", policy(host)))
        assert (stamp, in_parts) == (FileStamp(size=len(DATA)), False)
        for path, allowed, error in (
            ("/to/http://elsewhere.example/", policy(host), UriNotAllowed),
            ("/to/file:///etc/passwd", policy(host), UriNotAllowed),
            ("/data", policy(host, networks=()), UriNotAllowed),
            ("/data", policy(host, schemes=("https",)), UriNotAllowed),
            ("/status/404", policy(host), VideoNotFound),
            ("/status/206", policy(host), FetchFailed),  # a part of which nobody says where it is
            ("/gzip", policy(host), FetchFailed),
        ):
            with pytest.raises(error):
                asyncio.run(look(f"http://{host}{path}", allowed))


# -- s3, its real client against a loopback that speaks as much of it ------------------------------------------------


class S3(Handler):
    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.close_connection = True
        if self.path.partition("?")[0] == "/videos/a.mp4":
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            body = self.body[int(first) : int(last or len(self.body)) + 1]
            status = 206 if "Range" in self.headers else 200
            headers = {"ETag": '"e"', "Last_Modified": "Sat, 21 Nov 2026 07:00:00 GMT"}
            self._head(status, Content_Length=str(len(body)), **headers)
        elif self.path.startswith("/videos/odd"):
            body = b"<Error><Code>InvalidArgument</Code><Message>TOPSECRET</Message></Error>"
            self._head(400, Content_Length=str(len(body)))
        elif self.path.startswith("/forbidden/"):
            body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            self._head(403, Content_Length=str(len(body)))
        else:
            listing = "list-type=2" in self.path
            body = b"<ListBucketResult></ListBucketResult>" if listing else b"<Error><Code>NoSuchKey</Code></Error>"
            self._head(200 if listing else 404, Content_Length=str(len(body)))
        if self.command == "GET":
            self.wfile.write(body)


def test_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_s3, "_PART_BYTES", 500_000)
    for name, value in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "key"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr(Handler, "do_GET", S3.do_GET)
    with serving() as (host, seen):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        allowed = UriPolicy(schemes=("s3",), hosts=("videos", "forbidden"))
        assert get("s3://videos/a.mp4", allowed) == (DATA, len(DATA))
        assert sum(path.startswith("/videos/a.mp4") for path in seen) == 4  # its size, and three parts
        with pytest.raises(VideoNotFound, match="bucket videos"):
            get("s3://videos/gone.mp4", allowed)
        with pytest.raises(VideoNotReadable, match="bucket forbidden"):
            get("s3://forbidden/a.mp4", allowed)
        with pytest.raises(FetchFailed, match="bucket videos: ") as caught:
            get(f"s3://videos/odd.mp4?{SECRET}", allowed)
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        asked = len(seen)
        with pytest.raises(UriNotAllowed, match="bucket others"):
            get("s3://others/a.mp4", allowed)
        for bad in ("s3://videos", "s3://../a.mp4", "s3://UP/a.mp4"):
            with pytest.raises(InvalidRequest, match="BUCKET/KEY"):
                get(bad, allowed)
        assert len(seen) == asked
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(FetchFailed, match=r"bucket videos: EndpointConnectionError$") as caught:
        get("s3://videos/a.mp4", allowed)
    assert host not in "".join(traceback.format_exception(caught.value))


# -- the whole way ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(videos: Path) -> Iterator[str]:
    with serving((videos / "colors.mp4").read_bytes()) as (host, _):
        yield host


@pytest.fixture(scope="module")
def fetching(one_model: Path, videos: Path, web: str) -> Iterator[ServerProcess]:
    arguments = (
        "--allow-root", str(videos), "--allow-scheme", "http", "--allow-host", web, "--allow-network", "127.0.0.1/32",
        "--max-upload-mb", "2", "--max-fetch-seconds", "5", "--decode-workers", "1",
    )  # fmt: skip
    with running_server(one_model, *arguments) as running:
        yield running


def test_a_uri_is_answered_as_the_same_video_inline(fetching: ServerProcess, videos: Path, web: str) -> None:
    with Client(fetching.address) as client:
        inline = client.predict(videos / "colors.mp4", features=True)
        for uri in (f"http://{web}/data", f"http://{web}/chunked", f"file:{videos}/colors.mp4"):
            got = client.predict(ServerUri(uri), features=True)
            assert (got.top, got.features) == (inline.top, inline.features)
            assert ("fetch" in got.provenance.timings) == uri.startswith("http")
    assert metric(fetching, "tenclip_stage_seconds_count", stage="fetch") == 2
    assert metric(fetching, "tenclip_spool_bytes") == 0


@pytest.mark.parametrize(
    ("uri", "status", "reason"),
    [
        ("http://{web}/endless", "INVALID_ARGUMENT", "VIDEO_TOO_LARGE"),
        ("http://{web}/slow", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("http://{web}/status/500?token=hush", "FAILED_PRECONDITION", "FETCH_FAILED"),
        ("http://{web}/status/404", "NOT_FOUND", "VIDEO_NOT_FOUND"),
        ("http://{web}/to/http://127.0.0.2/", "PERMISSION_DENIED", "URI_NOT_ALLOWED"),
        ("http://169.254.169.254/latest/meta-data", "PERMISSION_DENIED", "URI_NOT_ALLOWED"),
        ("https://{web}/data", "PERMISSION_DENIED", "URI_NOT_ALLOWED"),
        ("file:/etc/passwd", "PERMISSION_DENIED", "PATH_NOT_ALLOWED"),
        ("", "PERMISSION_DENIED", "URI_NOT_ALLOWED"),
    ],
)
def test_refusals_reach_the_caller(fetching: ServerProcess, web: str, uri: str, status: str, reason: str) -> None:
    request = pb.PredictRequest(video=pb.Video(uri=uri.format(web=web)))
    with fetching.stub() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=60)
    assert status_of(caught.value)[:2] == (status, reason)
    assert "hush" not in fetching.log
    wait_until(lambda: metric(fetching, "tenclip_spool_bytes") == 0)


def test_a_server_that_was_told_nothing_fetches_nothing(server: ServerProcess, web: str) -> None:
    with Client(server.address) as client, pytest.raises(UriNotAllowed, match="fetches file: and nothing else"):
        client.predict(ServerUri(f"http://{web}/data"), model="tiny")
