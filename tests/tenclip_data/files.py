"""Small trees of files for the tests of this package."""

from __future__ import annotations

from pathlib import Path


def touch(root: Path, *names: str) -> None:
    """Files that look like videos by their names; each has a content of its own."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path
