"""A real Prometheus on this machine, which scrapes real servers (Debian's package `prometheus`)."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ports import free_port

# As the pods of a cluster are labelled.
TARGET_LABELS = {"namespace": "tenclip", "pod": "tenclip-0", "job": "tenclip"}


def needs(program: str) -> str:
    """The path of a program of Debian's package; skips where it is not there."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"no {program}: apt-get install prometheus (make system-packages)")
    return found


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """address: HOST:PORT of its HTTP interface."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as err:
            raise AssertionError(f"{parameters}: {err.read().decode()}") from err

    def query(self, expression: str) -> list[float]:
        """The values of an expression now, those left out that are no number."""
        values = [float(found["value"][1]) for found in self.ask("query", query=expression)["result"]]
        return [value for value in values if not math.isnan(value)]


@contextlib.contextmanager
def running_prometheus(folder: Path, *targets: str, rules: dict[str, Any] | None = None) -> Iterator[Prometheus]:
    """Scrapes `targets` (HOST:PORT) every second; `rules` is the content of a file of rules."""
    program = needs("prometheus")
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules or {"groups": []}))
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yaml")],
        "scrape_configs": [
            {"job_name": "tenclip", "static_configs": [{"targets": list(targets), "labels": TARGET_LABELS}]}
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_ready(address, process, folder / "log")
        yield Prometheus(address=address)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
