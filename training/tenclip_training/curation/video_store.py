"""What was computed of many videos, in a folder of Parquet files: once for each video, resumable.

`NOUN-000001.parquet`, `NOUN-000002.parquet`, ... each hold some videos and appear whole or not at all, so a run that
is killed loses the few videos since the last of them. Where a video is in several files the last one counts. What is
computed ends in one file, or in several of `max_bytes` each.

Columns that every store has: `video` (absolute path, with the part where it is one), `num_bytes` and `mtime_ns` of the
file (a changed file is computed again), and for a video of which nothing could be computed `reason` and `message`.
"""

from __future__ import annotations

import fcntl
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError, DecodeWorkerDied, TenclipError
from tenclip_data.atomic import replacing
from tenclip_features.stamps import VideoStamp, stamp_file
from tenclip_training.curation.killable import AHEAD, DEFAULT_TIMEOUT_SECONDS, for_each
from tenclip_training.curation.video_sets import SetVideo

# A file is written after so many videos, or so many seconds.
_BATCH, _BATCH_SECONDS = 256, 30.0

Progress = Callable[[int, int], None]
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class StoreFailure:
    """A video of which nothing could be computed. reason: the error's stable name."""

    video: str
    reason: str
    message: str


class VideoStore:
    """The files of one kind in one folder, see the module.

    noun: what is stored ("codes"). columns: beside those of every store. recipe: how it is computed; files of another
    recipe are refused with DatasetError, as damaged ones are. max_bytes: of files that are put together; a larger one
    stays as it is. batch: videos that are kept in memory before they are written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        noun: str,
        columns: Sequence[tuple[str, pa.DataType]],
        recipe: str,
        max_bytes: float = math.inf,
        batch: int = _BATCH,
    ) -> None:
        self._batch = batch
        self.folder, self.noun, self.recipe, self.max_bytes = folder, noun, recipe, max_bytes
        # For what `fill`'s function hands over in files; it is empty before, and gone afterwards.
        self.scratch = folder / "scratch"
        self._recipe_key = f"tenclip.{noun}".encode()
        self.schema = pa.schema(
            [
                ("video", pa.string()),
                ("num_bytes", pa.int64()),
                ("mtime_ns", pa.int64()),
                *columns,
                ("reason", pa.string()),
                ("message", pa.string()),
            ],
            metadata={self._recipe_key: recipe.encode()},
        )
        self._file = re.compile(rf"{noun}-(\d{{6}})\.parquet")

    def fill(
        self,
        videos: Sequence[SetVideo],
        function: Callable[[SetVideo], Value],
        to_columns: Callable[[SetVideo, Value], Mapping[str, Any]],
        *,
        workers: int,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        ahead: int = AHEAD,
        progress: Progress | None = None,
    ) -> int:
        """Compute what is missing; returns of how many videos that was. A video is missing whose file has changed.

        function: called in processes of their own. to_columns: called here, with what it gave. A video that cannot be
        read is entered with the reason, and tried again only when its file has changed. ahead: see `for_each`.
        """
        videos = list({v.key: v for v in videos}.values())  # a video may be in source and target
        with self._locked():
            shutil.rmtree(self.scratch, ignore_errors=True)
            known = self._stamps()
            stamps = {v.key: stamp_file(v.path) for v in videos}
            todo = [v for v in videos if v.key not in known or known[v.key] != _file_of(stamps[v.key])]
            batch: list[dict[str, Any]] = []
            written = time.monotonic()
            try:
                done = len(videos) - len(todo)
                for outcome in for_each(function, todo, workers=workers, timeout_seconds=timeout_seconds, ahead=ahead):
                    row = _row(outcome.item, stamps[outcome.item.key], outcome.error)
                    if outcome.value is not None:
                        row |= to_columns(outcome.item, outcome.value)
                    batch.append(row)
                    done += 1
                    if progress:
                        progress(done, len(videos))
                    if len(batch) >= self._batch or time.monotonic() - written > _BATCH_SECONDS:
                        self._write(batch)
                        batch, written = [], time.monotonic()
            finally:
                if batch:  # what is done stays done, however this ends
                    self._write(batch)
                shutil.rmtree(self.scratch, ignore_errors=True)
            self._compact()
        return len(todo)

    def rows_of(self, videos: Sequence[SetVideo]) -> tuple[pa.Table, tuple[str, ...], list[StoreFailure]]:
        """(rows, their videos' names, failures): the rows of these videos, in their order, and those that have none."""
        table = self._table(self.schema.names)
        row_of = {key: i for i, key in enumerate(table.column("video").to_pylist())}  # the last one counts
        self._require(videos, row_of)
        rows = [row_of[v.key] for v in videos]
        reasons = table.column("reason").to_pylist()
        good = [(v.name, r) for v, r in zip(videos, rows, strict=True) if reasons[r] is None]
        taken = table.take(pa.array([r for _, r in good], pa.int64())).combine_chunks()
        return taken, tuple(name for name, _ in good), self.failures_of(videos)

    def failures_of(self, videos: Sequence[SetVideo]) -> list[StoreFailure]:
        """Those of the videos of which nothing could be computed, in their order."""
        table = self._table(["video", "reason", "message"])
        rows = zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)
        known = {key: (reason, message) for key, reason, message in rows}  # the last one counts
        self._require(videos, known)
        found = [(v, *known[v.key]) for v in videos]
        return [StoreFailure(video=v.name, reason=r, message=m or "") for v, r, m in found if r is not None]

    def batches_of(self, videos: Sequence[SetVideo], columns: Sequence[str]) -> Iterator[tuple[pa.Table, list[int]]]:
        """(rows, their videos' places in `videos`), file by file, of those that have something: for what is too much
        for memory. The rows have `columns`.
        """
        last = self._last()
        self._require(videos, last)
        place = {v.key: i for i, v in enumerate(videos)}
        for file in self._files():
            table = self._read(file, ["video", "reason", *columns])
            keys, reasons = table.column("video").to_pylist(), table.column("reason").to_pylist()
            rows = [
                i
                for i, (key, reason) in enumerate(zip(keys, reasons, strict=True))
                if key in place and reason is None and last[key] == (file.name, i)
            ]
            if rows:
                taken = table.select(list(columns)).take(pa.array(rows, pa.int64())).combine_chunks()
                yield taken, [place[keys[i]] for i in rows]

    # -- files --

    def _require(self, videos: Sequence[SetVideo], known: Collection[str]) -> None:
        missing = next((v for v in videos if v.key not in known), None)
        if missing is not None:
            raise DatasetError(f"{self.folder}: has no {self.noun} of {missing.name}")

    def _last(self) -> dict[str, tuple[str, int]]:
        """(file's name, row) of the row that counts, of each video."""
        return {
            key: (file.name, i)
            for file in self._files()
            for i, key in enumerate(self._read(file, ["video"]).column("video").to_pylist())
        }

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(f for f in self.folder.iterdir() if self._file.fullmatch(f.name))

    def _table(self, columns: Sequence[str]) -> pa.Table:
        tables = [self._read(file, columns) for file in self._files()]
        empty = self.schema.empty_table().select(list(columns)).replace_schema_metadata(None)
        return pa.concat_tables([empty, *tables]).combine_chunks()

    def _read(self, file: Path, columns: Sequence[str]) -> pa.Table:
        try:
            with file.open("rb") as raw, pq.ParquetFile(raw) as parquet:
                recipe = (parquet.schema_arrow.metadata or {}).get(self._recipe_key, b"").decode(errors="replace")
                if recipe == self.recipe:
                    return parquet.read(columns=list(columns)).replace_schema_metadata(None)
        except (OSError, pa.ArrowException) as err:
            raise DatasetError(f"{file}: cannot be read: {err}; remove it, and its videos are computed again") from err
        raise DatasetError(
            f"{file}: holds {self.noun} of another recipe ({recipe or 'none is named'}, now {self.recipe}); name "
            "another folder"
        )

    def _stamps(self) -> dict[str, tuple[int, int] | None]:
        """The stamps of the videos that need no second look; one whose decoder was stopped may do better next time."""
        names = ("video", "num_bytes", "mtime_ns", "reason")
        table = self._table(names)
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        last = {video: (None if size is None else (size, mtime), reason) for video, size, mtime, reason in rows}
        return {video: stamp for video, (stamp, reason) in last.items() if reason != DecodeWorkerDied.reason}

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._write_table(pa.Table.from_pylist(list(rows), schema=self.schema))

    def _write_table(self, table: pa.Table) -> Path:
        files = self._files()
        number = int(self._file.fullmatch(files[-1].name)[1]) + 1 if files else 1  # type: ignore[index]
        path = self.folder / f"{self.noun}-{number:06d}.parquet"
        with replacing(path) as file:
            pq.write_table(table.replace_schema_metadata(self.schema.metadata), file, compression="zstd")
        return path

    def _compact(self) -> None:
        """Few files in place of many; only the last row of each video."""
        last = self._last()
        for group in self._groups():
            tables = []
            for file in group:
                table = self._read(file, self.schema.names)
                keys = table.column("video").to_pylist()
                rows = [i for i, key in enumerate(keys) if last[key] == (file.name, i)]
                tables.append(table.take(pa.array(rows, pa.int64())))
            self._write_table(pa.concat_tables(tables))
            for file in group:
                file.unlink()

    def _groups(self) -> list[list[Path]]:
        """Files that fit into one of `max_bytes`; those that are alone are left out."""
        groups: list[list[Path]] = []
        size = 0
        for file in self._files():
            more = file.stat().st_size
            if not groups or size + more > self.max_bytes:
                groups.append([])
                size = 0
            groups[-1].append(file)
            size += more
        return [group for group in groups if len(group) > 1]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder against other processes; the lock goes with the process, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"{self.folder}: another process is computing {self.noun} into it") from None
            yield
        finally:
            os.close(handle)


def only_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The one chunk of a column whose chunks were combined."""
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _row(video: SetVideo, stamp: VideoStamp | None, error: TenclipError | None) -> dict[str, Any]:
    row: dict[str, Any] = {"video": video.key}
    if stamp is not None:
        row |= {"num_bytes": stamp.num_bytes, "mtime_ns": stamp.mtime_ns}
    if error is not None:
        row |= {"reason": error.reason, "message": error.message.encode(errors="replace").decode()}
    return row


def _file_of(stamp: VideoStamp | None) -> tuple[int, int] | None:
    return None if stamp is None else (stamp.num_bytes, stamp.mtime_ns)
