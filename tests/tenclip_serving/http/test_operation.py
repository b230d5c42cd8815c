"""An HTTP port under load and hostility: full queues, slow and vanished callers, tokens, TLS, an orderly end."""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tenclip_client import Client
from tests.certificates import Authority
from tests.tenclip_serving.helpers import ServerProcess, make_video, running_server, stop
from tests.tenclip_serving.http.helpers import (
    CLIENT_OPTIONS,
    as_grpc,
    connected,
    get,
    metric,
    post,
    post_head,
    problem_of,
    read_answer,
    url,
    video,
    wait_until,
)
from tests.tenclip_ui.browsing import launched, needs_browser

FAST = ("--http-port", "0", "--runtime", "onnxruntime", "--decode-workers", "1")
MIB = 1 << 20


@pytest.fixture(scope="module")
def narrow(one_model: Path, videos: Path) -> Iterator[ServerProcess]:
    """Two requests at once, none waits; and large uploads."""
    limits = ["--max-active", "2", "--max-queue", "0", "--max-upload-mb", "64"]
    with running_server(one_model, *FAST, *limits, "--allow-root", str(videos)) as running:
        yield running


def held(server: ServerProcess) -> float:
    gauges = ("tenclip_spool_bytes", "tenclip_in_flight_bytes", "tenclip_requests_in_flight")
    return sum(metric(server, name) for name in gauges)


def test_a_full_queue_refuses_before_the_body_is_read(narrow: ServerProcess, videos: Path) -> None:
    """At 10 MiB announced and none sent; with gRPC's reason, and seconds to wait. Then there is room again."""
    with connected(narrow) as first, connected(narrow) as second, connected(narrow) as third:
        for number, busy in enumerate((first, second), 1):
            busy.sendall(post_head("/v1/predict", MIB) + b"x" * 1000)
            # Half of the places are for uploads: the second one is refused for that.
            wait_until(lambda number=number: metric(narrow, "tenclip_requests_in_flight") >= min(number, 1))  # type: ignore[misc]
        status, headers, body = read_answer(second)
        assert (status, problem_of(body)["reason"]) == (429, "OVERLOADED")
        assert "1 videos are being uploaded or fetched" in problem_of(body)["detail"]
        assert int(headers["retry-after"]) >= 1
        assert float(headers["tenclip-retry-after-seconds"]) == problem_of(body)["retry_after_seconds"]
        third.sendall(post_head("/v1/predict", 10 * MIB, "multipart/form-data; boundary=b"))
        assert read_answer(third)[0] == 429
    wait_until(lambda: held(narrow) == 0)
    assert post(narrow, "/v1/predict", files=video(videos / "colors.mp4")).status_code == 200
    assert metric(narrow, "tenclip_refusals_total", reason="uploads_full") >= 2


def test_all_places_taken(one_model: Path, videos: Path) -> None:
    """With one place for all, gRPC's call and HTTP's refuse each other with the same words."""
    with (
        running_server(
            one_model, *FAST, "--max-active", "1", "--max-queue", "0", "--allow-root", str(videos)
        ) as server,
        connected(server) as busy,
    ):
        busy.sendall(post_head("/v1/predict", MIB) + b"x")
        wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
        with connected(server) as other:
            other.sendall(post_head("/v1/predict", 10 * MIB))
            status, headers, body = read_answer(other)
        answer = post(server, "/v1/predict", json={"path": str(videos / "colors.mp4")})
        assert as_grpc(answer)[:2] == (429, "OVERLOADED")
        assert status == 429
        assert int(headers["retry-after"]) >= 1
        says = "the server has too much to do: 0 requests are worked on and 1 wait; try again in "
        assert problem_of(body)["detail"].startswith(says)
        assert answer.json()["detail"].startswith(says)
        assert "code=RESOURCE_EXHAUSTED reason=OVERLOADED" in server.log


