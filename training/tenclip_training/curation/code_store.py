"""Codes of many videos in a folder of Parquet files, computed once.

`codes-000001.parquet`, `codes-000002.parquet`, ... each hold some videos and appear whole or not at all, so a run that
is killed loses the few videos since the last of them. Where a video is in several files the last one counts. `update`
ends with one file.

Columns: `video` (absolute path, with the part where it is one), `num_bytes` and `mtime_ns` of the file (a changed file
is computed again), `start_seconds`, `codes` (a list of uint64, one for each 1/16 s), `flat` (a list of bool), `bars`
(top, bottom, left, right), and for a video without codes `reason` and `message`.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, DecodeWorkerDied, TenclipError
from tenclip_data.atomic import replacing
from tenclip_features.stamps import VideoStamp, stamp_file
from tenclip_training.curation.frame_codes import RECIPE, VideoCodes, compute_codes
from tenclip_training.curation.killable import DEFAULT_TIMEOUT_SECONDS, for_each
from tenclip_training.curation.video_sets import SetVideo

_FILE = re.compile(r"codes-(\d{6})\.parquet")
_RECIPE_KEY = b"tenclip.codes"
SCHEMA = pa.schema(
    [
        ("video", pa.string()),
        ("num_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("start_seconds", pa.float64()),
        ("codes", pa.large_list(pa.uint64())),
        ("flat", pa.large_list(pa.bool_())),
        ("bars", pa.list_(pa.int32())),
        ("reason", pa.string()),
        ("message", pa.string()),
    ],
    metadata={_RECIPE_KEY: RECIPE.encode()},
)
# A file is written after so many videos, or so many seconds.
_BATCH, _BATCH_SECONDS = 256, 30.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class CodeTable:
    """Codes of videos one behind the other, in memory.

    codes, flat: [total]. starts: [V + 1], video v has codes[starts[v] : starts[v + 1]]. start_seconds: [V], the time of
    each video's first code.
    """

    names: tuple[str, ...]
    codes: NDArray[np.uint64]
    flat: NDArray[np.bool_]
    starts: NDArray[np.int64]
    start_seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def video(self, index: int) -> VideoCodes:
        """The codes of one video."""
        part = slice(self.starts[index], self.starts[index + 1])
        return VideoCodes(codes=self.codes[part], flat=self.flat[part], start_seconds=float(self.start_seconds[index]))

    @classmethod
    def of(cls, videos: Mapping[str, VideoCodes]) -> CodeTable:
        """The table of these videos, by name."""
        lengths = [len(v.codes) for v in videos.values()]
        return cls(
            names=tuple(videos),
            codes=np.concatenate([np.zeros(0, np.uint64), *(v.codes for v in videos.values())]),
            flat=np.concatenate([np.zeros(0, np.bool_), *(v.flat for v in videos.values())]),
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            start_seconds=np.array([v.start_seconds for v in videos.values()], np.float64),
        )


@dataclass(frozen=True, kw_only=True)
class CodeFailure:
    """A video that has no codes. reason: the error's stable name."""

    video: str
    reason: str
    message: str


