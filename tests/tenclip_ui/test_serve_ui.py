"""`tenclip serve --ui`: the page in the server's own process, with the server's TLS, certificates and tokens."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.certificates import Authority
from tests.tenclip_serving.helpers import ServerProcess, running_server, stop

from .helpers import OURS, until


@contextlib.contextmanager
def served_page(models: Path, *arguments: str) -> Iterator[tuple[ServerProcess, str]]:
    """A server and the address of its page."""
    with running_server(models, "--ui", "0", "--threads", "1", *arguments) as server:
        assert server.process.stdout is not None
        match = re.fullmatch(r"tenclip page on (https?://\S+/)\n", server.process.stdout.readline())
        assert match, server.log
        yield server, match[1]


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For the temporary files of this test's server alone. Short: paths of sockets have 107 characters at most."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def test_the_page_of_the_server_itself(models: Path, videos: Path, temporary: Path) -> None:
    arguments = ["--ui-samples", str(videos), "--max-upload-mb", "7", "--browser-name", "lab.example"]
    with served_page(models, *arguments) as (server, url):
        (ours,) = temporary.glob("tenclip-page-*")
        assert ours.stat().st_mode & 0o777 == 0o700
        with httpx.Client(base_url=url, headers=OURS, trust_env=False, timeout=30) as client:
            begin = client.get("api/page").json()
            assert begin["max_upload_bytes"] == 7 << 20
            assert [s["name"] for s in begin["samples"]] == ["bar.mp4", "colors.mp4"]
            answer = client.post("api/predict?model=tiny&name=a.mp4", content=(videos / "bar.mp4").read_bytes())
            assert "prediction" in json.loads(answer.text.splitlines()[-1])
            refused = client.post("api/predict?model=tiny&name=a.mp4", content=b"no video")
            assert client.get("", headers={"Host": "lab.example:8050"}).status_code == 200
            foreign = client.get("", headers={"Host": "evil.example"})
        assert foreign.json()["error"]["message"].endswith("as 'evil.example'; --browser-name allows a name")
        assert refused.json()["error"]["type"] == "NotAVideo"
        assert ours.name not in refused.text + json.dumps(begin)
        # Whoever uploads when it is told to stop does not hold it.
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port or 0), timeout=10) as sent:
            head = "POST /api/predict?model=tiny HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
            sent.sendall((head + "X-Tenclip-Page: 1\r\n\r\nsome").encode())
            until(lambda: server.log.count("ListModels") > 0)
            assert stop(server.process, seconds=60) == 0
        assert "Traceback" not in server.log
    assert list(temporary.glob("tenclip-page-*")) == []


def test_tls_certificates_of_clients_and_tokens_are_those_of_the_server(models: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first, second, visitor = authority.issue("first"), authority.issue("second"), authority.issue("visitor")
    shutil.copy(first.certificate, tmp_path / "server.pem")
    shutil.copy(first.key, tmp_path / "server.key")
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('[visitor]\ntoken = "a-token-of-a-visitor"\npermissions = ["predict"]\n')
    options = [
        "--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"),
        "--tls-client-ca", str(authority.ca), "--tokens-file", str(tokens),
    ]  # fmt: skip
    context = ssl.create_default_context(cafile=str(authority.ca))
    with served_page(models, *options) as (_, url):
        assert url.startswith("https://127.0.0.1")
        with pytest.raises(httpx.TransportError), httpx.Client(verify=context, trust_env=False) as stranger:
            stranger.get(url)
        context.load_cert_chain(visitor.certificate, visitor.key)
        with httpx.Client(base_url=url, verify=context, headers=OURS, trust_env=False) as client:
            assert client.get("api/page").status_code == 401
            known = {"Authorization": "Bearer a-token-of-a-visitor"}
            assert client.get("api/page", headers=known).status_code == 200
        assert serial(url, context) == serial_of(first.certificate)
        shutil.copy(second.certificate, tmp_path / "server.pem")
        shutil.copy(second.key, tmp_path / "server.key")
        until(lambda: serial(url, context) == serial_of(second.certificate))


def serial(url: str, context: ssl.SSLContext) -> str:
    where = urlsplit(url)
    plain = socket.create_connection((where.hostname, where.port or 0), timeout=10)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
        return str((wrapped.getpeercert() or {})["serialNumber"])


def serial_of(certificate: Path) -> str:
    return str(ssl._ssl._test_decode_cert(str(certificate))["serialNumber"])  # type: ignore[attr-defined]


def test_a_port_that_is_taken_is_said_before_models_are_loaded(models: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "tenclip_serving", str(models), "--port", "0", "--ui", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}: the port is taken; --ui 0 takes a free one" in done.stderr
    assert "loading model" not in done.stderr
