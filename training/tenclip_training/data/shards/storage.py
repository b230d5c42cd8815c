"""Shards as files on this machine: those of a folder as they are, those behind a URL through a cache.

The cache is a folder that all processes of a machine may share, and all runs: a shard is named in it by its SHA-256,
fetched once by whoever comes first, and appears whole. Beyond the limit, shards that were not used for longest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tenclip_api.errors import DatasetError, FetchFailed, MissingDependency, VideoError, VideoNotFound, VideoNotReadable
from tenclip_training.data.shards.index import Shard
from tenclip_training.data.shards.places import open_file_system, shown

DEFAULT_CACHE_GIB = 50.0
# A shard that could not be fetched is not asked for again so soon: thousands of its videos would each wait.
_SECONDS_TO_FORGET_FAILURE = 60.0
# A draft that has not grown for so long is that of a process that was killed.
_STALE_SECONDS = 900.0
# What another try does not help against.
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_FINAL_STATUSES = (400, 401, 403, 407, 410)  # of HTTP


class ShardStorage(Protocol):
    """Where shards lie."""

    def file_of(self, shard: Shard) -> Path:
        """A file of this shard on this machine. Raises VideoError where it cannot be had."""

    def place_of(self, shard: Shard) -> str:
        """Path or URL of a shard, for messages."""


@dataclass(frozen=True)
class LocalShards:
    """Shards in a folder."""

    folder: Path

    def file_of(self, shard: Shard) -> Path:
        return self.folder / shard.name

    def place_of(self, shard: Shard) -> str:
        return str(self.folder / shard.name)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often a fetch is tried, and the seconds before the second time; they double, with some chance in them."""

    attempts: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0

    def waits(self) -> Iterator[float]:
        """Seconds before each further try."""
        for attempt in range(self.attempts - 1):
            wait = min(self.longest_wait_seconds, self.first_wait_seconds * 2**attempt)
            yield wait * random.uniform(0.5, 1.0)


@dataclass(frozen=True, kw_only=True)
class RemoteShards:
    """Shards behind a URL. cache: the folder that they are fetched into; max_bytes: what it may hold."""

    url: str
    cache: Path
    max_bytes: int
    retries: Retries = field(default_factory=Retries)

    def place_of(self, shard: Shard) -> str:
        return shown(self._url_of(shard))

    def file_of(self, shard: Shard) -> Path:
        """Fetch a shard, unless it is in the cache. Raises VideoError, for a short while at once after a failure."""
        path = self.cache / f"{shard.sha256}.tar"
        if _touch(path):
            return path
        self.cache.mkdir(parents=True, exist_ok=True)
        with _locked(self.cache / f".{shard.sha256}.lock"):
            if _touch(path):
                return path
            failure = self.cache / f".{shard.sha256}.failed"
            self._refuse_again(shard, failure)
            try:
                self._fetch(shard, path)
            except VideoError as err:
                with contextlib.suppress(OSError):
                    failure.write_text(err.message, encoding="utf-8")
                raise
            failure.unlink(missing_ok=True)
        return path

    def _refuse_again(self, shard: Shard, failure: Path) -> None:
        with contextlib.suppress(OSError):
            if time.time() - failure.stat().st_mtime < _SECONDS_TO_FORGET_FAILURE:
                raise FetchFailed(failure.read_text(encoding="utf-8"), source=self.place_of(shard))

    def _fetch(self, shard: Shard, path: Path) -> None:
        draft = self.cache / f".{shard.sha256}.{shard.num_bytes}.{secrets.token_hex(8)}.part"
        with _locked(self.cache / ".lock"):
            self._make_room(shard)
            draft.touch()
        try:
            with_retries(lambda: self._download(shard, draft), self.place_of(shard), self.retries)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _download(self, shard: Shard, draft: Path) -> None:
        files, name = open_file_system(self._url_of(shard))
        files.get_file(name, str(draft))
        with draft.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            os.fsync(file.fileno())
        if size != shard.num_bytes:
            raise OSError(f"came as {size} bytes, where the index says {shard.num_bytes}")
        if digest != shard.sha256:
            raise OSError("is not the file that the index was made of: its SHA-256 is another one")

    def _make_room(self, shard: Shard) -> None:
        """Remove the shards that were not used for longest until this one fits. Raises DatasetError, OSError."""
        if shard.num_bytes > self.max_bytes:
            raise DatasetError(
                f"{self.place_of(shard)}: {shard.num_bytes:,} bytes do not fit into the cache of {self.max_bytes:,} "
                "bytes for shards; make it larger"
            )
        kept: list[tuple[float, int, Path]] = []
        total = shard.num_bytes
        for entry in self.cache.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                if entry.suffix == ".part":
                    if time.time() - status.st_mtime > _STALE_SECONDS:
                        entry.unlink()
                    else:
                        total += int(entry.name.split(".")[2])
                elif entry.suffix == ".tar":
                    kept.append((status.st_mtime, status.st_size, entry))
                    total += status.st_size
        for _, size, entry in sorted(kept):
            if total <= self.max_bytes:
                break
            entry.unlink(missing_ok=True)
            total -= size

    def _url_of(self, shard: Shard) -> str:
        return f"{self.url.rstrip('/')}/{shard.name}"


def with_retries(action: Callable[[], Any], place: str, retries: Retries) -> Any:
    """The result of `action`, which is tried again after errors that may pass.

    Raises VideoNotFound, VideoNotReadable or FetchFailed with `place`; MissingDependency.
    """
    waits = retries.waits()
    while True:
        try:
            return action()
        except (DatasetError, MissingDependency):
            raise
        except FileNotFoundError as err:
            raise VideoNotFound(f"{place}: there is no such file", source=place) from err
        except _FINAL as err:
            raise VideoNotReadable(f"{place}: may not be read ({_said(err)})", source=place) from err
        except Exception as err:  # each file system has errors of its own
            if getattr(err, "status", None) in _FINAL_STATUSES:
                raise VideoNotReadable(f"{place}: may not be read ({_said(err)})", source=place) from err
            wait = next(waits, None)
            if wait is None:
                tries = f" after {retries.attempts} tries" if retries.attempts > 1 else ""
                raise FetchFailed(f"{place}: could not be fetched{tries}: {_said(err)}", source=place) from err
            time.sleep(wait)


def _said(err: BaseException) -> str:
    """An error in a line; without URLs, which may hold secrets, where it is not one of our own."""
    status = getattr(err, "status", None)
    if isinstance(status, int):
        return f"HTTP {status}"
    text = str(err).splitlines()[0] if str(err) else ""
    return text if text and "://" not in text else type(err).__name__


def _locked(path: Path) -> AbstractContextManager[Any]:
    """A lock that ends with its process, whatever ends that."""
    try:
        from filelock import FileLock
    except ModuleNotFoundError as err:
        raise MissingDependency(f"shards behind URLs need {err.name}; pip install 'tenclip[uri]' brings it") from err
    return FileLock(path)


def _touch(path: Path) -> bool:
    """Mark a file as used now; False where there is none."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def default_cache() -> Path:
    """The folder for shards in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tenclip" / "shards"
