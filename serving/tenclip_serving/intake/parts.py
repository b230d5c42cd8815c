"""Files by URI of which only parts are read: what a store says of the whole, and the bytes of a part.

The same rules hold as for whole files (`fetch`): every hop of every request is judged by `uri_policy`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FileStamp:
    """The state of a file at a URI. size: 0 where the store does not say. tag: its ETag, "" without one.

    modified_ns: time of the last change in nanoseconds since 1970, 0 where the store does not say.
    """

    size: int
    tag: str = ""
    modified_ns: int = 0

    def is_same(self, other: FileStamp) -> bool:
        """Whether both are of the same state: by size and ETag, or by size and time where one has no ETag."""
        if self.size != other.size:
            return False
        if self.tag and other.tag:
            return self.tag == other.tag
        return self.modified_ns == other.modified_ns


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a store sends. is_part: what was asked for; else it is the whole file. stamp: of the whole file."""

    chunks: AsyncIterator[bytes]
    is_part: bool
    stamp: FileStamp
