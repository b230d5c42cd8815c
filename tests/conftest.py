"""Shared by all tests: where the real videos are, and small encoded videos made on the spot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT = Path(__file__).resolve().parent.parent
# The one setting that says where real clips, odd files and class lists are.
DATA_DIR = Path(os.environ.get("TENCLIP_TEST_DATA", PROJECT.parent / "shared" / "data"))


# Set in the workers of `make test`, which share the cores; before anything imports torch.
PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
if PARALLEL:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a busy machine the first inputs take seconds, whatever they are.
settings.register_profile("tenclip", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("tenclip")

_PROXY_VARIABLES = {f"{kind}_proxy" for kind in ("grpc", "https", "http", "all", "no", "no_grpc")}


def forget_proxies() -> None:
    """Servers of tests are on loopback, and urllib and plain gRPC would ask a proxy for them.

    Tests of proxies set their own.
    """
    for name in [n for n in os.environ if n.lower() in _PROXY_VARIABLES]:
        del os.environ[name]


def pytest_configure() -> None:
    """Makes every machine alike: without proxies or the width of a terminal, and with a Ctrl-C that works.

    A shell that runs pytest in its background has Ctrl-C ignored, here and in every child. Workers of pytest-xdist
    inherit COLUMNS=80 and LINES=24 from readline, which the first process imports.
    """
    forget_proxies()
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers begin with the files that take longest, so that none is left with one when the other has nothing."""
    if PARALLEL:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def locked_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders called "locked" cannot be listed; root, as whom tests may run, is refused nothing by their rights."""
    scandir = os.scandir

    def refuse(path: str | os.PathLike[str]) -> object:
        if os.path.basename(os.fspath(path)) == "locked":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with `clips/`, `odd/` and `labels/`."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no test data at {DATA_DIR}; set TENCLIP_TEST_DATA to a folder with clips/, odd/ and labels/")
    return DATA_DIR
