"""Live streams without a server: found among the installed packages, so that the client alone stays light.

A package registers, in the entry-point group `tenclip.live`, a function `open_local(bundle, *, threads)`: an async
context manager of an object whose `live(source, request, *, follow, paced)` yields the messages of the RPC Live.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tenclip_api.errors import MissingDependency

GROUP = "tenclip.live"


def load_local(entries: Sequence[EntryPoint] | None = None) -> Any:
    """`open_local`. Raises MissingDependency where what it needs is not installed."""
    found = list(entry_points(group=GROUP)) if entries is None else list(entries)
    if not found:
        raise MissingDependency("--bundle needs the serving package: pip install 'tenclip[serve]'")
    try:
        return found[0].load()
    except ModuleNotFoundError as err:
        if err.name is None or err.name.startswith("tenclip"):
            raise
        package = f"tenclip[{','.join(found[0].extras)}]" if found[0].extras else "tenclip"
        raise MissingDependency(
            f"--bundle needs {err.name}, which is not installed: pip install '{package}', or ask a server (--server)"
        ) from err
