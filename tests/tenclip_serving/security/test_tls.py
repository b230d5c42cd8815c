"""TLS, client certificates and tokens: the files, and real servers that are asked over real connections."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tenclip_api.errors import InvalidRequest, PermissionDenied, ServerUnavailable, Unauthenticated
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_api.v1.tenclip_pb2_grpc import ModelManagementStub
from tenclip_client import Client
from tenclip_serving.config import ServerConfig
from tenclip_serving.healthcheck import main as healthcheck
from tenclip_serving.security.tls import ServerTls, TlsFiles, TlsMaterial, read_tls
from tests.certificates import Authority, Pair
from tests.tenclip_serving.helpers import ServerProcess, running_server, stop

PREDICT, METRICS = "predict-0123456789abcdef", "metrics-0123456789abcdef"
TOKENS = f"""
[user]
token = "{PREDICT}"
permissions = ["predict"]
[prometheus]
sha256 = "{hashlib.sha256(METRICS.encode()).hexdigest()}"
permissions = ["metrics"]
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(pair: Pair, client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=client_ca)


# -- files ------------------------------------------------------------------------------------------------------------


def test_good_files(authority: Authority) -> None:
    pair = authority.issue("server", days=(-1, 10))
    material = read_tls(files(pair, authority.ca))
    assert material.certificate == pair.certificate.read_bytes()
    assert material.client_ca == authority.ca.read_bytes()
    day = 86400
    assert 9 * day < material.not_after - time.time() < 10 * day + 60


@pytest.mark.parametrize(
    ("days", "says"), [((-10, -1), "certificate has expired"), ((1, 10), "certificate is not yet valid")]
)
def test_certificates_out_of_their_time(authority: Authority, days: tuple[float, float], says: str) -> None:
    pair = authority.issue("server", days=days)
    with pytest.raises(InvalidRequest, match=rf"ca-server\.pem: clients would refuse this certificate: {says}"):
        read_tls(files(pair))


def test_a_key_of_another_certificate(authority: Authority) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    with pytest.raises(InvalidRequest, match=r"ca-other\.key is not the key of the certificate .*ca-one\.pem"):
        read_tls(TlsFiles(certificate=one.certificate, key=other.key))


def test_files_that_are_not_there_or_something_else(authority: Authority, tmp_path: Path) -> None:
    pair, none, text = authority.issue("server"), tmp_path / "none", tmp_path / "text"
    text.write_text("hello")
    broken = tmp_path / "broken"
    broken.write_text("-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n")
    for wrong, says in (
        (TlsFiles(certificate=none, key=pair.key), "cannot read the TLS certificate .*none: No such file"),
        (TlsFiles(certificate=pair.certificate, key=none), "cannot read the TLS key .*none: No such file"),
        (TlsFiles(certificate=tmp_path, key=pair.key), "cannot read the TLS certificate .*: Is a directory"),
        (TlsFiles(certificate=text, key=pair.key), "text: the TLS certificate must be PEM"),
        (TlsFiles(certificate=broken, key=pair.key), "broken and .* are no certificate"),
        (TlsFiles(certificate=pair.key, key=pair.key), "are no certificate"),
        (files(pair, text), "text: the TLS client CA must be PEM"),
        (files(pair, pair.certificate), "none is an authority's"),
        (files(pair, broken), "broken: holds no certificates"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            read_tls(wrong)


def test_an_expired_authority_of_clients(authority: Authority) -> None:
    with pytest.raises(InvalidRequest, match=r"ca\.pem: every authority of clients in it has expired"):
        read_tls(files(authority.issue("server"), authority.ca), now=1e11)


def test_an_encrypted_key_is_not_asked_about(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    pair = authority.issue("server")
    key = pem.load_pem_private_key(pair.key.read_bytes(), None)
    locked = pem.BestAvailableEncryption(b"passphrase")
    pair.key.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked))
    with pytest.raises(InvalidRequest, match=r"ca-server\.key: the key is encrypted"):
        read_tls(files(pair))


def test_what_changes_is_read_again_and_what_is_bad_is_not_used(authority: Authority) -> None:
    pair, loaded = authority.issue("server"), list[TlsMaterial | None]()
    tls = ServerTls(files(pair), on_load=loaded.append)
    context, first = tls.context(), loaded[0]
    assert first is not None
    assert tls.context() is context
    newer = authority.issue("newer")
    shutil.copy(newer.certificate, pair.certificate)  # and not yet the key
    assert tls.context() is context
    shutil.copy(newer.key, pair.key)
    assert tls.context() is not context
    assert [None if m is None else m.certificate for m in loaded] == [
        first.certificate,
        None,
        newer.certificate.read_bytes(),
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tls_certificate": "c"}, "TLS needs both: tls_certificate is set, and tls_key is not"),
        ({"tls_key": "k"}, "TLS needs both: tls_key is set, and tls_certificate is not"),
        ({"tls_client_ca": "c"}, "tls_client_ca is set, and tls_certificate and tls_key are not"),
        ({"metrics_tls": True}, "metrics_tls is set, and"),
        ({"metrics_tokens": True}, "metrics_tokens asks for tokens, and tokens_file is not set"),
        ({"reflection": "tokens"}, "reflection asks for tokens"),
        ({"tokens_file": "t", "host": "0.0.0.0"}, "plain text on the gRPC port at 0.0.0.0: set tls_certificate"),
        ({"tokens_file": "t", "host": "::"}, "plain text on the gRPC port at ::"),
        ({"tokens_file": "t", "host": "gpu-box"}, "--insecure-tokens where something in front"),
        (
            {"tokens_file": "t", "host": "0.0.0.0", "metrics_tokens": True, "tls_certificate": "c", "tls_key": "k"},
            "plain text on the metrics port",
        ),
    ],
)
def test_settings_that_make_no_sense_together(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ServerConfig(directory=tmp_path, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "127.0.0.1"},
        {"host": "127.8.8.8"},
        {"host": "localhost"},
        {"host": "::1"},
        {"host": "0.0.0.0", "insecure_tokens": True},
        {"host": "0.0.0.0", "tls_certificate": Path("c"), "tls_key": Path("k")},
    ],
)
def test_settings_that_do(tmp_path: Path, settings: dict[str, Any]) -> None:
    assert ServerConfig(directory=tmp_path, tokens_file=Path("t"), **settings).tokens_file == Path("t")


