"""Shared by all tests: where the real videos are, and small encoded videos made on the spot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
# The one setting that says where real clips, odd files and class lists are.
DATA_DIR = Path(os.environ.get("TENCLIP_TEST_DATA", PROJECT.parent / "shared" / "data"))


_PROXY_VARIABLES = {f"{kind}_proxy" for kind in ("grpc", "https", "http", "all", "no", "no_grpc")}


def forget_proxies() -> None:
    """Servers of tests are on loopback, and urllib and plain gRPC would ask a proxy for them.

    Tests of proxies set their own.
    """
    for name in [n for n in os.environ if n.lower() in _PROXY_VARIABLES]:
        del os.environ[name]


def pytest_configure() -> None:
    """Makes every machine alike: without proxies, and with a Ctrl-C that works.

    A shell that runs pytest in its background has Ctrl-C ignored, here and in every child.
    """
    forget_proxies()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with `clips/`, `odd/` and `labels/`."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no test data at {DATA_DIR}; set TENCLIP_TEST_DATA to a folder with clips/, odd/ and labels/")
    return DATA_DIR