def test_a_chunked_body_past_the_limit_and_memory_stays_flat(narrow: ServerProcess) -> None:
    process, piece = psutil.Process(narrow.process.pid), b"x" * (256 << 10)
    before, peak, sent = process.memory_info().rss, 0, 0
    with connected(narrow) as connection:
        connection.sendall(post_head("/v1/predict", None))
        try:
            while sent < 200 * MIB:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                sent += len(piece)
                peak = max(peak, process.memory_info().rss)
        except OSError:
            pass  # it has been answered, and the rest is not wanted
        status, _, body = read_answer(connection)
    assert (status, problem_of(body)["reason"]) == (413, "VIDEO_TOO_LARGE")
    assert "this server takes at most 64.0 MiB (max_upload_mb)" in problem_of(body)["detail"]
    assert 64 * MIB <= sent < 100 * MIB
    assert peak - before < 16 * MIB
    wait_until(lambda: held(narrow) == 0)


@pytest.mark.parametrize("content_type", ["video/mp4", "multipart/form-data; boundary=b"])
def test_who_hangs_up_frees_what_was_held(narrow: ServerProcess, content_type: str) -> None:
    head = b"" if content_type == "video/mp4" else b'--b\r\nContent-Disposition: form-data; name="video"\r\n\r\n'
    before = metric(narrow, "tenclip_requests_total", code="CANCELLED", transport="http")
    with connected(narrow) as connection:
        connection.sendall(post_head("/v1/predict", 8 * MIB, content_type) + head + b"x" * MIB)
        wait_until(lambda: metric(narrow, "tenclip_spool_bytes") >= MIB)
    wait_until(lambda: held(narrow) == 0)
    assert metric(narrow, "tenclip_requests_total", code="CANCELLED", transport="http") == before + 1


def test_who_hangs_up_while_clips_run_frees_them(one_model: Path, tmp_path: Path) -> None:
    """Thousands of clips, of which most never run."""
    file = make_video(tmp_path / "longer.mp4", num_frames=3000)
    more = ["--max-clips", "100000", "--allow-root", str(tmp_path), "--threads", "1"]
    with running_server(one_model, *FAST, *more) as server:
        asked = json.dumps({"path": str(file), "mode": "windows", "window_step_frames": 1}).encode()
        with connected(server) as connection:
            head = post_head("/v1/predict", len(asked), "application/json", Accept="application/x-ndjson")
            connection.sendall(head + asked)
            assert connection.recv(15) == b"HTTP/1.1 200 OK", connection.recv(1000)
        wait_until(lambda: metric(server, "tenclip_requests_total", method="PredictStream", code="CANCELLED") == 1)
        wait_until(lambda: held(server) == 0)
        assert metric(server, "tenclip_clips_saved_total") > 0


def test_an_upload_that_stands_still_ends(one_model: Path) -> None:
    with running_server(one_model, *FAST, "--upload-idle-seconds", "2") as server, connected(server) as connection:
        connection.sendall(post_head("/v1/predict", MIB) + b"x")
        status, _, body = read_answer(connection)
    assert (status, problem_of(body)["reason"]) == (504, "DEADLINE_EXCEEDED")
    assert problem_of(body)["detail"] == "<upload>: only 1 bytes of it came in 2 seconds"


def test_a_deadline_ends_an_upload(narrow: ServerProcess) -> None:
    with connected(narrow) as connection:
        head = b'--b\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\nx'
        connection.sendall(post_head("/v1/predict", MIB, "multipart/form-data; boundary=b", Request_Timeout="2") + head)
        status, _, body = read_answer(connection)
    assert (status, problem_of(body)["reason"]) == (504, "DEADLINE_EXCEEDED")
    # What was left when the upload began.
    says = re.fullmatch(r"a\.mp4: not done in (\d[.\d]*) seconds, the caller's deadline", problem_of(body)["detail"])
    assert says
    assert 0 < float(says[1]) <= 2
    wait_until(lambda: held(narrow) == 0)


# -- the orderly end --------------------------------------------------------------------------------------------------


def test_sigterm_loses_no_accepted_request(one_model: Path, videos: Path) -> None:
    """Not ready at once, still answering for a while; then the upload that has begun ends as if nothing was."""
    data = (videos / "colors.mp4").read_bytes()
    waits = ["--shutdown-delay-seconds", "6", "--shutdown-grace-seconds", "3600", "--upload-idle-seconds", "60"]
    with running_server(one_model, *FAST, *waits) as server, connected(server) as busy:
        busy.sendall(post_head("/v1/predict", len(data)) + data[:1000])
        wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/readyz").status_code == 503)
        assert get(server, "/healthz").status_code == 200
        assert get(server, "/v2/health/ready").json() == {"ready": False}
        assert get(server, "/v1/models").status_code == 200
        wait_until(lambda: _refuses(server))
        busy.sendall(data[1000:])
        status, _, body = read_answer(busy)
        assert (status, json.loads(body)["top"][0]["label"]) == (200, "red")
        assert server.process.wait(60) == 0
        assert "Traceback" not in server.log
        assert "code=OK" in server.log


