from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tenclip_api.errors import ServerUnavailable
from tenclip_client import Client
from tenclip_demo.server import READY, ServerProcess
from tests.tenclip_serving.helpers import make_bundle


def stand_in(server: ServerProcess, script: str) -> ServerProcess:
    """The same process handling around a program of a few lines."""
    server.command = [sys.executable, "-c", script]
    return server


def test_the_real_server_is_found_asked_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_bundle(tmp_path / "models", "moves")
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # not for what is on this machine
    with ServerProcess(tmp_path / "models", tmp_path / "server.log") as server:
        assert server.running
        with Client(server.address) as client:
            assert [m.name for m in client.list_models()] == ["moves"]
    assert not server.running
    assert "stopped" in (tmp_path / "server.log").read_text()


def test_it_is_stopped_after_an_error(tmp_path: Path) -> None:
    script = "print('tenclip serving 1 models on 127.0.0.1:1, metrics off', flush=True); import time; time.sleep(99)"
    server = stand_in(ServerProcess(tmp_path, tmp_path / "log"), script)

    def interrupted() -> None:
        with server:
            assert server.address == "127.0.0.1:1"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not server.running


def test_a_server_that_ends_at_once_shows_its_log(tmp_path: Path) -> None:
    server = stand_in(ServerProcess(tmp_path, tmp_path / "log"), "import sys; sys.exit('no such bundle: moves')")
    with pytest.raises(ServerUnavailable, match=r"(?s)exit code 1; .*no such bundle: moves"), server:
        pass
    assert not server.running


def test_a_server_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    script = "import time; print('loading', flush=True); time.sleep(99)"
    server = stand_in(ServerProcess(tmp_path, tmp_path / "log", start_seconds=0.5), script)
    with pytest.raises(ServerUnavailable, match=r"(?s)not ready after 0\.5 s.*loading"), server:
        pass
    assert not server.running


def test_a_server_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenclip_demo.server.STOP_SECONDS", 0.3)
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('tenclip serving 1 models on h:1, metrics off', flush=True); time.sleep(99)"
    )
    with stand_in(ServerProcess(tmp_path, tmp_path / "log"), script) as server:
        pass
    assert not server.running


def test_a_chatty_server_does_not_block(tmp_path: Path) -> None:
    script = (
        "print('tenclip serving 2 models on 127.0.0.1:5, metrics on 127.0.0.1:9', flush=True)\n"
        "for _ in range(20000): print('x' * 100)\n"
        "open('done', 'w').close()\n"
    )
    server = stand_in(ServerProcess(tmp_path, tmp_path / "log"), f"import os; os.chdir({str(tmp_path)!r})\n{script}")
    with server:
        deadline = time.monotonic() + 120
        while not (tmp_path / "done").exists():
            assert time.monotonic() < deadline, "the pipe filled up"
            time.sleep(0.02)


def test_the_ready_line() -> None:
    match = READY.search("tenclip serving 3 models on [::1]:7411, metrics on [::1]:9411")
    assert match is not None
    assert match["address"] == "[::1]:7411"
