"""The ledger of a dataset: what its parts say of every video, and the sums of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError
from tenclip_batch.parts import CLIPS, VIDEOS
from tenclip_batch.schema import DONE
from tenclip_features.stamps import VideoStamp

_LEDGER_COLUMNS = ["video", "state", "clips", "error_kind", "error", "file"]
_STAMPS = ["video_bytes", "video_mtime_ns", "video_sha256"]


@dataclass(frozen=True)
class LedgerEntry:
    """What the dataset says of one video. stem: the part that says it. kind: of the failure, "" where it is done."""

    stem: str
    clips: int
    kind: str
    message: str
    stamp: VideoStamp | None
    file: str | None

    @property
    def done(self) -> bool:
        return not self.kind


def read_ledger(folder: Path) -> dict[str, LedgerEntry]:
    """Every video that is done or failed, by its name. Raises DatasetError of a part that is damaged."""
    ledger: dict[str, LedgerEntry] = {}
    for path in parts_of(folder):
        table = read_table(path, [*_LEDGER_COLUMNS, *_STAMPS])
        columns = [table[name].to_pylist() for name in (*_LEDGER_COLUMNS, *_STAMPS)]
        for video, state, clips, kind, message, file, size, time_ns, sha256 in zip(*columns, strict=True):
            stamp = None if size is None or time_ns is None else VideoStamp(size, time_ns, sha256 or "")
            ledger[video] = LedgerEntry(
                path.stem, clips, "" if state == DONE else kind, "" if message is None else message, stamp, file
            )
    return ledger


def summarize(folder: Path) -> dict[str, Any]:
    """{"videos", "clips", "done", "failed", "failures": {KIND: count}} of a dataset."""
    clips = done = 0
    kinds: Counter[str] = Counter()
    for path in parts_of(folder):
        table = read_table(path, ["state", "clips", "error_kind"])
        clips += pc.sum(table["clips"]).as_py() or 0
        done += pc.sum(pc.equal(table["state"], DONE)).as_py() or 0
        kinds.update(kind for kind in table["error_kind"].to_pylist() if kind)
    failures = dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
    return {
        "videos": done + sum(kinds.values()),
        "clips": clips,
        "done": done,
        "failed": sum(kinds.values()),
        "failures": failures,
    }


def parts_of(folder: Path) -> list[Path]:
    """The files in `videos/`, in the order of their numbers."""
    return sorted((folder / VIDEOS).glob("part-*.parquet"), key=lambda p: int(p.stem.partition("-")[2]))


def names_in_part(path: Path) -> list[tuple[str, int, str, str]]:
    """(video, clips, kind of its failure or "", the failure in words) of every row of a file in `videos/`."""
    columns = [c.to_pylist() for c in read_table(path, ["video", "clips", "error_kind", "error"]).columns]
    return [(video, clips, kind or "", message or "") for video, clips, kind, message in zip(*columns, strict=True)]


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part. Raises DatasetError where it is damaged."""
    try:
        # By an open file: a path would make pyarrow take folders like `split=train` above it for columns.
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            return file.read(columns=columns)
    except (pa.ArrowException, OSError) as err:
        raise damaged_part(path, err) from err


def num_rows(path: Path) -> int:
    """Of a file of a part; 0 where it is not there."""
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def damaged_part(path: Path, err: Exception) -> DatasetError:
    """What to say of a part that pyarrow does not read."""
    return DatasetError(
        f"{path}: cannot be read as Parquet: {err}; delete it, and the file of its name in {CLIPS}/, and run again: "
        "its videos are worked on anew"
    )