def _refuses(server: ServerProcess) -> bool:
    try:
        get(server, "/healthz")
    except httpx.TransportError:
        return True
    return False


def test_what_is_not_done_within_the_grace_is_cut(one_model: Path) -> None:
    limits = ["--shutdown-grace-seconds", "0.5", "--upload-idle-seconds", "3600"]
    with running_server(one_model, *FAST, *limits) as server, connected(server) as busy:
        busy.sendall(post_head("/v1/predict", MIB) + b"x")
        wait_until(lambda: metric(server, "tenclip_requests_in_flight") == 1)
        assert stop(server.process) == 0  # which would kill it in the end
        assert busy.recv(100) == b""
        assert "Traceback" not in server.log


# -- tokens and TLS ---------------------------------------------------------------------------------------------------

TOKENS = """
[alice]
token = "alice-0123456789abcdef"
permissions = ["predict"]
[ops]
token = "ops-0123456789abcdef"
permissions = ["manage"]
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_tokens_and_tls(one_model: Path, videos: Path, tmp_path: Path, authority: Authority) -> None:
    """The same certificate and tokens as gRPC's port; a new certificate is taken without a restart."""
    (tmp_path / "tokens.toml").write_text(TOKENS)
    pair = authority.issue("server")
    files = ["--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)]
    with running_server(one_model, *FAST, *files, "--tokens-file", str(tmp_path / "tokens.toml")) as server:
        trusted = ssl.create_default_context(cafile=str(authority.ca))
        with Client(server.address, ca=authority.ca, token="alice-0123456789abcdef") as client:
            expected = client.predict(videos / "colors.mp4").top[0].score
        with httpx.Client(base_url=url(server, "", "https"), verify=trusted, **CLIENT_OPTIONS) as http:
            alice, ops = ({"authorization": f"Bearer {name}-0123456789abcdef"} for name in ("alice", "ops"))
            answer = http.post("/v1/predict", files=video(videos / "colors.mp4"), headers=alice)
            assert answer.json()["top"][0]["score"] == expected
            assert "client=alice" in server.log
            refused = http.post("/v1/predict", files=video(videos / "colors.mp4"))
            assert as_grpc(refused)[:2] == (401, "UNAUTHENTICATED")
            assert refused.headers["www-authenticate"] == "Bearer"
            assert as_grpc(refused)[2] == 'this server wants a token: send the header "Authorization: Bearer TOKEN"'
            wrong = http.get("/v1/models", headers={"authorization": "Bearer nobody-0123456789abcdef"})
            assert as_grpc(wrong)[2] == "the token is none that this server knows; it may have been replaced"
            says = "Predict needs the permission predict; the token of ops has manage"
            assert as_grpc(http.post("/v1/predict", headers=ops)) == (403, "PERMISSION_DENIED", says)
            query = http.get("/v1/models?token=alice-0123456789abcdef")
            assert as_grpc(query)[0] == 401
            assert http.post("/v2/repository/models/tiny/load", headers=alice).status_code == 403
            assert http.post("/v2/repository/models/tiny/load", headers=ops).status_code == 200
            assert [http.get(p).status_code for p in ("/healthz", "/readyz", "/v2/health/live", "/docs")] == [200] * 4
            assert http.get("/openapi.json").json()["security"] == [{"token": []}]
        assert "0123456789abcdef" not in server.log
        renewed = Authority(tmp_path, "new")
        fresh = renewed.issue("server")
        shutil.copy(fresh.key, pair.key)
        shutil.copy(fresh.certificate, pair.certificate)
        verify = ssl.create_default_context(cafile=str(renewed.ca))
        assert httpx.get(url(server, "/healthz", "https"), verify=verify, **CLIENT_OPTIONS).status_code == 200
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(url(server, "/healthz", "https"), verify=trusted, **CLIENT_OPTIONS)
        with pytest.raises(httpx.TransportError):
            get(server, "/healthz")  # plain HTTP is not for this port


def test_clients_must_show_certificates(one_model: Path, authority: Authority) -> None:
    pair, mine = authority.issue("server"), authority.issue("client", "someone")
    files = [
        "--tls-certificate",
        str(pair.certificate),
        "--tls-key",
        str(pair.key),
        "--tls-client-ca",
        str(authority.ca),
    ]
    with running_server(one_model, *FAST, *files) as server:
        verify = ssl.create_default_context(cafile=str(authority.ca))
        with pytest.raises(httpx.TransportError):
            httpx.get(url(server, "/healthz", "https"), verify=verify, **CLIENT_OPTIONS)
        verify.load_cert_chain(mine.certificate, mine.key)
        assert httpx.get(url(server, "/healthz", "https"), verify=verify, **CLIENT_OPTIONS).status_code == 200


# -- what is no honest HTTP -------------------------------------------------------------------------------------------

NO_BODY = b"Content-Length: 0\r\n\r\n"
GET, POST = (verb + b" HTTP/1.1\r\nHost: x\r\n" for verb in (b"GET /v1/models", b"POST /v1/predict"))


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "this is no HTTP/1.1 request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20000 + b"\r\n\r\n", 431, "at most 16384 may be"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 300000, 400, "more than 16384 bytes"),
        (GET + b"" + b"A: b\r\n" * 101 + b"\r\n", 431, "has 102 headers; at most 100"),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "send one of them"),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "this is no HTTP"),
        (POST + b"Content-Length: -5\r\n\r\n", 400, "this is no HTTP"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "this is no HTTP"),
        (GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400, "is there 2 times"),
        (GET.replace(b" HTTP", b"?" + b"b" * 9000 + b" HTTP") + b"\r\n", 200, ""),
        (POST.replace(b" HTTP", b"?" + b"b" * 9000 + b" HTTP") + NO_BODY, 400, "9000 bytes; at most 8192"),
        (b"POST /v1/predict?model=%FF HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 400, "percent-encoded UTF-8"),
        (b"GET http://evil/v1/models/ HTTP/1.1\r\nHost: evil\r\n\r\n", 404, "there is nothing at"),
        (GET + b"Content-Length: 2\r\n\r\nhi", 400, "must have none"),
    ],
)  # fmt: skip
def test_what_is_no_honest_http(http_server: ServerProcess, request_: bytes, status: int, says: str) -> None:
    with connected(http_server) as connection:
        connection.sendall(request_)
        got, headers, body = read_answer(connection)
    assert got == status
    if status != 200:
        assert headers["content-type"] == "application/problem+json"
        assert says in problem_of(body)["detail"]
    assert "location" not in headers
    assert "server" not in headers


