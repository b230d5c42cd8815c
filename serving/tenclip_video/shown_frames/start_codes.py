"""Start codes of MPEG streams."""

from __future__ import annotations


def positions(data: bytes, pattern: bytes) -> list[int]:
    """Where a pattern begins in `data`, ascending."""
    found, at = [], data.find(pattern)
    while at >= 0:
        found.append(at)
        at = data.find(pattern, at + 3)
    return found
