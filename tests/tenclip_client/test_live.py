"""Live streams at the client: requests, updates, what is shown, and events that are posted."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from rich.console import Console

from tenclip_api.errors import FetchFailed, InvalidRequest, MissingDependency
from tenclip_client import (
    AsyncClient,
    Client,
    LiveConnected,
    LiveCounters,
    LiveEnded,
    LiveEvent,
    LiveHeartbeat,
    LiveReconnecting,
    LiveUpdate,
    LiveWindow,
)
from tenclip_client._live import live_request
from tenclip_client._types import ClassScore
from tenclip_client.cli.live_view import TextLines, _Screen, as_json, describe
from tenclip_client.cli.local_live import load_local
from tenclip_client.cli.webhook import Webhook

from .servicer import FakeRecognition

KINDS = [LiveConnected, LiveWindow, LiveEvent, LiveReconnecting, LiveHeartbeat, LiveEnded]
COUNTERS = LiveCounters(
    frames_read=100,
    frames_dropped=4,
    windows_run=20,
    windows_skipped=1,
    reconnects=2,
    discontinuities=0,
    latency_seconds=0.25,
    max_latency_seconds=0.5,
)
WINDOW = LiveWindow(
    index=0,
    start_seconds=1.0,
    end_seconds=1.5,
    arrived_unix_seconds=1e9,
    latency_seconds=0.25,
    top=(ClassScore(index=0, label="[wave]", score=0.75),),
    smoothed=(ClassScore(index=0, label="[wave]", score=0.5),),
    counters=COUNTERS,
)
EVENT = LiveEvent(
    id=0,
    label="[wave]",
    index=0,
    start_seconds=1.0,
    end_seconds=4.0,
    peak_score=0.8,
    start_unix_seconds=1e9,
    end_unix_seconds=1e9 + 3,
    ended=True,
    counters=COUNTERS,
)


def test_both_clients_yield_every_kind_of_update(target: str, servicer: FakeRecognition) -> None:

    async def collect() -> list[LiveUpdate]:
        async with AsyncClient(target) as client, aclosing(client.live("rtsp://camera.example/s")) as updates:
            return [update async for update in updates]

    with Client(target) as client:
        updates = list(client.live("rtsp://camera.example/s", step=8, reconnect=None, labels=["fencing"], on=0.5))
    assert [type(u) for u in updates] == KINDS
    assert [u.counters.frames_read for u in updates] == list(range(6))
    connected, window = updates[:2]
    assert isinstance(connected, LiveConnected)
    assert isinstance(window, LiveWindow)
    assert (connected.codec, connected.model, connected.version) == ("h264", "actions", "2")
    assert (window.index, window.start_seconds, len(window.top)) == (7, 1.5, 5)
    assert asyncio.run(collect()) == updates
    request = servicer.requests[0]
    assert (request.uri, request.window_step_frames, request.reconnect) == ("rtsp://camera.example/s", 8, -1)
    assert (list(request.events.labels), request.events.on, request.include_windows) == (["fencing"], 0.5, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step": 0}, "step must be at least 1, got 0"),
        ({"on": 0.3}, "off 0.4 and on 0.3"),
        ({"off": -0.1}, "0 <= off <= on <= 1, got off -0.1"),
        ({"max_gap_seconds": -1.0}, "max_gap_seconds must be finite and not negative, got -1"),
        ({"max_gap_seconds": float("inf")}, "max_gap_seconds must be finite"),
        ({"idle_seconds": 0.0}, "idle_seconds must be positive, in seconds, got 0"),
        ({"max_latency_seconds": float("nan")}, "max_latency_seconds must be positive"),
        ({"min_seconds": -1.0}, "min_seconds must be finite"),
        ({"reconnect": -2}, "reconnect must be a number of attempts, or None for ever, got -2"),
        ({"model": "a:"}, "write NAME or NAME:VERSION"),
    ],
)
def test_requests_that_no_server_could_accept(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        live_request(**values)


def test_lines_and_the_screen_say_what_happens() -> None:
    console = Console(file=io.StringIO(), width=120)
    lines = TextLines(console, windows=True)
    lines.show("cam", WINDOW)
    lines.show("cam", EVENT)
    lines.fail("cam", FetchFailed("given up"))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "cam  1.00-1.50 s  [wave] 75.0%  (250 ms after it arrived)" in said
    assert "[wave] has ended: 1.00-4.00 s, peak 80.0%" in said
    assert "cam  given up" in said

    drawn: list[Any] = []
    screen = _Screen(["cam", "door"], drawn.append)
    screen.show("cam", WINDOW)
    screen.show("cam", EVENT)
    console = Console(file=io.StringIO(), width=120)
    console.print(drawn[-1])
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "door  connecting" in shown
    assert "████████████" in shown
    assert "100 frames, 4 dropped; 20 windows, 1 skipped; 2 reconnects; latency 250 ms, at most 500 ms" in shown
    assert "[wave] has ended" in shown


def test_json_says_of_what_kind_it_is() -> None:
    line = json.loads(json.dumps(as_json("cam", EVENT)))
    assert (line["source"], line["type"], line["peak_score"]) == ("cam", "event", 0.8)
    assert line["counters"]["reconnects"] == 2
    lost = LiveReconnecting(attempt=3, delay_seconds=1.25, why="it ended", counters=COUNTERS)
    assert describe(lost) == "interrupted: it ended; attempt 3 in 1.2 s"


def test_a_local_engine_that_is_not_installed() -> None:
    with pytest.raises(MissingDependency, match=r"pip install 'tenclip\[serve\]'"):
        load_local([])
    broken = EntryPoint("local", "no_such_module_here:open [serve]", "tenclip.live")
    with pytest.raises(MissingDependency, match=r"--bundle needs no_such_module_here.*or ask a server"):
        load_local([broken])


# -- webhook ----------------------------------------------------------------------------------------------------------


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(URL, what was accepted). Statuses of the first requests; then 204. Redirects lead to a page that answers 200."""
    left, accepted = list(statuses), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = left.pop(0) if left else 204
            if status == 204:
                accepted.append(json.loads(body))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/new?key=secret")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", accepted
        finally:
            server.shutdown()
            thread.join()