def test_a_request_behind_a_refused_one_is_not_taken_for_part_of_it(http_server: ServerProcess) -> None:
    """The body of a refused request is never read as the next request."""
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    with connected(http_server) as connection:
        connection.sendall(post_head("/nowhere", len(smuggled)) + smuggled)
        status, headers, _ = read_answer(connection)
        assert (status, headers["connection"]) == (404, "close")
        assert connection.recv(1000) == b""


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:1", "host": "localhost:1"}, 400),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 400),
    ],
)
def test_pages_of_other_sites_ask_nothing(http_server: ServerProcess, headers: dict[str, str], status: int) -> None:
    """Without a video: 400 is for those who are let in."""
    answer = post(http_server, "/v1/predict?model=tiny", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert as_grpc(answer)[1:] == ("PERMISSION_DENIED", "requests of other sites' pages are not taken")


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/models", "GET"),
        ("/docs", "GET"),
        ("/v2/health/ready", "GET"),
        ("/nowhere", "GET"),
        ("/v1/predict", "POST"),
    ],
)
def test_browsers_call_a_server_of_this_machine_by_its_own_names(
    http_server: ServerProcess, path: str, method: str
) -> None:
    """Whoever else calls it may do so by any name: what stands in front, or a service of a cluster."""

    def status(host: str, **headers: str) -> int:
        sent = {"host": host, **headers}
        return httpx.request(method, url(http_server, path), headers=sent, **CLIENT_OPTIONS).status_code

    usual = status("localhost")
    assert usual in (200, 400, 404)
    assert status("models.default.svc.cluster.local") == usual
    for browser in (
        {"sec-fetch-site": "same-origin"},
        {"origin": "http://evil.example:8080"},
        {"accept-language": "en"},
    ):
        assert status("evil.example:8080", **browser) == 403
        assert status("[::1]:8080", **{**browser, "origin": "http://[::1]:8080"}) == usual
    answer = httpx.request(
        method, url(http_server, path), headers={"host": "x", "origin": "http://x"}, **CLIENT_OPTIONS
    )
    message = "browsers are not to call this server as 'x'; --browser-name allows a name"
    assert as_grpc(answer)[1:] == ("PERMISSION_DENIED", message)


