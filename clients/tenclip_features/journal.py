"""The resumable journal of a feature extraction: which videos are done, with their features, and which failed.

It is an SQLite database, `journal.sqlite` in the folder `F.parquet.partial/`. Each video is one transaction, on disk
when `add` or `fail` returns: after a kill at any moment the journal holds every finished video and no half of one.
Only one process at a time may hold it; the operating system releases the lock however that process ends.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tenclip_api.errors import DatasetError
from tenclip_features.rows import ClipRow, VideoFailure, VideoRows
from tenclip_features.stamps import VideoStamp

FILE_NAME = "journal.sqlite"
FORMAT_VERSION = 1
# Files of the journal before it was a database.
_EARLIER_FILES = ("ledger.jsonl", "settings.json")

# A video without a reason is done. `position` keeps the order in which videos were first entered.
_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE videos (
    position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, protocol TEXT,
    num_bytes INTEGER, mtime_ns INTEGER, sha256 TEXT, reason TEXT, message TEXT
);
CREATE TABLE clips (
    video INTEGER NOT NULL REFERENCES videos (position) ON DELETE CASCADE,
    clip_index INTEGER NOT NULL, start_seconds REAL, end_seconds REAL, features BLOB NOT NULL
);
CREATE INDEX clips_of_video ON clips (video);
"""


