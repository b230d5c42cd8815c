"""The unfinished state of a feature extraction: the directory `F.parquet.partial/`.

::

    settings.json   what the run was begun with; another run with other settings is refused
    ledger.jsonl    one line for each video that is over: done (where its vectors lie) or failed (why)
    vectors.f32     the vectors of all done videos, one after the other, float32
    lock            held by the process that writes

Vectors are on disk before the line that points to them, so after a kill at any moment what the ledger says is true: a
line that was cut off is dropped, and so are vectors that no line points to.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from tenclip_api.errors import DatasetError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class ClipRow:
    """One clip of one video: `values` is its feature vector, [D] float32."""

    index: int
    start_seconds: float
    end_seconds: float
    values: array[float]


@dataclass(frozen=True)
class Failure:
    """A video that gave no features, and why: `reason` is the error's stable name."""

    video: str
    reason: str
    message: str


class Ledger:
    """What is over and what is not. Use as a context manager; only one process at a time may hold it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Begin in `folder`, or go on there. Raises DatasetError if it belongs to another process or other settings."""
        self.folder = folder
        self.failures: dict[str, Failure] = {}
        self._done: dict[str, bytes] = {}  # the raw line: a parsed one takes ten times the memory
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            files.enter_context(_lock(folder / "lock"))
            _check_settings(folder / "settings.json", settings)
            self._vectors = files.enter_context(_open_for_update(folder / "vectors.f32"))
            self._lines = files.enter_context(_open_for_update(folder / "ledger.jsonl"))
            self._load()
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self._files.close()

    def is_done(self, video: str, fingerprint: Sequence[int]) -> bool:
        """Its features are here, and the file has not changed since (`fingerprint`: its size and time of change)."""
        line = self._done.get(video)
        return line is not None and json.loads(line)["file"] == list(fingerprint)

    def add(self, video: str, rows: Sequence[ClipRow], *, protocol: str, fingerprint: Sequence[int]) -> None:
        """Keep the features of a video, safely on disk when this returns. `protocol`: what the server says it ran."""
        offset = self._vectors.seek(0, os.SEEK_END)
        self._vectors.writelines(r.values.tobytes() for r in rows)
        _sync(self._vectors)
        entry = {
            "video": video,
            "status": "done",
            "file": list(fingerprint),
            "protocol": protocol,
            "offset": offset,
            "dim": len(rows[0].values),
            "clips": [[r.index, r.start_seconds, r.end_seconds] for r in rows],
        }
        self._done[video] = self._append(entry)
        self.failures.pop(video, None)

    def fail(self, failure: Failure) -> None:
        """Keep why a video gave no features."""
        self._append({**vars(failure), "status": "failed"})
        self.failures[failure.video] = failure
        self._done.pop(failure.video, None)

    def rows(self, video: str) -> list[ClipRow]:
        """The features of a video that is done; [] for any other."""
        line = self._done.get(video)
        return [] if line is None else self._read(json.loads(line))

    def protocol(self, video: str) -> str:
        """What the server ran on a video that is done."""
        protocol: str = json.loads(self._done[video])["protocol"]
        return protocol

    def remove(self) -> None:
        """Delete the whole directory: what it held is in the finished file."""
        shutil.rmtree(self.folder)

    @staticmethod
    def discard(folder: Path) -> None:
        """Delete what an earlier run left, if anything. Raises DatasetError while another process writes there."""
        if folder.is_dir():
            with _lock(folder / "lock"):
                shutil.rmtree(folder)

    def _read(self, entry: dict[str, Any]) -> list[ClipRow]:
        count = entry["dim"]
        self._vectors.seek(entry["offset"])
        rows = []
        for index, start, end in entry["clips"]:
            values = array("f")
            values.frombytes(self._vectors.read(count * _FLOAT_BYTES))
            rows.append(ClipRow(index, start, end, values))
        return rows

    def _append(self, entry: Mapping[str, Any]) -> bytes:
        line = json.dumps(entry).encode() + b"\n"
        self._lines.seek(0, os.SEEK_END)
        self._lines.write(line)
        _sync(self._lines)
        return line

    def _load(self) -> None:
        vectors_size = self._vectors.seek(0, os.SEEK_END)
        kept_lines = kept_vectors = 0
        for number, line in enumerate(self._lines, start=1):
            if not line.endswith(b"\n"):
                break
            for entry in self._entries(line, number):
                end = _vectors_end(entry)
                if end <= vectors_size:
                    self._note(entry, line)
                    kept_vectors = max(kept_vectors, end)
            kept_lines += len(line)
        self._lines.truncate(kept_lines)
        self._vectors.truncate(kept_vectors)

    def _entries(self, line: bytes, number: int) -> Iterator[dict[str, Any]]:
        try:
            entry = json.loads(line)
            _vectors_end(entry)
            yield {"video": entry["video"], **entry}
        except (ValueError, KeyError, TypeError) as err:
            raise DatasetError(
                f"{self.folder / 'ledger.jsonl'}: line {number} is damaged ({err}); begin again with --overwrite"
            ) from err

    def _note(self, entry: dict[str, Any], line: bytes) -> None:
        video = entry["video"]
        if entry["status"] == "done":
            self._done[video] = line
            self.failures.pop(video, None)
        else:
            self.failures[video] = Failure(video, entry["reason"], entry["message"])
            self._done.pop(video, None)


def _vectors_end(entry: dict[str, Any]) -> int:
    """How far `vectors.f32` must reach for this entry to be whole, in bytes."""
    if entry["status"] == "failed":
        return 0
    end: int = entry["offset"] + len(entry["clips"]) * entry["dim"] * _FLOAT_BYTES
    return end


def _open_for_update(path: Path) -> BinaryIO:
    # "a+" would write at the end whatever seek says; "r+" does not create.
    path.touch()
    return path.open("r+b")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lock(path: Path) -> BinaryIO:
    # Held by the open file: the system lets go of it however the process ends.
    file = path.open("wb")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise DatasetError(f"{path.parent}: another process is extracting features into it") from None
    return file


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    try:
        begun_with = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _write_settings(path, settings)
        return
    except ValueError as err:
        raise DatasetError(f"{path}: is damaged ({err}); begin again with --overwrite") from err
    check_same_settings(path.parent, begun_with, settings)


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


def _shown(value: object) -> str:
    return "not set" if value is None or value == "" else str(value)


def _write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        file.write(json.dumps(settings, indent=2).encode())
        _sync(file)
    os.replace(draft, path)
