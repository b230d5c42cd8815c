"""The folder of an index on disk: one writer at a time, and readers that see the old index or the new one.

`index.json` names the files of vectors and rows. What is written anew gets names of its own, and counts from the moment
at which index.json is replaced, in one step.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import remove_drafts, write_text
from tenclip_index.metadata import FILE_NAME, IndexFile, IndexInfo

LOCK_NAME = ".lock"
_OURS = re.compile(r"(vectors|rows)(\.\d+)?\.(faiss|parquet)")
_SUFFIXES = {"vectors": "faiss", "rows": "parquet"}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the folder for one writer; makes it where it is not there, and takes it away again if nothing came of it.

    Raises DatasetError while another process writes, and for a folder that is something else.
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_others(folder)
        lock = (folder / LOCK_NAME).open("ab")
    except (FileExistsError, NotADirectoryError):
        raise DatasetError(f"{folder}: is a file; an index is a folder") from None
    except OSError as err:
        raise _unwritable(folder, err) from err
    with lock:
        if not _try_lock(lock):
            raise DatasetError(f"{folder}: another process is writing this index; try again when it is done")
        with contextlib.suppress(OSError):
            remove_drafts(folder, of=FILE_NAME)  # of a process that was killed
        try:
            yield
        finally:
            if made and not (folder / FILE_NAME).exists():
                with contextlib.suppress(OSError):
                    (folder / LOCK_NAME).unlink()
                    folder.rmdir()


class Draft:
    """The files of the next generation of an index, of which nobody knows until `commit`."""

    def __init__(self, folder: Path, generation: int) -> None:
        self._folder, self._generation = folder, generation
        self._files: dict[str, IndexFile] = {}

    def path(self, which: str) -> Path:
        """Where `vectors` or `rows` are written."""
        middle = f".{self._generation}" if self._generation else ""
        return self._folder / f"{which}{middle}.{_SUFFIXES[which]}"

    @contextlib.contextmanager
    def open(self, which: str) -> Iterator[IO[bytes]]:
        """A file to write; it is on the disk when the block ends. Raises DatasetError where it cannot be written."""
        path = self.path(which)
        try:
            with path.open("w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as err:
            raise _unwritable(path, err) from err
        self._files[which] = IndexFile(name=path.name, num_bytes=size, sha256=digest)

    def commit(self, info: IndexInfo) -> IndexInfo:
        """From now on this is the index. Files of earlier generations go."""
        info = replace(info, files=dict(self._files), generation=self._generation)
        try:
            write_text(self._folder / FILE_NAME, info.to_json())
        except OSError as err:
            raise _unwritable(self._folder / FILE_NAME, err) from err
        _remove(self._folder, keep={f.name for f in self._files.values()})
        return info


@contextlib.contextmanager
def drafted(folder: Path, earlier: IndexInfo | None) -> Iterator[Draft]:
    """A draft whose files are removed when the block raises: the earlier index stays as it was."""
    draft = Draft(folder, 0 if earlier is None else earlier.generation + 1)
    try:
        yield draft
    except BaseException:
        kept = set() if earlier is None else {f.name for f in earlier.files.values()}
        for which in _SUFFIXES:
            if draft.path(which).name not in kept:
                with contextlib.suppress(OSError):
                    draft.path(which).unlink()
        raise


def check_files(folder: Path, info: IndexInfo, *, contents: bool = False) -> None:
    """Raises DatasetError for a file that is gone or of another size; contents: or whose SHA-256 is another one."""
    for file in info.files.values():
        path = folder / file.name
        try:
            size = path.stat().st_size
            if size == file.num_bytes and contents:
                with path.open("rb") as opened:
                    if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                        raise DatasetError(f"{path}: is damaged: its SHA-256 is not the one in {FILE_NAME}")
        except OSError as err:
            raise DatasetError(f"{path}: cannot be read: {err.strerror or err}") from err
        if size != file.num_bytes:
            raise DatasetError(f"{path}: is damaged: {size} bytes where {FILE_NAME} says {file.num_bytes}")


def _refuse_others(folder: Path) -> None:
    """Files that are not ours are nobody's to write beside."""
    if (folder / FILE_NAME).exists():
        return
    for path in folder.iterdir():
        if path.name != LOCK_NAME and not _OURS.fullmatch(path.name) and not path.name.endswith(".part"):
            raise DatasetError(f"{folder}: is a folder of other files ({path.name}); name a new one for the index")


def _remove(folder: Path, *, keep: set[str]) -> None:
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in keep:
            with contextlib.suppress(OSError):
                path.unlink()


def _unwritable(path: Path, err: OSError) -> DatasetError:
    return DatasetError(f"{path}: cannot be written: {err.strerror or err}")


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        """Held until the file is closed, however the process ends."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
