"""Numbers in messages."""

from __future__ import annotations


def mib(num_bytes: int) -> str:
    """A number of bytes as people read it.

    >>> mib(3 << 19)
    '1.5 MiB'
    """
    return f"{num_bytes / (1 << 20):.1f} MiB"
