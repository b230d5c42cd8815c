"""Ports for servers that are told theirs before they start."""

from __future__ import annotations

import contextlib
import random
import socket

# Below those that the system gives to connections and to whoever binds port 0: nobody takes one by chance.
_PORTS = range(20_000, 30_000)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, all different."""
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    return free_ports(1)[0]
