"""The ledger of a dataset: what its parts say of every video, and the sums of that."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tenclip_api.errors import DatasetError
from tenclip_batch.parts import CLIPS, VIDEOS, part_files, part_path
from tenclip_batch.schema import DONE
from tenclip_features.schema import SETTINGS_KEY
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
    """Every video that is done or failed, by its name. Raises DatasetError of a part that is damaged or foreign."""
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
    return part_files(folder, VIDEOS)


def check_parts(folder: Path, table: str, schema: pa.Schema) -> None:
    """Raises DatasetError for a part in `clips/` or `videos/` that is damaged, or none of the dataset of `schema`."""
    for path in part_files(folder, table):
        with _opened(path) as file:
            found = file.schema_arrow
        if unlike := _difference(found, schema):
            raise foreign_part(path, unlike)


def stems_without_clips(folder: Path) -> set[str]:
    """Parts whose file in `clips/` is not there any more, though there were clips in it.

    Raises DatasetError for a file that has not the clips that `videos/` speaks of.
    """
    lost = set()
    for path in parts_of(folder):
        clips = part_path(folder, CLIPS, path.stem)
        counted = pc.sum(read_table(path, ["clips"])["clips"]).as_py() or 0
        if not clips.exists():
            lost.update([path.stem] if counted else [])
        elif (held := num_rows(clips)) != counted:
            raise foreign_part(clips, f"it has {held} rows, and {path} speaks of {counted}")
    return lost


def names_in_part(path: Path) -> list[tuple[str, int, str, str]]:
    """(video, clips, kind of its failure or "", the failure in words) of every row of a file in `videos/`."""
    columns = [c.to_pylist() for c in read_table(path, ["video", "clips", "error_kind", "error"]).columns]
    return [(video, clips, kind or "", message or "") for video, clips, kind, message in zip(*columns, strict=True)]


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a part. Raises DatasetError where it is damaged, or has not these columns."""
    with _opened(path) as file:
        lacking = [name for name in columns or () if name not in file.schema_arrow.names]
        if lacking:
            raise foreign_part(path, f"it has no column {lacking[0]}")
        return file.read(columns=columns)


def num_rows(path: Path) -> int:
    """Of a file of a part; 0 where it is not there. Raises DatasetError where it is damaged."""
    if not path.exists():
        return 0
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def damaged_part(path: Path, err: Exception) -> DatasetError:
    """What to say of a part that pyarrow does not read."""
    return DatasetError(f"{path}: cannot be read as Parquet: {err}; {_cure(path, 'delete')}")


def foreign_part(path: Path, why: str) -> DatasetError:
    """What to say of a file that has the name of a part and is none of this dataset."""
    return DatasetError(f"{path}: is no part of this dataset: {why}; {_cure(path, 'move')}")


def _cure(path: Path, verb: str) -> str:
    what = "it" if path.parent.name == CLIPS else f"it, and the file of its name in {CLIPS}/,"
    return f"{verb} {what}{' away' if verb == 'move' else ''} and run again: videos that were in it are worked on anew"


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Turns what pyarrow says of a damaged file within into a DatasetError."""
    try:
        # By an open file: a path would make pyarrow take folders like `split=train` above it for columns.
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            yield file
    except (pa.ArrowException, OSError) as err:
        raise damaged_part(path, err) from err


def _difference(found: pa.Schema, schema: pa.Schema) -> str:
    """In what a part is not of this schema, or of other settings; "" where it is as it should be."""
    if lacking := [name for name in schema.names if name not in found.names]:
        return f"it has no column {lacking[0]}"
    if found.names != schema.names:
        return f"it has the columns {', '.join(found.names)}"
    for field in schema:
        if not (kind := found.field(field.name).type).equals(field.type):
            return f"its column {field.name} is {kind}, not {field.type}"
    return "" if _settings(found) in (None, _settings(schema)) else "it is of other settings (tenclip.settings in it)"


def _settings(schema: pa.Schema) -> dict[str, Any] | None:
    """Those that a part says it was made with; None where it says nothing that can be read."""
    try:
        found = json.loads((schema.metadata or {})[SETTINGS_KEY])
        return {name: value for name, value in found.items() if value is not None}
    except (KeyError, ValueError, AttributeError):
        return None
