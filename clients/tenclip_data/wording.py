"""Phrases that messages share."""

from __future__ import annotations

from collections.abc import Iterable


def some_of(names: Iterable[str], most: int = 5) -> str:
    """The first names, and how many more there are.

    >>> some_of(["a", "b", "c"], most=2), some_of(["a", "b"])
    ('a, b and 1 more', 'a, b')
    """
    found = list(names)
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
