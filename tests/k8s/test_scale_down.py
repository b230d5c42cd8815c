"""Scale-down as clients of a headless Service see it: three servers behind one name, and one of them goes."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tenclip_client import Client
from tests.tenclip_serving.helpers import ServerProcess, make_bundle, make_video, running_server

CALLERS = 4
ENOUGH = 12  # requests before the signal, and as many after the server has gone


@dataclass
class Load:
    """Callers that ask without a pause. errors: what they got in the place of an answer."""

    answers: int = 0
    errors: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, client: Client, video: bytes) -> None:
        while not self.ended.is_set():
            try:
                client.predict(video, clips="center")
                problem = None
            except Exception as err:
                problem = f"{type(err).__name__}: {err}"
            with self.changed:
                self.answers += problem is None
                self.errors += [] if problem is None else [problem]
                self.changed.notify_all()

    def wait(self, more: int) -> None:
        """Returns when `more` requests have been answered from now on."""
        with self.changed:
            wanted = self.answers + more
            assert self.changed.wait_for(lambda: self.answers >= wanted or bool(self.errors), 120)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_bundle(root)
    return root


@pytest.fixture
def servers(models: Path) -> Iterator[list[ServerProcess]]:
    """Three pods, which wait after SIGTERM no longer than they must: the manifests' preStop is left out."""
    with contextlib.ExitStack() as stack:
        options = ("--runtime", "onnxruntime", "--threads", "1", "--decode-workers", "1", "--log-format", "json")
        yield [stack.enter_context(running_server(models, *options)) for _ in range(3)]


def predictions(server: ServerProcess) -> float:
    """Predictions that a server has answered, as its metrics say."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = [s for family in families for s in family.samples if s.name == "tenclip_requests_total"]
    return sum(s.value for s in samples if s.labels["method"] == "Predict" and s.labels["code"] == "OK")


def shares(servers: list[ServerProcess], load: Load) -> list[float]:
    """Predictions of each server, when all have had some: connections to them come up one after the other."""
    until = time.monotonic() + 120
    while not all(found := [predictions(server) for server in servers]) and time.monotonic() < until:
        load.wait(1)
    return found


def test_no_request_is_lost_when_one_of_three_servers_goes(servers: list[ServerProcess], tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4").read_bytes()
    going, *staying = servers
    # What dns:///tenclip-headless:7411 resolves to.
    target = "ipv4:" + ",".join(server.address for server in servers)
    load = Load()
    with Client(target, timeout=60) as client, ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(load.ask, client, video) for _ in range(CALLERS)]
        try:
            load.wait(ENOUGH)
            before = shares(servers, load)
            going.process.send_signal(signal.SIGTERM)
            load.wait(ENOUGH)
            assert going.process.wait(120) == 0
            load.wait(ENOUGH)
        finally:
            load.ended.set()
        for caller in asking:
            caller.result(60)
        after = [predictions(server) for server in staying]
    assert load.errors == []
    assert all(count > 0 for count in before), "each server had its share"
    assert all(now > then for now, then in zip(after, before[1:], strict=True)), "the others took it over"
