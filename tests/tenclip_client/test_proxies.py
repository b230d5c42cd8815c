"""Both clients and the commands behind real CONNECT proxies on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tenclip_client import Client, DeadlineExceeded, InvalidRequest, ServerUnavailable

from ..certificates import Authority
from ..connect_proxy import connect_proxy
from .conftest import Call
from .servicer import FakeRecognition, serving

# A name that only the proxy resolves.
BOX = "gpu-box.example:7411"


def test_through_the_proxy_of_the_environment(call: Call, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_proxy({BOX: target}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert call("predict", b"bytes", client={"target": BOX}).top
        assert proxy.connects == [BOX]


def test_through_the_proxy_that_is_named(call: Call, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with connect_proxy() as proxy:
        assert call("predict", b"bytes", client={"proxy": proxy.url}).top
        assert call("predict", b"bytes", client={"proxy": proxy.address}).top
        assert set(proxy.connects) == {target}  # gRPC may use one connection for both


def test_videos_in_pieces_and_streams_take_it_too(
    call: Call, target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tenclip_client._video.INLINE_BYTES", 4)
    monkeypatch.setattr("tenclip_client._video.PIECE_BYTES", 4)
    with connect_proxy({BOX: target}) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert call("predict", b"0123456789", client={"target": BOX}).top
        assert len(call("predict_stream", b"0123456789", client={"target": BOX})) == 4
        assert set(proxy.connects) == {BOX}


def test_this_machine_is_reached_directly(call: Call, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect_proxy() as proxy:
        for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        port = target.rpartition(":")[2]
        for here in (target, f"localhost:{port}", f"dns:///localhost:{port}"):
            assert call("predict", b"bytes", client={"target": here}).top
        assert proxy.connects == []


@pytest.mark.parametrize("proxy_argument", [False, ""])
def test_no_proxy_on_demand(
    call: Call, target: str, monkeypatch: pytest.MonkeyPatch, proxy_argument: str, nobody: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{nobody}")
    with pytest.raises(ServerUnavailable, match="no server answers there"):
        call("list_models", client={"target": "gpu-box.invalid:1", "proxy": proxy_argument, "retries": 0})
    monkeypatch.setenv("no_proxy", ".invalid")
    with pytest.raises(ServerUnavailable, match="no server answers there"):
        call("list_models", client={"target": "gpu-box.invalid:1", "retries": 0})


def test_tls_is_checked_against_the_server_not_the_proxy(call: Call, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", "gpu-box.example")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.certificate.read_bytes())])
    with serving(FakeRecognition(), credentials=credentials) as target:
        hosts = {BOX: target, "other.example:7411": target}
        with connect_proxy(hosts, credentials="me:p@ss word") as proxy:
            settings = {"ca": authority.ca, "proxy": proxy.url, "retries": 0}
            assert call("predict", b"bytes", client={"target": BOX, **settings}).top
            with pytest.raises(ServerUnavailable, match="certificate is for another name"):
                call("predict", b"bytes", client={"target": "other.example:7411", **settings})
            named = {"target": "other.example:7411", "server_name": "gpu-box.example", **settings}
            assert call("predict", b"bytes", client=named).top


def test_a_proxy_that_does_not_answer_is_named(call: Call, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:secret@{nobody}")
    with pytest.raises(ServerUnavailable) as caught:
        call("list_models", client={"target": BOX, "retries": 0})
    message = str(caught.value)
    assert message.startswith(f"{BOX}: cannot be reached through the proxy http://{nobody} (from http_proxy)")
    assert "--no-proxy" in message
    assert "secret" not in message
    with pytest.raises(DeadlineExceeded, match=r"the proxy http://.* \(from http_proxy\) is in between"):
        call("list_models", client={"target": BOX, "wait_for_ready": True, "timeout": 0.5})


def test_a_proxy_that_refuses_is_named(call: Call, nobody: str) -> None:
    with connect_proxy({BOX: nobody}) as proxy, pytest.raises(ServerUnavailable) as caught:
        call("list_models", client={"target": BOX, "proxy": proxy.url, "retries": 0})
    assert f"the proxy {proxy.url} (from the argument proxy) does not connect to it" in str(caught.value)
    with connect_proxy(credentials="me:secret") as proxy, pytest.raises(ServerUnavailable) as caught:
        call("list_models", client={"target": BOX, "proxy": f"http://me:wrong@{proxy.address}", "retries": 0})
    assert "wants a user and a password" in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_proxy_that_grpc_cannot_use(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:secret@proxy:1080")
    with pytest.raises(ServerUnavailable, match="connected directly: all_proxy: names a proxy of socks5://") as caught:
        call("list_models", client={"target": "gpu-box.invalid:1", "retries": 0})
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidRequest, match="proxy: names a proxy of socks5://"):
        Client(proxy="socks5://me:secret@proxy:1080")


def test_channel_options_about_proxies_leave_the_choice_to_grpc(
    call: Call, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect_proxy() as proxy:
        options = [("grpc.http_proxy", proxy.url)]
        assert call("predict", b"bytes", client={"options": options}).top
        assert proxy.connects == [target]


def test_grpc_left_to_itself_takes_a_proxy_for_this_machine_too(
    call: Call, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `check_token_is_safe` is told by `proxy_of_options`; the proxy here is on this machine."""
    settings = {"options": [("grpc.enable_http_proxy", 1)], "token": "secret"}
    with connect_proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert call("predict", b"bytes", client=settings).top
        assert set(proxy.connects) == {target}


def run(*argv: str, environ: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tenclip_client", *argv]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ}, cwd=cwd, timeout=120)


COMMANDS = [
    ("predict", "a.mp4", "--json"),
    ("predict", "a.mp4", "--stream", "--jsonl"),
    ("features", "a.mp4", "--out", "f.parquet", "--overwrite", "--json"),
    ("models", "--json"),
    ("bench", "a.mp4", "--requests", "2", "--warmup", "0", "--json"),
]


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: " ".join(argv[:3]))
def test_commands_on_a_machine_with_a_proxy(argv: tuple[str, ...], target: str, nobody: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    proxies = dict.fromkeys(("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"), f"http://{nobody}")
    done = run(*argv, environ={**proxies, "TENCLIP_SERVER": target}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] if "--jsonl" in argv else json.loads(done.stdout)


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: " ".join(argv[:3]))
def test_commands_name_the_proxy_that_fails(argv: tuple[str, ...], nobody: str, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    environ = {"http_proxy": f"http://me:secret@{nobody}", "TENCLIP_SERVER": "gpu-box.invalid:1"}
    done = run(*argv, environ=environ, cwd=tmp_path)
    assert done.returncode == 1
    assert f"through the proxy http://{nobody} (from http_proxy)" in done.stderr
    assert "secret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    direct = run(*argv, "--no-proxy", environ=environ, cwd=tmp_path)
    assert direct.returncode == 1
    assert "no server answers there" in direct.stderr
    assert "proxy http" not in direct.stderr
