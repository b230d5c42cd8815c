"""OpenVINO's Core, of which a process has one. Serving and training share it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from tenclip_api.errors import MissingDependency


@cache
def shared_core() -> Any:
    """The one `openvino.Core` of this process, its CPU plugin loaded. Raises MissingDependency.

    When a Core loads that plugin, the plugin gives the calling thread a signal stack of its own. When it is unloaded,
    the stack is unmapped, and the one put back is what it found, though the Core that owned that may be gone too. After
    two Cores went in the order in which they came, the next signal of that thread ends the process (seen with 2026.4,
    as a segmentation fault at SIGTERM). So there is one Core, it lives as long as the process, and the plugin is loaded
    by a thread that ends.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="openvino") as thread:
        return thread.submit(_load_core).result()


def _load_core() -> Any:
    try:
        with _without_telemetry():
            import openvino as ov
    except ModuleNotFoundError as err:
        raise MissingDependency("OpenVINO is not installed: pip install 'tenclip[serve]'") from err
    core = ov.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")
    # The first reading of any tensor's data makes a table under a lock of C++ and gives away that of Python meanwhile.
    # Two threads that did so at once, with a request each, waited for each other for ever (seen once, with 2026.4).
    _ = ov.Tensor(ov.Type.u8, ov.Shape([1])).data
    return core


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO's import would make an id in the home folder, with which it reports its use; without that package it
    does neither."""
    name = "openvino_telemetry"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # `import` raises ModuleNotFoundError
    try:
        yield
    finally:
        del sys.modules[name]
