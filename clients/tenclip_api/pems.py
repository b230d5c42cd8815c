"""PEM in memory, for OpenSSL, for client and server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_path(pem: bytes) -> Iterator[str]:
    """A path to PEM that has been read already, while the context lasts.

    OpenSSL takes certificates and keys from files only, and the original file may have changed. The path is in memory
    where that is possible (Linux), else a temporary file that only its owner can read.
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
