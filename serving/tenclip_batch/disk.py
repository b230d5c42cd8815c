"""What is said where a file of a dataset cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

from tenclip_api.errors import DatasetError


def not_written(path: Path, err: OSError) -> DatasetError:
    """The error with the place: that of a full disk names no file where one was open already."""
    why = "the name is too long" if err.errno == errno.ENAMETOOLONG else err.strerror or err
    return DatasetError(f"{path}: cannot be written: {why}; the same command goes on from what is there")