# -- a server ---------------------------------------------------------------------------------------------------------


def tls_options(pair: Pair) -> list[str]:
    return ["--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)]


def shown_certificate(server: ServerProcess) -> bytes:
    """What a new connection is shown, in DER."""
    host, _, port = server.address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), 20) as raw, context.wrap_socket(raw) as wrapped:
        return wrapped.getpeercert(binary_form=True) or b""


def der(path: Path) -> bytes:
    first = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", path.read_text(), re.DOTALL)
    assert first
    return ssl.PEM_cert_to_DER_cert(first[0])


def test_tls_rotated_while_it_serves(one_model: Path, authority: Authority) -> None:
    pair = authority.issue("server")
    with running_server(one_model, *tls_options(pair)) as server, Client(server.address, ca=authority.ca) as client:
        assert client.list_models().models
        assert shown_certificate(server) == der(pair.certificate)
        newer = authority.issue("newer")
        shutil.copy(newer.certificate, pair.certificate)
        shown_before = der(newer.certificate)
        assert shown_certificate(server) != shown_before  # half of a pair is not used
        shutil.copy(newer.key, pair.key)
        assert shown_certificate(server) == shown_before
        assert client.list_models().models  # on the connection that it had
        with Client(server.address, ca=authority.ca) as later:
            assert later.list_models().models
        log = server.log
    assert "TLS certificate holds until" in log
    assert "TLS files changed and cannot be used, the old stays" in log
    assert "TLS files read again" in log


