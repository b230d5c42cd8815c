"""What the page answers, and what it refuses, asked over HTTP of a real process before a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tenclip_client import Client, Pieces, TenclipError
from tests.tenclip_serving.helpers import ServerProcess, running_server, stop

from .conftest import MAX_UPLOAD_MB
from .helpers import OURS, PageProcess, connected, running_page, until


def predict(page: PageProcess, video: Path, **query: str) -> tuple[int, list[dict[str, Any]]]:
    with page.client(headers=OURS) as client:
        query = {"name": video.name, "model": "tiny", **query}
        response = client.post("api/predict", params=query, content=video.read_bytes())
        return response.status_code, [json.loads(line) for line in response.text.splitlines()]


def test_an_answer_equals_that_of_the_client(page: PageProcess, server: ServerProcess, videos: Path) -> None:
    status, lines = predict(page, videos / "bar.mp4", clips="salient", num_clips="3", top_k="2")
    assert status == 200
    assert [line["update"]["num_done"] for line in lines[:-1]] == [1, 2, 3]
    with Client(server.address) as client:
        expected = client.predict(
            videos / "bar.mp4", model="tiny", clips="salient", num_clips=3, top_k=2, clip_scores=True, timeline=True
        ).to_dict()
    answer = lines[-1]["prediction"]
    assert answer["top"] == expected["top"]
    assert answer["timeline"] == expected["timeline"]
    for clip in expected["clips"]:
        del clip["clip"]["frame_indices"]
    assert answer["clips"] == expected["clips"]
    assert len(answer["thumbnails"]) == 16


def test_the_report_is_that_of_the_command(page: PageProcess, videos: Path) -> None:
    _, lines = predict(page, videos / "colors.mp4")
    report = lines[-1]["report"]
    assert report.startswith("<!doctype html>")
    assert "<title>colors.mp4</title>" in report
    assert "tiny-linear (tests)" in report, "what is known of the model only"
    assert "src=" not in report.replace('src="data:', "")


def test_an_adaptive_answer_says_how_far_it_went(page: PageProcess, videos: Path) -> None:
    _, lines = predict(page, videos / "bar.mp4", adaptive="1")
    assert lines[-1]["prediction"]["adaptive"]["clips_planned"] == 6
    assert "planned clips ran" in lines[-1]["words"]["adaptive"]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"model": "nobody"}, 404),
        ({"model": "tiny:7"}, 404),
        ({"model": "a:b:c"}, 400),
        ({"clips": "best"}, 400),
        ({"num_clips": "0"}, 400),
        ({"num_clips": "many"}, 400),
        ({"num_clips": "100000"}, 400),
        ({"adaptive": "1", "model": "other"}, 400),
        ({"adaptive": "1", "clips": "uniform"}, 400),
    ],
)
def test_bad_requests_are_refused_in_words(page: PageProcess, videos: Path, query: dict[str, str], status: int) -> None:
    got, lines = predict(page, videos / "colors.mp4", **query)
    assert (got, len(lines)) == (status, 1), lines
    assert set(lines[0]["error"]) >= {"type", "reason", "message"}


@pytest.mark.parametrize("name", ["text.mp4", "empty.mp4", "huge.mp4"])
def test_files_are_refused_with_the_words_of_the_server(
    page: PageProcess, server: ServerProcess, bad_files: Path, name: str
) -> None:
    status, lines = predict(page, bad_files / name)
    data = (bad_files / name).read_bytes()
    pieces = Pieces(len(data), lambda: iter([data[:100_000]] if data else []))
    with Client(server.address) as client, pytest.raises(TenclipError) as caught:
        client.predict(pieces, name=name, model="tiny")
    error = lines[0]["error"]
    assert status == (413 if name == "huge.mp4" else 400)
    assert (error["type"], error["message"]) == (type(caught.value).__name__, caught.value.message)


def test_what_is_too_large_is_refused_before_it_is_sent(page: PageProcess) -> None:
    """By the announced length: the server takes none of it."""
    length = 1 << 40
    head = f"POST /api/predict?name=big.mp4&model=tiny HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    with connected(page) as sent:
        sent.sendall((head + "X-Tenclip-Page: 1\r\n\r\n").encode() + bytes(1000))
        answer = b""
        while b"max_upload_mb" not in answer:
            part = sent.recv(65536)
            assert part, answer
            answer += part
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_ends_at_the_limit_and_memory_stays_flat(page: PageProcess) -> None:
    process, sent = psutil.Process(page.process.pid), 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 64 * MAX_UPLOAD_MB << 20:
            sent += 1 << 20
            yield bytes(1 << 20)

    before = process.memory_info().rss
    peak = before
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with page.client(headers=OURS) as client:
            response = client.post("api/predict", params={"model": "tiny", "name": "long.mp4"}, content=endless())
    finally:
        done.set()
        watcher.join()
    assert response.status_code == 413
    assert f"at most {MAX_UPLOAD_MB}.0 MiB (max_upload_mb)" in response.text
    assert peak - before < 24 << 20, f"{(peak - before) >> 20} MiB"


def test_whoever_hangs_up_ends_the_upload(page: PageProcess, server: ServerProcess) -> None:
    before = server.log.count("PredictUploadStream")
    with connected(page) as sent:
        head = "POST /api/predict?name=half.mp4&model=tiny HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n"
        sent.sendall((head + "X-Tenclip-Page: 1\r\n\r\n").encode() + bytes(1_000_000))
        time.sleep(0.3)
        assert server.log.count("PredictUploadStream") == before, "it waits for the rest"
    until(lambda: server.log.count("PredictUploadStream") > before)
    # The server may see the end of the upload before it sees that the call is over.
    assert any(words in server.log.splitlines()[-1] for words in ("code=CANCELLED", "half.mp4: ended after 1000000"))
    assert "Traceback" not in page.log


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "lacks the header x-tenclip-page"),
        ({**OURS, "Origin": "http://evil.example"}, "not those of other sites"),
        ({**OURS, "Origin": "null"}, "not those of other sites"),
        ({**OURS, "Sec-Fetch-Site": "cross-site"}, "not those of other sites"),
        ({**OURS, "Sec-Fetch-Site": "same-site"}, "not those of other sites"),
        ({**OURS, "Host": "evil.example"}, "not to be called as 'evil.example'"),
        ({**OURS, "Host": ""}, "not to be called as ''"),
    ],
)
def test_what_another_site_sends_is_refused_unread(
    page: PageProcess, server: ServerProcess, headers: dict[str, str], says: str
) -> None:
    before = server.log.count("PredictUploadStream")
    with page.client(headers=headers) as client:
        response = client.post("api/predict", params={"model": "tiny"}, content=b"x" * 100)
        assert response.status_code == 403
        assert says in response.json()["error"]["message"]
    assert server.log.count("PredictUploadStream") == before


def test_every_answer_has_its_headers_and_nothing_inline(page: PageProcess) -> None:
    with page.client() as client:
        for path in ("", "static/main.js", "api/page", "api/samples/none", "nothing", "static/../app.py"):
            response = client.get(path)
            policy = response.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
        html = client.get("").text
        assert client.get("static/%2e%2e/app.py").status_code == 404
    assert "<style" not in html
    assert " style=" not in html
    assert "<script>" not in html
    assert "//" not in html.replace("<!doctype", ""), "nothing comes from elsewhere"


def test_samples_come_by_number_and_in_parts(page: PageProcess, videos: Path) -> None:
    with page.client() as client:
        begin = client.get("api/page").json()
        assert [sample["name"] for sample in begin["samples"]] == ["bar.mp4", "colors.mp4"]
        assert str(videos) not in json.dumps(begin)
        address = f"api/samples/{begin['samples'][0]['id']}"
        whole = (videos / "bar.mp4").read_bytes()
        assert client.get(address).content == whole
        part = client.get(address, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole[100:200])
        assert client.get("api/samples/../../etc/passwd").status_code == 404
        assert client.get("api/samples/0000000000000000").status_code == 404


def test_a_server_that_is_down_is_said_without_its_address(models: Path, videos: Path) -> None:
    with running_server(models, "--threads", "1") as server, running_page(server.address) as page:
        stop(server.process)
        with page.client() as client:
            response = client.get("api/page")
        status, lines = predict(page, videos / "colors.mp4")
    for got, error in ((response.status_code, response.json()["error"]), (status, lines[0]["error"])):
        assert got == 503
        assert error["type"] == "ServerUnavailable"
        assert "the server: no server answers there" in error["message"]
        assert server.address not in error["message"]


def test_tokens_of_visitors_go_to_the_server(models: Path, videos: Path, tmp_path: Path) -> None:
    good, no_use = "a-token-of-a-visitor", "a-token-for-metrics-only"
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        f'[visitor]\ntoken = "{good}"\npermissions = ["predict"]\n'
        f'[scraper]\ntoken = "{no_use}"\npermissions = ["metrics"]\n'
    )
    own = tmp_path / "own.txt"
    own.write_text(good)
    with running_server(models, "--tokens-file", str(tokens), "--threads", "1") as server:
        with running_page(server.address, "--samples", str(videos)) as page, page.client() as client:
            assert status(client) == 401
            assert status(client, "a-token-of-nobody-here") == 401
            assert status(client, no_use) == 403
            assert status(client, good) == 200
            assert client.get("api/samples/0000000000000000").status_code == 401
            headers = {**OURS, "Authorization": f"Bearer {good}"}
            answer = client.post("api/predict?model=tiny", content=(videos / "bar.mp4").read_bytes(), headers=headers)
            assert answer.status_code == 200
            refused = client.post("api/predict?model=tiny", content=b"x" * 99, headers=OURS)
            assert refused.status_code == 401
            assert good not in page.log
        # A page with a token of its own lends it to whoever is on this machine, or asks for one of its own.
        with running_page(server.address, "--token-file", str(own)) as page, page.client() as client:
            assert status(client) == 200
        own_page = ("--token-file", str(own), "--page-token-file", str(tmp_path / "page.txt"))
        (tmp_path / "page.txt").write_text("sesame-sesame-sesame")
        with running_page(server.address, *own_page) as page, page.client() as client:
            assert status(client) == 401
            assert status(client, good) == 401
            assert status(client, "sesame-sesame-sesame") == 200


def status(client: httpx.Client, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.get("api/page", headers=headers).status_code
