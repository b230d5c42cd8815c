"""Shared by all tests: where the real videos are, and small encoded videos made on the spot."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
# The one setting that says where real clips, odd files and class lists are.
DATA_DIR = Path(os.environ.get("TENCLIP_TEST_DATA", PROJECT.parent / "shared" / "data"))


def pytest_configure() -> None:
    """Tests send Ctrl-C; a shell that runs pytest in its background has it ignored, here and in every child."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with `clips/`, `odd/` and `labels/`."""
    if not DATA_DIR.is_dir():
        pytest.skip(f"no test data at {DATA_DIR}; set TENCLIP_TEST_DATA to a folder with clips/, odd/ and labels/")
    return DATA_DIR
