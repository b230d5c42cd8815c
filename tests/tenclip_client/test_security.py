"""TLS and tokens of both clients and of the commands, against real servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tenclip_api.errors import InvalidRequest, ServerUnavailable
from tenclip_client import Client
from tenclip_client._security import is_local, token_from_file
from tenclip_client.cli.main import main

from ..certificates import Authority, Pair
from .conftest import Call
from .servicer import FakeRecognition, serving


@dataclass(frozen=True)
class Secured:
    """A server that wants a certificate of its clients."""

    target: str
    servicer: FakeRecognition
    ca: Path
    ours: Pair

    @property
    def settings(self) -> dict[str, Any]:
        return {"target": self.target, "ca": self.ca, "certificate": self.ours.certificate, "key": self.ours.key}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    authority = Authority(tmp_path)
    server, ours = authority.issue("server"), authority.issue("client", "me@example.org")
    pair = (server.key.read_bytes(), server.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.ca.read_bytes(), require_client_auth=True)
    servicer = FakeRecognition()
    with serving(servicer, credentials=credentials) as target:
        yield Secured(target, servicer, authority.ca, ours)


def test_certificates_as_paths_and_as_bytes(call: Call, secured: Secured) -> None:
    assert call("predict", b"bytes", client=secured.settings).top
    in_memory = {n: v.read_bytes() if isinstance(v, Path) else v for n, v in secured.settings.items()}
    assert call("predict", b"bytes", client={**in_memory, "tls": True}).top
    as_text = {n: str(v) for n, v in secured.settings.items()}
    assert call("predict", b"bytes", client=as_text).top


def test_what_does_not_fit_is_said(call: Call, secured: Secured, tmp_path: Path, target: str) -> None:
    stranger = Authority(tmp_path, "stranger")
    own = secured.ours
    strangers = stranger.issue("me", "me@example.org")
    for settings, says in (
        ({**secured.settings, "ca": stranger.ca}, "certificate is not trusted; name the authority"),
        ({"target": secured.target}, r"what answers there hangs up; it may want TLS \(--tls\)"),
        ({"target": secured.target, "ca": secured.ca}, "or a client's certificate"),
        (
            {**secured.settings, "certificate": strangers.certificate, "key": strangers.key},
            "hangs up|handshake",
        ),
        ({"target": target, "ca": secured.ca, "certificate": own.certificate, "key": own.key}, "speaks no TLS"),
    ):
        with pytest.raises(ServerUnavailable, match=says):
            call("predict", b"bytes", client={**settings, "retries": 0}, timeout=20)


def test_the_name_in_the_certificate_must_be_the_one_called(call: Call, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    other = authority.issue("other", "elsewhere.example.org")
    credentials = grpc.ssl_server_credentials([(other.key.read_bytes(), other.certificate.read_bytes())])
    with serving(FakeRecognition(), credentials=credentials) as target:
        with pytest.raises(ServerUnavailable, match="for another name"):
            call("predict", b"bytes", client={"target": target, "ca": authority.ca, "retries": 0}, timeout=20)
        named = {"target": target, "ca": authority.ca, "server_name": "elsewhere.example.org"}
        assert call("predict", b"bytes", client=named).top


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ca": "none.pem"}, r"ca none\.pem: No such file"),
        ({"ca": b"text"}, "ca <bytes>: is not PEM"),
        ({"certificate": b"-----BEGIN CERTIFICATE-----"}, "give both, or neither"),
        ({"key": b"-----BEGIN PRIVATE KEY-----"}, "give both, or neither"),
        ({"tls": False, "ca": b"-----BEGIN CERTIFICATE-----"}, "tls=False, and certificates"),
        ({"token": ""}, "token: must be printable ASCII"),
        ({"token": "two words"}, "token: must be printable ASCII"),
        ({"token": "line\nbreak"}, "token: must be printable ASCII"),
        ({"token": "secret", "target": "gpu-box"}, r"the token would go to gpu-box:7411 in plain text: use tls"),
        ({"token": lambda: "secret", "target": "10.0.0.1"}, "in plain text"),
        (
            {"token": "secret", "proxy": "http://me:secret@proxy:3128"},
            r"127\.0\.0\.1:7411 through the proxy http://proxy:3128 \(from the argument proxy\) in plain text: use tls "
            r"\(--tls\), connect without the proxy, or insecure_token",
        ),
        (
            {"token": "secret", "options": [("grpc.http_proxy", "http://proxy:1")]},
            "http://proxy:1 .from grpc.http_proxy",
        ),
        ({"token": "secret", "target": "gpu-box", "proxy": "http://127.0.0.1:1"}, "gpu-box:7411 through the proxy"),
    ],
)
def test_settings_that_cannot_be_used(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        Client(**settings)
    assert "secret" not in caught.value.message


def test_proxies_that_grpc_takes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    Client(token="secret").close()
    Client(token="secret", options=[("grpc.enable_http_proxy", 0)]).close()
    with pytest.raises(InvalidRequest, match=r"through the proxy http://proxy:3128 \(from http_proxy\) in plain text"):
        Client(token="secret", options=[("grpc.enable_http_proxy", 1)])
    Client("unix:///run/tenclip.sock", token="secret", options=[("grpc.enable_http_proxy", 1)]).close()
    monkeypatch.setenv("grpc_proxy", "")
    Client(token="secret", options=[("grpc.enable_http_proxy", 1)]).close()


@pytest.mark.parametrize("in_memory", [False, True])
def test_files_of_another_kind_than_named(secured: Secured, tmp_path: Path, in_memory: bool) -> None:
    ca, certificate, key = secured.ca, secured.ours.certificate, secured.ours.key
    other = Authority(tmp_path, "other").issue("other", "me@example.org")
    locked, damaged, half = (tmp_path / name for name in ("locked.key", "damaged.pem", "half.key"))
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    half.write_bytes(key.read_bytes()[:60])

    def said(path: Path) -> str:
        return "<bytes>" if in_memory else re.escape(str(path))

    for settings, says in (
        ({"ca": key}, rf"ca {said(key)}: holds no certificate"),
        ({"ca": damaged}, rf"ca {said(damaged)}: holds no certificate"),
        (
            {"certificate": certificate, "key": other.key},
            rf"key {said(other.key)}: is not the key of certificate {said(certificate)}",
        ),
        ({"certificate": certificate, "key": ca}, rf"key {said(ca)}: holds no private key"),
        ({"certificate": key, "key": key}, rf"certificate {said(key)}: holds no certificate"),
        ({"certificate": certificate, "key": locked}, rf"key {said(locked)}: is encrypted"),
        ({"certificate": damaged, "key": key}, rf"certificate {said(damaged)}, .*: are no certificate and key"),
        ({"certificate": certificate, "key": half}, rf"key {said(half)}: are no certificate and key"),
    ):
        given = {n: p.read_bytes() if in_memory else p for n, p in settings.items()}
        with pytest.raises(InvalidRequest, match=says):
            Client("127.0.0.1:1", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"target": "gpu-box", "insecure_token": True},
        {"target": "gpu-box", "tls": True},
        {"target": "unix:///run/tenclip.sock"},
        {"target": "[::1]:7411"},
        {"proxy": "http://127.0.0.1:3128"},
        {"proxy": "http://proxy:3128", "tls": True},
        {"proxy": "http://proxy:3128", "insecure_token": True},
        {"options": [("grpc.http_proxy", "http://proxy:3128"), ("grpc.enable_http_proxy", 0)]},
    ],
)
def test_where_a_token_may_go(settings: dict[str, Any]) -> None:
    Client(token="secret", **settings).close()


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:7411", True),
        ("127.0.0.1:7411", True),
        ("127.9.9.9:7411", True),
        ("[::1]:80", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:80", True),
        ("ipv4:127.0.0.1:80,10.0.0.1:80", False),
        ("localhost.example.org:80", False),
        ("10.0.0.1:80", False),
        ("dns:///box:80", False),
        ("vsock:2:80", False),
        ("xds:///localhost", False),
    ],
)
def test_what_is_local(target: str, local: bool) -> None:
    assert is_local(target) is local


def test_the_token_goes_with_every_call_and_may_change(call: Call, target: str, servicer: FakeRecognition) -> None:
    call("predict", b"bytes", client={"token": "abc", "metadata": [("x-mine", "1")]})
    sent = iter(["one", "two", "three"])
    with Client(target, token=lambda: next(sent)) as client:  # the first is looked at before anything is sent
        client.predict(b"bytes")
        client.predict(b"bytes")
    assert [m["authorization"] for m in servicer.metadata] == ["Bearer abc", "Bearer two", "Bearer three"]
    assert servicer.metadata[0]["x-mine"] == "1"


def test_a_token_file_is_read_before_every_call(target: str, servicer: FakeRecognition, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    with Client(target, token=token_from_file(file)) as client:
        client.predict(b"bytes")
        file.write_text("second")
        client.predict(b"bytes")
        file.write_text("not one token")
        with pytest.raises(InvalidRequest, match=r"token: must hold one token|must hold one token"):
            client.predict(b"bytes")
    assert [m["authorization"] for m in servicer.metadata] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff"])
def test_files_without_a_token(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(InvalidRequest, match="must hold one token, and nothing else"):
        token_from_file(file)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        token_from_file(tmp_path / "none")


# -- commands ---------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err


def test_commands_with_options_and_with_variables(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENCLIP_SERVER", secured.target)
    token, video = tmp_path / "token", tmp_path / "a.mp4"
    token.write_text("of-the-file")
    video.write_bytes(b"video")
    options = [f"--ca={secured.ca}", f"--certificate={secured.ours.certificate}", f"--key={secured.ours.key}"]
    code, out, _ = run(capsys, "predict", str(video), "--json", *options, f"--token-file={token}")
    assert (code, json.loads(out)[0]["ok"]) == (0, True)
    assert secured.servicer.metadata[-1]["authorization"] == "Bearer of-the-file"
    monkeypatch.setenv("TENCLIP_CA", str(secured.ca))
    monkeypatch.setenv("TENCLIP_CERTIFICATE", str(secured.ours.certificate))
    monkeypatch.setenv("TENCLIP_KEY", str(secured.ours.key))
    monkeypatch.setenv("TENCLIP_TOKEN", "of-the-variable")
    assert run(capsys, "models", "--json")[0] == 0
    assert run(capsys, "features", str(video), "--out", str(tmp_path / "f.parquet"))[0] == 0
    assert secured.servicer.metadata[-1]["authorization"] == "Bearer of-the-variable"


def test_commands_say_what_is_wrong_in_one_line(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for argv, says in (
        (("--server", secured.target), "what answers there hangs up; it may want TLS"),
        (("--server", secured.target, "--ca", "none.pem"), "Error: ca none.pem: No such file"),
        (("--server", secured.target, "--token-file", "none"), "Error: token file none: cannot be read"),
    ):
        code, _, err = run(capsys, "models", *argv)
        assert code == 1
        assert says in err
        assert err.count("\n") == 1
    monkeypatch.setenv("TENCLIP_TOKEN", "hush-hush-hush")
    code, _, err = run(capsys, "models", "--server", "gpu-box")
    assert code == 1
    assert "the token would go to gpu-box:7411 in plain text" in err
    assert "hush" not in err
