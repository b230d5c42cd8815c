"""The RPC Live and `tenclip live`, with a real server and a real terminal-less command."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenclip_client import (
    Client,
    InvalidRequest,
    LiveConnected,
    LiveEvent,
    LiveHeartbeat,
    LiveWindow,
    ModelNotFound,
    ServerUnavailable,
    UriNotAllowed,
)
from tenclip_client.cli.main import main
from tests.ports import free_port
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server
from tests.tenclip_serving.live.helpers import ts_sender


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("live-served"))


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(bundle: Path, port: int) -> Iterator[ServerProcess]:
    arguments = ["--live-scheme", "tcp", "--allow-host", f"127.0.0.1:{port}", "--allow-network", "127.0.0.0/8"]
    with running_server(bundle.parent.parent, *arguments, "--decode-workers", "1") as running:
        yield running


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tenclip_client", "live", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_client_watches_a_stream_and_leaves(server: ServerProcess, port: int) -> None:
    uri = f"tcp://127.0.0.1:{port}"
    with Client(server.address) as client, ts_sender("--port", str(port), "--frames", "4000"):
        connected, windows, events = None, [], []
        for update in client.live(uri, step=4, smooth_windows=1, top_k=2, idle_seconds=10):
            if isinstance(update, LiveConnected):
                connected = update
            elif isinstance(update, LiveWindow):
                windows.append(update)
            elif isinstance(update, LiveEvent):
                events.append(update)
            if len(windows) == 12 and events:
                break
    assert connected is not None
    assert (connected.model, connected.window_frames, connected.step_frames) == ("tiny", 4, 4)
    assert connected.latency_limit_seconds == 2
    assert windows[0].top[0].label == "red"
    assert len(windows[0].top) == 2
    assert abs(windows[-1].arrived_unix_seconds - time.time()) < 60
    assert windows[-1].counters.frames_read >= 48
    assert not events[0].ended
    _until_no_stream(server)
    assert server.metrics_address is not None
    text = urllib.request.urlopen(f"http://{server.metrics_address}/metrics").read().decode()
    assert 'tenclip_live_windows_total{result="run"}' in text
    assert "tenclip_live_latency_seconds_bucket" in text


@pytest.mark.parametrize(("gap", "ended"), [(0.0, [False, True, False]), (5.0, [False])])
def test_with_a_gap_of_zero_every_interruption_ends_an_event(
    server: ServerProcess, port: int, gap: float, ended: list[bool]
) -> None:
    """Thresholds of zero are as they were asked for, too: every score is an event, and only the stream ends it."""
    uri, events = f"tcp://127.0.0.1:{port}", []
    with Client(server.address) as client, ts_sender("--port", str(port), "--frames", "30", "--connections", "2"):
        updates = client.live(uri, step=4, on=0, off=0, max_gap_seconds=gap, labels=["red"], max_backoff_seconds=0.5)
        for update in updates:
            if isinstance(update, LiveEvent):
                events.append(update)
            if update.counters.windows_run == 12:  # a connection has eight at most
                break
        assert update.counters.reconnects == 1
    assert [e.ended for e in events] == ended


def _until_no_stream(server: ServerProcess) -> None:
    """The server frees what a caller has left; its gauge says so."""
    until = time.monotonic() + 60
    while True:
        text = urllib.request.urlopen(f"http://{server.metrics_address}/metrics").read().decode()
        if "tenclip_live_streams 0.0" in text:
            return
        assert time.monotonic() < until
        time.sleep(0.1)


def test_what_a_server_refuses(server: ServerProcess, port: int) -> None:
    with Client(server.address) as client:
        for uri, error, message in (
            ("rtsp://127.0.0.1/s", UriNotAllowed, r"reads live streams by tcp: and nothing else \(live_schemes\)"),
            ("tcp://127.0.0.1:1", UriNotAllowed, r"does not fetch from 127.0.0.1, port 1 \(allow_hosts\)"),
            ("file:///etc/passwd", UriNotAllowed, "no live streams are read by file:"),
            ("", InvalidRequest, "no stream: set uri to its address"),
        ):
            with pytest.raises(error, match=message):
                next(client.live(uri))
        with pytest.raises(ModelNotFound, match="no model 'other'"):
            next(client.live(f"tcp://127.0.0.1:{port}", model="other"))
        with pytest.raises(InvalidRequest, match="no class 'fly'; this model has red, green, blue, moving"):
            next(client.live(f"tcp://127.0.0.1:{port}", labels=["fly"]))


def test_a_server_that_allows_no_streams_says_so(bundle: Path) -> None:
    with (
        running_server(bundle.parent.parent, "--decode-workers", "1") as server,
        Client(server.address) as client,
        pytest.raises(UriNotAllowed, match=r"this server reads no live streams \(live_schemes\)"),
    ):
        next(client.live("rtsp://camera.example/s"))


def test_a_server_that_stops_ends_its_streams_with_a_clear_status(bundle: Path, port: int) -> None:
    arguments = ["--live-scheme", "tcp", "--allow-host", f"127.0.0.1:{port}", "--allow-network", "127.0.0.0/8"]
    arguments += ["--decode-workers", "1", "--shutdown-grace-seconds", "3600"]  # which it does not wait for
    with (
        running_server(bundle.parent.parent, *arguments) as server,
        Client(server.address) as client,
        ts_sender("--port", str(port), "--frames", "4000"),
    ):
        updates = client.live(f"tcp://127.0.0.1:{port}", step=4)
        next(updates)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ServerUnavailable, match="shutting down, and its live streams have ended"):
            for _ in updates:
                pass
        assert server.process.wait(60) == 0


def test_the_command_prints_json_lines_from_a_server(server: ServerProcess, port: int) -> None:
    with ts_sender("--port", str(port), "--frames", "100"):
        process = command(
            f"tcp://127.0.0.1:{port}",
            "--server",
            server.address,
            "--json",
            "--windows",
            "--step",
            "4",
            "--reconnect",
            "0",
        )
        out, err = process.communicate(timeout=60)
    lines = [line for line in map(json.loads, out.splitlines()) if line["type"] != "heartbeat"]
    assert process.returncode == 1, err
    assert lines[0]["type"] == "connected"
    assert {"window", "event"} <= {line["type"] for line in lines}
    assert lines[-1]["type"] == "error"
    assert lines[-1]["reason"] == "FETCH_FAILED"
    assert "given up after 1 attempt in a row: it ended" in lines[-1]["message"]


class _Receiver(BaseHTTPRequestHandler):
    received: list[dict[str, Any]]
    failing = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        cls = type(self)
        if cls.failing:
            cls.failing -= 1
            self.send_response(503)
        else:
            cls.received.append(json.loads(body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_the_command_runs_a_bundle_without_a_server_on_several_files_and_posts_their_events(
    bundle: Path, tmp_path: Path
) -> None:
    receiver: Any = type("Receiver", (_Receiver,), {"received": [], "failing": 1})
    paths = [str(make_video(tmp_path / f"{i}.mp4", num_frames=40)) for i in range(2)]
    with HTTPServer(("127.0.0.1", 0), receiver) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{web.server_port}/hook"
        process = command(
            *paths,
            "--bundle",
            str(bundle),
            "--paced",
            "off",
            "--smooth",
            "1",
            "--json",
            "--webhook",
            url,
            "--step",
            "4",
        )
        out, err = process.communicate(timeout=60)
        web.shutdown()
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    ended = [line for line in lines if line["type"] == "ended"]
    assert {line["source"] for line in ended} == set(paths)
    assert all(line["counters"]["windows_run"] == 10 and not line["counters"]["windows_skipped"] for line in ended)
    events = [line for line in lines if line["type"] == "event"]
    assert len(events) >= 4
    assert [(e["source"], e["id"], e["ended"]) for e in receiver.received] == [
        (e["source"], e["id"], e["ended"]) for e in events
    ]
    assert f"webhook: {len(events)} sent, 0 failed, 0 dropped" in err


def test_standard_input_and_lines_for_people(bundle: Path, tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.ts", num_frames=40)
    with path.open("rb") as file:
        process = command("-", "--bundle", str(bundle), "--paced", "off", "--step", "4", stdin=file)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "-  connected: mpeg2video 64x48" in out or "-  connected: mpeg4 64x48" in out
    assert "nothing is skipped" in out
    assert "red has ended" in out
    assert "end of the stream; 40 frames, 0 dropped; 10 windows, 0 skipped" in out


def test_ctrl_c_ends_the_command_and_its_processes(bundle: Path, tmp_path: Path) -> None:
    import psutil

    path = make_video(tmp_path / "v.mp4", num_frames=400)
    process = command(str(path), "--bundle", str(bundle), "--windows")
    try:
        assert process.stdout is not None
        while "connected" not in process.stdout.readline():
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["file.mp4"], "a server reads addresses only; with --bundle DIR it is read here"),
        (["rtsp://a.example/", "--reconnect", "many"], "write a number of attempts, or forever"),
        (["rtsp://a.example/", "rtsp://a.example/"], "a source is named twice"),
        (["rtsp://a.example/", "--follow"], "--follow is for a file, which needs --bundle"),
        (["rtsp://a.example/", "--webhook", "ftp://x/"], "write http://HOST/PATH or https://HOST/PATH"),
        (["rtsp://a.example/", "--on", "0.3"], "off 0.4 and on 0.3"),
        (["rtsp://a.example/", "--bundle", "x", "--model", "y"], "--bundle is the model itself"),
        (["missing.ts", "--bundle", "nothing"], "nothing"),
    ],
)
def test_what_the_command_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main(["live", *arguments])
    assert end.value.code in (1, 2)
    said = capsys.readouterr()
    assert message in " ".join((said.out + said.err).replace("│", " ").split())


def test_windows_that_nobody_asked_for_are_heartbeats_in_time(server: ServerProcess, port: int) -> None:
    """A caller who wants events alone still hears that the stream lives."""
    with Client(server.address) as client, ts_sender("--port", str(port), "--frames", "4000"):
        updates = client.live(
            f"tcp://127.0.0.1:{port}", step=2, windows=False, labels=["moving"], heartbeat_seconds=0.5, idle_seconds=5
        )
        beats = []
        for update in updates:
            assert isinstance(update, LiveConnected | LiveHeartbeat)
            if isinstance(update, LiveHeartbeat) and update.counters.windows_run:
                beats.append(update)
            if len(beats) == 3:
                break
    assert beats[0].counters.windows_run < beats[2].counters.windows_run