class ExtractionJournal:
    """Resumable journal: which videos are done or failed. Use it as a context manager.

    ::

        with ExtractionJournal(Path("f.parquet.partial"), settings) as journal:
            if "a.mp4" not in journal.done():
                journal.add(VideoRows("a.mp4", stamp, clips), protocol="ten-clip")

    Every method raises DatasetError, with the path, where the file is damaged or cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        begin_with: Callable[[], tuple[str, Iterable[VideoRows]]] | None = None,
    ) -> None:
        """Open the journal in `folder`, or begin one there.

        settings: whatever the features depend on, JSON values; a journal of other settings is refused.
        begin_with: called for a new journal only; gives (protocol, videos that are done).
        Raises DatasetError for that, for one that another process holds, and for the form of earlier versions.
        """
        self.folder = folder
        self._path = folder / FILE_NAME
        _refuse_earlier_form(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _errors(self._path):
            self._database = _open_exclusively(self._path)
        try:
            with self._transaction() as database:
                if not _has_tables(database):
                    self._begin(database, settings)
                    protocol, videos = ("", ()) if begin_with is None else begin_with()
                    for rows in videos:
                        _insert(database, rows, protocol)
            check_same_settings(folder, self._settings(), settings)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._database.close()

    def add(self, rows: VideoRows, *, protocol: str) -> None:
        """Enter a video as done. `protocol`: the one that the server says it ran."""
        with self._transaction() as database:
            _insert(database, rows, protocol)

    def fail(self, failure: VideoFailure, stamp: VideoStamp | None = None) -> None:
        """Enter a video as failed; features of an earlier run are deleted. stamp: of its file, if there was one."""
        with self._transaction() as database:
            _enter(database, failure.video, stamp=stamp, reason=failure.reason, message=failure.message)

    def done(self) -> dict[str, VideoStamp | None]:
        """Every video that has features, with the stamp that its file had then, in the order of entry."""
        rows = self._query(
            "SELECT name, num_bytes, mtime_ns, sha256 FROM videos WHERE reason IS NULL ORDER BY position"
        )
        return {name: _stamp(*stamp) for name, *stamp in rows}

    def failures(self) -> dict[str, VideoFailure]:
        """Every video that failed."""
        rows = self._query("SELECT name, reason, message FROM videos WHERE reason IS NOT NULL ORDER BY position")
        return {row[0]: VideoFailure(*row) for row in rows}

    def failed(self) -> dict[str, VideoStamp | None]:
        """Every video that failed, with the stamp that its file had then; None where there was no file."""
        rows = self._query("SELECT name, num_bytes, mtime_ns, sha256 FROM videos WHERE reason IS NOT NULL")
        return {name: _stamp(*stamp) for name, *stamp in rows}

    def rows(self, video: str) -> VideoRows:
        """The features of a video that is done. Raises KeyError for any other."""
        found = self._query(
            "SELECT position, num_bytes, mtime_ns, sha256 FROM videos WHERE name = ? AND reason IS NULL", video
        )
        if not found:
            raise KeyError(video)
        position, *stamp = found[0]
        clips = self._query(
            "SELECT clip_index, start_seconds, end_seconds, features FROM clips WHERE video = ? ORDER BY rowid",
            position,
        )
        return VideoRows(
            video, _stamp(*stamp), [ClipRow(i, start, end, array("f", values)) for i, start, end, values in clips]
        )

    def protocol(self, video: str) -> str:
        """The protocol that the server ran on a video that is done. Raises KeyError for any other."""
        for (protocol,) in self._query("SELECT protocol FROM videos WHERE name = ? AND reason IS NULL", video):
            return str(protocol)
        raise KeyError(video)

    def remove(self) -> None:
        """Delete the folder: what it held is in the finished table."""
        shutil.rmtree(self.folder)

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete what an earlier run left, if anything. Raises DatasetError while another process holds it."""
        if not folder.is_dir():
            return
        path = folder / FILE_NAME
        database: sqlite3.Connection | None = None
        try:
            if path.exists():
                database = _open_exclusively(path)
        except sqlite3.DatabaseError as err:
            if _is_locked(err):
                raise _held_elsewhere(folder) from None
            # Damaged: it is to be deleted anyway.
        try:
            shutil.rmtree(folder)
        finally:
            if database is not None:
                database.close()

    def _begin(self, database: sqlite3.Connection, settings: Mapping[str, Any]) -> None:
        for statement in _TABLES.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        values = [(name, json.dumps(value)) for name, value in settings.items()]
        database.executemany("INSERT INTO settings VALUES (?, ?)", values)

    def _settings(self) -> dict[str, Any]:
        return {name: json.loads(value) for name, value in self._query("SELECT name, value FROM settings")}

    def _query(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with _errors(self._path):
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with _errors(self._path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def check_same_settings(where: Path, begun_with: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises DatasetError that names every setting that differs."""
    keys = dict.fromkeys([*begun_with, *settings])
    differ = [
        f"{k} was {_shown(begun_with.get(k))}, now {_shown(settings.get(k))}"
        for k in keys
        if begun_with.get(k) != settings.get(k)
    ]
    if differ:
        raise DatasetError(
            f"{where}: holds features of other settings: {'; '.join(differ)}. "
            "Use those, another --out, or --overwrite to begin again"
        )


def _insert(database: sqlite3.Connection, rows: VideoRows, protocol: str) -> None:
    position = _enter(database, rows.video, protocol=protocol, stamp=rows.stamp)
    values = [(position, c.index, c.start_seconds, c.end_seconds, c.values.tobytes()) for c in rows.clips]
    database.executemany("INSERT INTO clips VALUES (?, ?, ?, ?, ?)", values)


def _enter(
    database: sqlite3.Connection,
    video: str,
    *,
    protocol: str | None = None,
    stamp: VideoStamp | None = None,
    reason: str | None = None,
    message: str | None = None,
) -> int:
    """Put a video in the place of what was known of it; returns its position."""
    known = database.execute("SELECT position FROM videos WHERE name = ?", (video,)).fetchone()
    database.execute("DELETE FROM videos WHERE name = ?", (video,))  # its clips, too
    file = (None, None, None) if stamp is None else (stamp.num_bytes, stamp.mtime_ns, stamp.sha256)
    values = (known[0] if known else None, video, protocol, *file, reason, message)
    return int(database.execute("INSERT INTO videos VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid or 0)


def _stamp(num_bytes: int | None, mtime_ns: int | None, sha256: str | None) -> VideoStamp | None:
    return None if num_bytes is None or mtime_ns is None else VideoStamp(num_bytes, mtime_ns, sha256 or "")


def _open_exclusively(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.OperationalError, "database is locked", while another process has it open."""
    database = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        # The lock is taken by the first access and kept until the connection ends.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _has_tables(database: sqlite3.Connection) -> bool:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version not in (0, FORMAT_VERSION):
        raise sqlite3.DatabaseError(f"its format is version {version}, this version of tenclip reads {FORMAT_VERSION}")
    return bool(version)


def _refuse_earlier_form(folder: Path) -> None:
    if not (folder / FILE_NAME).exists() and any((folder / name).exists() for name in _EARLIER_FILES):
        raise DatasetError(
            f"{folder}: was begun by an earlier version of tenclip, whose journal this version does not read; finish "
            "it with that version, or begin again with --overwrite"
        )


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as err:
        if _is_locked(err):
            raise _held_elsewhere(path.parent) from None
        raise DatasetError(f"{path}: cannot be read or written: {err}") from err
    except (sqlite3.DatabaseError, ValueError) as err:
        raise DatasetError(f"{path}: is damaged ({err}); begin again with --overwrite") from err


def _is_locked(err: sqlite3.Error) -> bool:
    return getattr(err, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _held_elsewhere(folder: Path) -> DatasetError:
    return DatasetError(f"{folder}: another process is extracting features into it")


def _shown(value: object) -> str:
    return "not set" if value is None or value == "" else str(value)
