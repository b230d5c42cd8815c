r"""Names of videos in tables: printable text that stands for the exact bytes of a path.

`tenclip_data.scan.printable_name` writes each byte that is not valid UTF-8 as `\xNN`; this is the way back.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

# Backslashes, and the byte that the last of an odd number of them stands for.
_ESCAPED = re.compile(rb"(\\+)x([89a-f][0-9a-f])")


def path_of_name(name: str) -> Path:
    r"""The path that a printable name stands for.

    >>> os.fsencode(path_of_name(r"clips/caf\xe9.mp4"))
    b'clips/caf\xe9.mp4'
    """
    if os.sep == "\\":  # there backslashes separate folders, and names are never anything but text
        return Path(name)
    raw = name.encode("utf-8", errors="surrogateescape")
    return Path(os.fsdecode(_ESCAPED.sub(_unescape, raw)))


def _unescape(found: re.Match[bytes]) -> bytes:
    backslashes, digits = found[1], found[2]
    half = b"\\" * (len(backslashes) // 2)
    return half + (bytes.fromhex(digits.decode()) if len(backslashes) % 2 else b"x" + digits)