def test_a_name_may_be_given_to_browsers(two_models: Path) -> None:
    with running_server(two_models, "--http-port", "0", "--browser-name", "Lab.example") as server:
        for address, path in ((server.http_address, "/v1/models"), (server.metrics_address, "/metrics")):
            for host, expected in (("lab.example:8080", 200), ("localhost", 200), ("evil.example", 403)):
                headers = {"host": host, "accept-language": "en"}
                assert httpx.get(f"http://{address}{path}", headers=headers, **CLIENT_OPTIONS).status_code == expected
            assert httpx.get(f"http://{address}{path}", headers={"host": "box"}, **CLIENT_OPTIONS).status_code == 200


@needs_browser
def test_a_site_that_takes_this_machines_address_reads_nothing(http_server: ServerProcess) -> None:
    """DNS rebinding, in a real browser: the page and the server have one origin then."""
    assert http_server.http_address
    ports = [address.rpartition(":")[2] for address in (http_server.http_address, http_server.metrics_address or "")]
    for browser in launched("--host-resolver-rules=MAP evil.example 127.0.0.1"):
        page = browser.new_page()
        for port, path in zip(ports, ("/v1/models", "/metrics"), strict=True):
            for host, expected in (("evil.example", 403), ("localhost", 200)):
                page.goto(f"http://{host}:{port}/")
                ask = "path => fetch(path, {headers: {'Accept-Language': ''}}).then(answer => answer.status)"
                assert page.evaluate(ask, path) == expected


def test_requests_one_behind_the_other(http_server: ServerProcess) -> None:
    request = b"GET /v1/models/tiny HTTP/1.1\r\nHost: x\r\ntenclip-request-id: %b\r\n\r\n"
    with connected(http_server) as connection:
        connection.sendall(request % b"pipelined-1" + request % b"pipelined-2")
        data = b""
        while data.count(b"HTTP/1.1 200 OK") < 2:
            data += connection.recv(1 << 16)
    assert data.index(b"pipelined-1") < data.index(b"pipelined-2")


def test_many_callers_at_once(http_server: ServerProcess, videos: Path) -> None:
    found: list[Any] = []

    def ask() -> None:
        answer = post(http_server, "/v1/predict?model=tiny", files=video(videos / "colors.mp4"))
        found.append(answer.json()["top"])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert all(top == found[0] for top in found)


# -- the start --------------------------------------------------------------------------------------------------------


def test_off_unless_asked_for(one_model: Path) -> None:
    script = (
        "import sys, tenclip_serving.server, tenclip_serving.commands\n"
        "packages = {'starlette', 'uvicorn', 'h11', 'python_multipart'}\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & packages))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    with running_server(one_model, "--runtime", "onnxruntime") as server:
        assert server.http_address is None


def test_a_port_that_is_taken(one_model: Path, http_server: ServerProcess) -> None:
    assert http_server.http_address
    port = http_server.http_address.rpartition(":")[2]
    command = [sys.executable, "-m", "tenclip_serving", str(one_model), "--port", "0", "--metrics-port", "0"]
    done = subprocess.run([*command, "--http-port", port], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken; --http-port 0 takes a free one" in done.stderr


def test_the_extra_is_named_where_it_is_missing(one_model: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util as u, tenclip_serving.http as h\n"
        "h.find_spec = lambda name: None if name == 'uvicorn' else u.find_spec(name)\n"
        "from tenclip_client.cli.main import main\n"
        f"import sys; sys.argv = ['tenclip', 'serve', {str(one_model)!r}, '--port', '0', '--http-port', '0']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "--http-port needs uvicorn: pip install 'tenclip[http]'" in done.stderr
