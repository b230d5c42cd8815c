"""Teachers' outputs on disk, so that frames are looked at once: Parquet files in a folder, one folder a teacher.

    FOLDER/teacher.json           who the teacher is; the cache of another one is refused
    FOLDER/part-00000.parquet     a row for each frame: video, stamp, frame, time, logits; a row group for each video
    FOLDER/part-00001.parquet     ...

Parts are written whole or not at all, so a run that was stopped goes on with the videos that no part has. A video that
has changed since (its size or its time) is looked at again.

Frames lie on a grid (see `frame_stream`): the first of each `1 / rate` seconds, or every frame. M frames of a video, K
classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tenclip_api.errors import CheckpointError
from tenclip_data.atomic import replacing, write_text
from tenclip_data.samples import Sample
from tenclip_training.data.failures import Failure
from tenclip_training.distill.frame_stream import VideoOutputs, teacher_outputs
from tenclip_training.distill.teacher import FrameTeacher

# A part is written when it has so many videos, or so many bytes of outputs.
VIDEOS_PER_PART = 64
BYTES_PER_PART = 256 << 20


class OutputCache:
    """The cache of one teacher, see above. Safe to read from several processes; one writes.

    Raises CheckpointError where the folder holds the outputs of another teacher, or of another grid.
    """

    def __init__(self, folder: Path | str, teacher: FrameTeacher, rate: float | None) -> None:
        self.folder, self.rate, self.num_classes = Path(folder), rate, teacher.num_classes
        self._about = {"identity": teacher.identity, "source": teacher.source, "classes": teacher.num_classes}
        self._about["frames_per_second"] = rate
        self._check()
        self._places = self._index()
        self._open: dict[Path, pq.ParquetFile] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # each worker opens files of its own

    def __contains__(self, sample: Sample) -> bool:
        found = self._places.get(str(sample.path))
        return found is not None and found.stamp == stamp(sample)

    def __getitem__(self, sample: Sample) -> VideoOutputs:
        """Raises KeyError for a video that is not in the cache."""
        place = self._places[str(sample.path)]
        if place.part not in self._open:
            self._open[place.part] = pq.ParquetFile(place.part)
        table = self._open[place.part].read_row_group(place.row_group, columns=["frame", "time", "logits"])
        logits = table.column("logits").combine_chunks().values.to_numpy(zero_copy_only=False)
        return VideoOutputs(
            table.column("frame").to_numpy(),
            table.column("time").to_numpy(),
            logits.astype(np.float32, copy=False).reshape(-1, self.num_classes),
        )

    def fill(
        self,
        samples: Sequence[Sample],
        teacher: FrameTeacher,
        *,
        threads: int,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Failure]:
        """Look at the videos that are not there yet, and write a part every so many; returns what cannot be read.

        Videos are decoded by `threads` while the teacher looks at other frames. Raises CheckpointError where the
        teacher's outputs are not finite, which names the video; OSError where the disk is full.
        """
        self._begin()
        missing = list({str(s.path): s for s in samples if s not in self}.values())
        done, failures = len({str(s.path) for s in samples}) - len(missing), []
        total = done + len(missing)
        pending: list[_Row] = []
        for sample, outputs in teacher_outputs(missing, teacher, self.rate, threads=threads):
            if isinstance(outputs, Failure):
                failures.append(outputs)
            else:
                pending.append(_Row(str(sample.path), stamp(sample), outputs))
            done += 1
            size = sum(row.outputs.logits.nbytes for row in pending)
            if len(pending) >= VIDEOS_PER_PART or size >= BYTES_PER_PART:
                self._write(pending)
                pending = []
            if progress is not None:
                progress(done, total)
        if pending:
            self._write(pending)
        return failures

    def _check(self) -> None:
        file = self.folder / "teacher.json"
        if not file.exists():
            if any(self.folder.glob("part-*.parquet")):
                raise CheckpointError(f"{self.folder}: has teacher outputs and no teacher.json; choose another folder")
            return
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise CheckpointError(f"{file}: cannot be read as JSON: {err}") from err
        before = found if isinstance(found, dict) else {}
        for name, what in (("identity", "teacher, or another input of it"), ("frames_per_second", "rate of frames")):
            if before.get(name) != self._about[name]:
                raise CheckpointError(
                    f"{self.folder}: the outputs in it are of another {what} ({name} {_short(before.get(name))} of "
                    f"{before.get('source')}, now {_short(self._about[name])} of {self._about['source']}); choose "
                    "another folder, or delete it"
                )

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "teacher.json", json.dumps(self._about, indent=2) + "\n")

    def _index(self) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for part in sorted(self.folder.glob("part-*.parquet")):
            try:
                table = pq.read_table(part, columns=["video", "stamp"])
                groups = pq.ParquetFile(part).metadata
            except (OSError, pa.ArrowException) as err:
                raise CheckpointError(f"{part}: cannot be read: {err}; delete it, and it is made again") from err
            start = 0
            for number in range(groups.num_row_groups):
                video, mark = table.column("video")[start].as_py(), table.column("stamp")[start].as_py()
                places[video] = _Place(part, number, mark)
                start += groups.row_group(number).num_rows
        return places

    def _write(self, rows: Sequence[_Row]) -> None:
        numbers = [int(part.stem.removeprefix("part-")) for part in self.folder.glob("part-*.parquet")]
        part = self.folder / f"part-{max(numbers, default=-1) + 1:05d}.parquet"
        kind = pa.list_(pa.float32(), self.num_classes)
        fields = [("video", pa.string()), ("stamp", pa.string()), ("frame", pa.int64()), ("time", pa.float64())]
        schema = pa.schema([*fields, ("logits", kind)])
        with replacing(part) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for row in rows:
                count = len(row.outputs.frames)
                flat = pa.array(np.ascontiguousarray(row.outputs.logits).reshape(-1), pa.float32())
                columns = [
                    pa.array([row.video] * count, pa.string()),
                    pa.array([row.stamp] * count, pa.string()),
                    pa.array(row.outputs.frames, pa.int64()),
                    pa.array(row.outputs.times, pa.float64()),
                    pa.FixedSizeListArray.from_arrays(flat, self.num_classes),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=count)
        for number, row in enumerate(rows):
            self._places[row.video] = _Place(part, number, row.stamp)


@dataclass(frozen=True)
class _Place:
    part: Path
    row_group: int
    stamp: str


@dataclass(frozen=True, eq=False)
class _Row:
    video: str
    stamp: str
    outputs: VideoOutputs


def stamp(sample: Sample) -> str:
    """The state of a video: in a shard its content's hash, else the size and the time of the last change of its file.

    "" where the file is not there.
    """
    if sample.fingerprint:
        return sample.fingerprint
    try:
        found = sample.path.stat()
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}"


def _short(value: Any) -> str:
    return f"{value[:12]}..." if isinstance(value, str) else str(value)
