"""Files that are written whole or not at all: a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_SUFFIX = ".part"


def write_text(path: Path | str, text: str) -> None:
    """Put `text` (as UTF-8) in the place of `path` in one step. Raises OSError and leaves what was there before."""
    with replacing(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[IO[bytes]]:
    """A binary file beside `path` that takes its place when the block ends, and is removed when the block raises.

    The data reaches the disk before the name does, so that a machine that loses power keeps the old file or the new
    one. Raises OSError.

    ::

        with replacing("weights.pt") as file:
            torch.save(weights, file)
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def is_draft(name: str, of: str = "") -> bool:
    """Whether a file of this name is one that `replacing` had not finished. of: the name of the file it was to be.

    >>> is_draft(".a.json.0123456789abcdef.part", of="a.json"), is_draft("a.json")
    (True, False)
    """
    return name.startswith(f".{of}." if of else ".") and name.endswith(_SUFFIX)


def remove_drafts(folder: Path | str, of: str = "", *, below: bool = False) -> None:
    """Delete the drafts that a process left in `folder` when it was killed. below: and in all folders below.

    Only where no other process is writing. Raises OSError.
    """
    for root, folders, names in os.walk(folder):
        if not below:
            folders.clear()
        for name in names:
            if is_draft(name, of):
                Path(root, name).unlink(missing_ok=True)