class CodeStore:
    """The codes in one folder, see the module. Raises DatasetError for files that are damaged or of another recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update(
        self,
        videos: Sequence[SetVideo],
        *,
        workers: int,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        progress: Progress | None = None,
    ) -> int:
        """Compute the codes of the videos that have none or whose files have changed; returns how many those were.

        A video that cannot be read is entered with the reason, and tried again only when its file has changed.
        """
        videos = list({v.key: v for v in videos}.values())  # a video may be in source and target
        with self._locked():
            known = self._stamps()
            stamps = {v.key: stamp_file(v.path) for v in videos}
            todo = [v for v in videos if v.key not in known or known[v.key] != _file_of(stamps[v.key])]
            batch: list[dict[str, Any]] = []
            written = time.monotonic()
            try:
                done = len(videos) - len(todo)
                for outcome in for_each(codes_of, todo, workers=workers, timeout_seconds=timeout_seconds):
                    batch.append(_row(outcome.item, stamps[outcome.item.key], outcome.value, outcome.error))
                    done += 1
                    if progress:
                        progress(done, len(videos))
                    if len(batch) >= _BATCH or time.monotonic() - written > _BATCH_SECONDS:
                        self._write(batch)
                        batch, written = [], time.monotonic()
            finally:
                if batch:  # what is done stays done, however this ends
                    self._write(batch)
            self._compact()
        return len(todo)

    def read(self, videos: Sequence[SetVideo]) -> tuple[CodeTable, list[CodeFailure]]:
        """The codes of these videos, in their order, under their names; and those that have none."""
        table = self._table(SCHEMA.names)
        row_of = {key: i for i, key in enumerate(table.column("video").to_pylist())}  # the last one counts
        missing = next((v for v in videos if v.key not in row_of), None)
        if missing is not None:
            raise DatasetError(f"{self.folder}: has no codes of {missing.name}")
        rows = [row_of[v.key] for v in videos]
        reasons = table.column("reason").to_pylist()
        messages = table.column("message").to_pylist()
        failures = [
            CodeFailure(video=v.name, reason=reasons[r], message=messages[r] or "")
            for v, r in zip(videos, rows, strict=True)
            if reasons[r] is not None
        ]
        good = [(v.name, r) for v, r in zip(videos, rows, strict=True) if reasons[r] is None]
        return _code_table(table, good), failures

    # -- files --

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(f for f in self.folder.iterdir() if _FILE.fullmatch(f.name))

    def _table(self, columns: Sequence[str]) -> pa.Table:
        tables = [self._read(file, columns) for file in self._files()]
        empty = SCHEMA.empty_table().select(list(columns)).replace_schema_metadata(None)
        return pa.concat_tables([empty, *tables]).combine_chunks()

    def _read(self, file: Path, columns: Sequence[str]) -> pa.Table:
        try:
            with file.open("rb") as raw, pq.ParquetFile(raw) as parquet:
                recipe = (parquet.schema_arrow.metadata or {}).get(_RECIPE_KEY, b"").decode(errors="replace")
                if recipe == RECIPE:
                    return parquet.read(columns=list(columns)).replace_schema_metadata(None)
        except (OSError, pa.ArrowException) as err:
            raise DatasetError(f"{file}: cannot be read: {err}; remove it, and its videos are computed again") from err
        raise DatasetError(
            f"{file}: holds codes of another recipe ({recipe or 'none is named'}, now {RECIPE}); name another folder"
        )

    def _stamps(self) -> dict[str, tuple[int, int] | None]:
        """The stamps of the videos that need no second look; one whose decoder was stopped may do better next time."""
        names = ("video", "num_bytes", "mtime_ns", "reason")
        table = self._table(names)
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        last = {video: (None if size is None else (size, mtime), reason) for video, size, mtime, reason in rows}
        return {video: stamp for video, (stamp, reason) in last.items() if reason != DecodeWorkerDied.reason}

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA))

    def _write_table(self, table: pa.Table) -> Path:
        files = self._files()
        number = int(_FILE.fullmatch(files[-1].name)[1]) + 1 if files else 1  # type: ignore[index]
        path = self.folder / f"codes-{number:06d}.parquet"
        with replacing(path) as file:
            pq.write_table(table.replace_schema_metadata(SCHEMA.metadata), file, compression="zstd")
        return path

    def _compact(self) -> None:
        """One file in place of several; only the last row of each video."""
        files = self._files()
        if len(files) < 2:
            return
        table = self._table(SCHEMA.names)
        last = sorted({key: i for i, key in enumerate(table.column("video").to_pylist())}.values())
        self._write_table(table.take(pa.array(last, pa.int64())))
        for file in files:
            file.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder against other processes; the lock goes with the process, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"{self.folder}: another process is computing codes into it") from None
            yield
        finally:
            os.close(handle)


def codes_of(video: SetVideo) -> VideoCodes:
    """`compute_codes` of a video of a set."""
    return compute_codes(video.path, start_seconds=video.start_seconds, end_seconds=video.end_seconds, name=video.name)


def _row(
    video: SetVideo, stamp: VideoStamp | None, codes: VideoCodes | None, error: TenclipError | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"video": video.key, "start_seconds": video.start_seconds or 0.0}
    if stamp is not None:
        row |= {"num_bytes": stamp.num_bytes, "mtime_ns": stamp.mtime_ns}
    if codes is not None:
        return row | {"codes": codes.codes, "flat": codes.flat, "bars": list(astuple(codes.bars))}
    assert error is not None
    return row | {"reason": error.reason, "message": error.message.encode(errors="replace").decode()}


def _file_of(stamp: VideoStamp | None) -> tuple[int, int] | None:
    return None if stamp is None else (stamp.num_bytes, stamp.mtime_ns)


def _code_table(table: pa.Table, rows: Sequence[tuple[str, int]]) -> CodeTable:
    taken = table.take(pa.array([r for _, r in rows], pa.int64())).combine_chunks()
    codes, flat = (_only_chunk(taken.column(name)) for name in ("codes", "flat"))
    return CodeTable(
        names=tuple(name for name, _ in rows),
        codes=np.asarray(codes.flatten().to_numpy(zero_copy_only=False), np.uint64),
        flat=np.asarray(flat.flatten().to_numpy(zero_copy_only=False), np.bool_),
        starts=np.concatenate([[0], np.cumsum(codes.value_lengths().to_numpy(zero_copy_only=False))]).astype(np.int64),
        start_seconds=np.asarray(taken.column("start_seconds").to_numpy(), np.float64),
    )


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