def test_who_does_not_fit_is_told(one_model: Path, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue("server")
    with running_server(one_model, *tls_options(pair), "--metrics-port", "-1") as server:
        stranger = Authority(tmp_path, "stranger")
        with Client(server.address, ca=stranger.ca, retries=0) as client, pytest.raises(ServerUnavailable) as caught:
            client.list_models(timeout=20)
        assert "TLS" in caught.value.message
        assert "certificate" in caught.value.message.lower()
        with Client(server.address, retries=0) as client, pytest.raises(ServerUnavailable, match="TLS"):
            client.list_models(timeout=20)
        assert healthcheck([server.address]) == 1
        assert healthcheck([server.address, "--ca", str(authority.ca)]) == 0


def test_a_client_with_tls_and_a_server_without(one_model: Path, authority: Authority) -> None:
    with (
        running_server(one_model, "--metrics-port", "-1") as server,
        Client(server.address, ca=authority.ca, retries=0) as client,
        pytest.raises(ServerUnavailable, match="TLS"),
    ):
        client.list_models(timeout=20)


def test_clients_must_show_a_certificate(one_model: Path, authority: Authority, tmp_path: Path) -> None:
    pair, clients = authority.issue("server"), Authority(tmp_path, "clients")
    good, bad = clients.issue("good", "me@example.org"), authority.issue("bad", "you@example.org")
    old = clients.issue("old", "then@example.org", days=(-9, -1))
    options = [*tls_options(pair), "--tls-client-ca", str(clients.ca), "--metrics-port", "-1"]
    with running_server(one_model, *options) as server:
        with Client(server.address, ca=authority.ca, certificate=good.certificate, key=good.key) as client:
            assert client.list_models().models
        for wrong in (None, bad, old):
            shown: dict[str, Any] = {} if wrong is None else {"certificate": wrong.certificate, "key": wrong.key}
            with (
                Client(server.address, ca=authority.ca, retries=0, **shown) as client,
                pytest.raises(ServerUnavailable),
            ):
                client.list_models(timeout=20)
        asked = [server.address, "--ca", str(authority.ca)]
        assert healthcheck(asked) == 1
        assert healthcheck([*asked, "--certificate", str(good.certificate), "--key", str(good.key)]) == 0


def scrape(server: ServerProcess, ca: Path, token: str = "", shown: Pair | None = None) -> tuple[int, str]:
    """(status, text) of the metrics over HTTPS."""
    context = ssl.create_default_context(cafile=ca)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    request = urllib.request.Request(f"https://{server.metrics_address}/metrics")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.read().decode()


def test_who_scrapes_without_a_token_is_told_of_the_header(tmp_path: Path, one_model: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text('[m]\ntoken = "a-token-for-metrics"\npermissions = ["metrics"]')
    with running_server(one_model, "--tokens-file", str(tokens), "--metrics-tokens") as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=20)
        with caught.value as answer:
            assert answer.code == 401
            assert 'send the header "Authorization: Bearer TOKEN"' in answer.read().decode()


def test_a_health_check_by_another_name(one_model: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = authority.issue("named", "tenclip.example.org")
    with running_server(one_model, *tls_options(pair), "--metrics-port", "-1") as server:
        monkeypatch.setenv("TENCLIP_CA", str(authority.ca))
        assert healthcheck([server.address]) == 1
        monkeypatch.setenv("TENCLIP_SERVER_NAME", "tenclip.example.org")
        assert healthcheck([server.address]) == 0


def test_a_token_that_may_manage_is_all_it_takes(one_model: Path, tmp_path: Path) -> None:
    tokens, manage = tmp_path / "tokens.toml", "manage-0123456789abcdef"
    tokens.write_text(TOKENS + f'[admin]\ntoken = "{manage}"\npermissions = ["manage"]\n')
    options = ["--tokens-file", str(tokens), "--metrics-port", "-1", "--reflection", "off"]
    with running_server(one_model, *options) as server, grpc.insecure_channel(server.address) as channel:
        stub = ModelManagementStub(channel)
        stub.ReloadModels(pb.ReloadModelsRequest(), metadata=(("authorization", f"Bearer {manage}"),), timeout=60)
        with pytest.raises(grpc.RpcError, match="needs the permission manage; the token of user has predict"):
            stub.ReloadModels(pb.ReloadModelsRequest(), metadata=(("authorization", f"Bearer {PREDICT}"),), timeout=60)
        with pytest.raises(grpc.RpcError, match="wants a token"):
            stub.ReloadModels(pb.ReloadModelsRequest(), timeout=60)
        database = ProtoReflectionDescriptorDatabase(channel)
        with pytest.raises(grpc.RpcError) as caught:
            database.get_services()
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_one_who_says_nothing_keeps_no_one_from_the_metrics(one_model: Path, authority: Authority) -> None:
    pair = authority.issue("server")
    with running_server(one_model, *tls_options(pair), "--metrics-tls") as server:
        assert server.metrics_address
        host, _, port = server.metrics_address.rpartition(":")
        with socket.create_connection((host, int(port)), 20), socket.create_connection((host, int(port)), 20) as rude:
            rude.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")  # no TLS
            assert scrape(server, authority.ca)[0] == 200
        newer = authority.issue("newer")
        shutil.copy(newer.certificate, pair.certificate)
        shutil.copy(newer.key, pair.key)
        assert scrape(server, authority.ca)[0] == 200
        assert ssl.get_server_certificate((host, int(port))).strip() in newer.certificate.read_text()
        log = server.log
    assert "Traceback" not in log


def test_who_scrapes_must_show_a_certificate_where_clients_must(
    one_model: Path, authority: Authority, tmp_path: Path
) -> None:
    pair, clients = authority.issue("server"), Authority(tmp_path, "clients")
    good, bad = clients.issue("good", "me@example.org"), authority.issue("bad", "you@example.org")
    options = [*tls_options(pair), "--tls-client-ca", str(clients.ca), "--metrics-tls"]
    with running_server(one_model, *options) as server:
        for wrong in (None, bad):
            with pytest.raises((OSError, http.client.HTTPException)):
                scrape(server, authority.ca, shown=wrong)
        status, text = scrape(server, authority.ca, shown=good)
        assert status == 200
        assert "tenclip_requests" in text


def test_files_that_go_bad_before_the_first_scrape(one_model: Path, authority: Authority, tmp_path: Path) -> None:
    """What was checked is what is served, whatever the files hold by now."""
    pair, clients = authority.issue("server"), Authority(tmp_path, "clients")
    good, ca = clients.issue("good", "me@example.org"), tmp_path / "copy-of-ca.pem"
    shutil.copy(clients.ca, ca)
    with running_server(one_model, *tls_options(pair), "--tls-client-ca", str(ca), "--metrics-tls") as server:
        for path in (pair.certificate, pair.key, ca):
            path.write_text("nothing")
        for _ in range(2):
            status, text = scrape(server, authority.ca, shown=good)
            assert status == 200
        assert 'tenclip_tls_loads_total{result="failed"} ' in text
        ca.unlink()
        assert scrape(server, authority.ca, shown=good)[0] == 200


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged_whatever_goes_wrong(
    one_model: Path, authority: Authority, tmp_path: Path, log_format: str
) -> None:
    pair, tokens = authority.issue("server"), tmp_path / "tokens.toml"
    tokens.write_text(TOKENS)
    options = [*tls_options(pair), "--tokens-file", str(tokens), "--metrics-tokens", "--metrics-tls"]
    wrong = "wrong-0123456789abcdef"
    later = "later-0123456789abcdef"
    with running_server(one_model, *options, "--reflection", "tokens", "--log-format", log_format) as server:

        def client(token: str | None) -> Client:
            return Client(server.address, ca=authority.ca, token=token)

        with client(PREDICT) as good:
            assert good.list_models().models
            for bad in (None, wrong, METRICS):
                kind = PermissionDenied if bad == METRICS else Unauthenticated
                with client(bad) as refused, pytest.raises(kind) as caught:
                    refused.predict(b"no video")
                assert not any(secret in caught.value.message for secret in (PREDICT, METRICS, wrong))
            with pytest.raises(ValueError, match="video"):
                good.predict(b"no video" * 100)
            tokens.write_text(TOKENS[:-20] + "[")  # broken on its way
            assert good.list_models().models
            tokens.write_text(TOKENS.replace(PREDICT, later))
            with pytest.raises(Unauthenticated):
                good.list_models()
            with client(later) as renewed:
                assert renewed.list_models().models
        assert scrape(server, authority.ca)[0] == 401
        assert scrape(server, authority.ca, wrong)[0] == 401
        assert scrape(server, authority.ca, later)[0] == 403
        status, text = scrape(server, authority.ca, METRICS)
        assert status == 200
        assert re.search(r"tenclip_tls_certificate_expiry_timestamp_seconds 1\.\d+e\+09", text)
        assert 'tenclip_requests_total{code="UNAUTHENTICATED",method="Predict",transport="grpc"} 2.0' in text
        pair.key.write_text("-----BEGIN PRIVATE KEY-----\nbroken\n-----END PRIVATE KEY-----\n")
        with client(later) as renewed:
            assert renewed.list_models().models
        assert healthcheck([server.address, "--ca", str(authority.ca)]) == 0
        stop(server.process)  # what it says on its way out, too
        everything = server.stdout + server.log
        for secret in (PREDICT, METRICS, wrong, later, hashlib.sha256(METRICS.encode()).hexdigest()):
            assert secret not in everything
        assert "PRIVATE" not in everything
        assert "tokens changed and cannot be used, the old stays" in everything
        assert "prometheus" in everything  # names are no secrets: the log says who was refused
        if log_format == "json":
            lines = [json.loads(line) for line in server.log.splitlines()]
            assert {line.get("client") for line in lines if line.get("code") == "OK"} == {"user"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0", "--tokens-file", "{tokens}"], "tokens would cross the network in plain text"),
        (["--tokens-file", "{tokens}.none"], "cannot read the tokens"),
        (["--tls-certificate", "{tokens}", "--tls-key", "{tokens}"], "the TLS certificate must be PEM"),
    ],
)
def test_a_server_that_would_not_be_safe_does_not_start(
    one_model: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS)
    command = [sys.executable, "-m", "tenclip_serving", str(one_model), "--port", "0", "--metrics-port", "-1"]
    command += [option.format(tokens=tokens) for option in options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert says in last
    assert "Traceback" not in done.stderr
    assert PREDICT not in done.stderr