def test_events_are_posted_in_order_and_tried_again() -> None:
    with receiver(503, 500) as (url, accepted):
        hook = Webhook(url, pauses=(0.01, 0.01, 0.01))
        for i in range(3):
            hook.send({"id": i})
        hook.close()
    assert [e["id"] for e in accepted] == [0, 1, 2]
    assert hook.describe() == "webhook: 3 sent, 0 failed, 0 dropped; last error: status 500"


def first_fails(status: int) -> tuple[Webhook, str]:
    """A webhook, and its URL, after two events of which the first was answered with `status` and not tried again."""
    with receiver(status) as (url, accepted):
        hook = Webhook(url, pauses=(60.0,))
        hook.send({"id": 0})
        hook.send({"id": 1})
        hook.close()
    assert [e["id"] for e in accepted] == [1]
    assert (hook.sent, hook.failed) == (1, 1)
    return hook, url


def test_what_no_attempt_changes_fails_at_once_and_is_counted() -> None:
    first_fails(404)


def test_a_receiver_that_is_down_holds_nothing_up() -> None:
    hook = Webhook("http://127.0.0.1:1/", pauses=(0.01,), max_waiting=5)
    for i in range(50):
        hook.send({"id": i})
    hook.close()
    assert hook.sent == 0
    assert hook.failed + hook.dropped == 50
    assert hook.dropped >= 40
    assert "Connection refused" in hook.last_error


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_lose_no_event_unseen(status: int) -> None:
    hook, url = first_fails(status)
    assert f"status {status}: it has moved to {url.removesuffix('hook')}new, " in hook.last_error
    assert "secret" not in hook.last_error


def test_a_host_that_no_name_can_be_is_counted_as_others() -> None:
    hook = Webhook("http://a..b/", pauses=(0.01,))
    hook.send({"id": 0})
    hook.send({"id": 1})
    hook.close()
    assert (hook.sent, hook.failed) == (0, 2)
    assert "label" in hook.last_error


@pytest.mark.parametrize(
    ("url", "says"),
    [
        *((url, "write http://HOST/PATH or https://HOST/PATH") for url in ("ftp://x/", "http:///x", "nothing")),
        *((url, "write http://HOST/PATH or https://HOST/PATH") for url in ("http://[x/", "http://x:99999/")),
        ("https://h/ü", "of ASCII characters without spaces; write others as %XX"),
        ("https://bücher.example/", "names of hosts as xn--"),
        ("https://h/a b", "of ASCII characters without spaces"),
        ("https://me:secret@h/", r"https://h/: a user and a password in the URL cannot be sent"),
    ],
)
def test_webhooks_that_are_none(url: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        Webhook(url)
    assert "secret" not in caught.value.message
