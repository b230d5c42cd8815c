"""PEM in memory, for OpenSSL, on either side."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_path(pem: bytes) -> Iterator[str]:
    """A path, within, to what was read: OpenSSL takes pairs from files only, and the file itself may change any time.

    In memory where that is possible (Linux), else a temporary file that its owner alone can read.
    """
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("pem")
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pem)
            file.flush()
            yield file.name
