"""Files that are written whole or not at all: a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO


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
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
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
