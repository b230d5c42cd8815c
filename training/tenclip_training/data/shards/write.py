"""Writing shards: a manifest's videos become tar files and an index.

A write that was stopped, by whatever, goes on where it was: a shard appears whole under its name, and beside it what
its part of the index will hold. The index comes last.

    FOLDER/.writing/job.json              what is being written; another write into the folder is refused
    FOLDER/.writing/train-000000.json     a shard that is done: its rows, and the videos that could not be read
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from tenclip_api.errors import DatasetError, EmptyVideo, TenclipError, VideoNotFound, VideoNotReadable
from tenclip_data.atomic import remove_drafts, replacing, write_text
from tenclip_data.samples import Manifest
from tenclip_data.scan import VIDEO_SUFFIXES, printable_name
from tenclip_training.data.failures import Failure
from tenclip_training.data.shards.index import INDEX_NAME, Shard, ShardIndex, ShardRow, read_index, write_index
from tenclip_training.data.shards.plan import PlannedShard, PlannedVideo, plan_shards, sample_values
from tenclip_training.data.shards.tars import ShortFile, Stored, append_member, finish_tar

WRITING, JOB_NAME = ".writing", "job.json"
LABELS_NAME, FAILURES_NAME = "labels.json", "failures.jsonl"
DEFAULT_THREADS = 4  # copying waits for the disk

# (videos done, videos in all)
WriteProgress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class WriteResult:
    """index: all that was written. failures: videos that could not be read. kept: shards that were there already."""

    folder: Path
    index: ShardIndex
    failures: tuple[Failure, ...]
    kept: int


def write_shards(
    manifest: Manifest,
    folder: Path,
    *,
    shard_bytes: int | None = None,
    videos_per_shard: int | None = None,
    shuffle_seed: int | None = 0,
    threads: int = DEFAULT_THREADS,
    progress: WriteProgress | None = None,
) -> WriteResult:
    """Write the videos of a manifest into shards below `folder`; the same call gives the same bytes.

    For `shard_bytes`, `videos_per_shard` and `shuffle_seed` see `plan_shards`. A video that cannot be read is left out
    and listed. On a folder with the finished shards of the very same call nothing is done.
    Raises DatasetError where the folder holds anything else, or where no video can be read; OSError.
    """
    shards = plan_shards(
        manifest, shard_bytes=shard_bytes, videos_per_shard=videos_per_shard, shuffle_seed=shuffle_seed
    )
    labels = tuple(map(_utf8, manifest.labels))
    plans = {shard.name: shard.digest(labels) for shard in shards}
    finished = _finished(folder, plans)
    if finished is not None:
        return WriteResult(folder=folder, index=finished, failures=_read_failures(folder), kept=len(shards))
    _begin(folder, plans)
    work = _Work(folder, labels, sum(len(s.videos) for s in shards), progress)
    parts = work.run(shards, plans, threads)
    index = ShardIndex(
        labels=labels,
        shards=tuple(part.shard for part in parts),
        rows=tuple(replace(row, shard=i) for i, part in enumerate(parts) for row in part.rows),
    )
    failures = tuple(failure for part in parts for failure in part.failures)
    if not index.rows:
        raise DatasetError(
            f"{manifest.source}: none of {len(failures)} videos can be read. The first: {failures[0].message}"
        )
    lines = [json.dumps(asdict(f), ensure_ascii=False) + "\n" for f in failures]
    write_text(folder / FAILURES_NAME, "".join(lines))
    write_text(folder / LABELS_NAME, json.dumps(list(labels), indent=0, ensure_ascii=False) + "\n")
    write_index(folder / INDEX_NAME, index)
    (folder / WRITING / JOB_NAME).unlink()  # first: what is left of a folder without it counts for nothing
    shutil.rmtree(folder / WRITING)
    remove_drafts(folder)  # of a write that was killed
    return WriteResult(folder=folder, index=index, failures=failures, kept=work.kept)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A shard that is written: its part of the index."""

    shard: Shard
    rows: tuple[ShardRow, ...]
    failures: tuple[Failure, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> _Part:
        values = json.loads(text)
        return cls(
            shard=Shard(**values["shard"]),
            rows=tuple(ShardRow(**{**row, "labels": tuple(row["labels"])}) for row in values["rows"]),
            failures=tuple(Failure(**failure) for failure in values["failures"]),
        )


class _Work:
    """Shards are written side by side, by threads that all stop when one fails."""

    def __init__(self, folder: Path, labels: Sequence[str], total: int, progress: WriteProgress | None) -> None:
        self.folder, self.total, self.progress = folder, total, progress
        self.numbers = {label: i for i, label in enumerate(labels)}
        self.done = self.kept = 0
        self.lock, self.stop = threading.Lock(), threading.Event()

    def run(self, shards: Sequence[PlannedShard], plans: Mapping[str, str], threads: int) -> list[_Part]:
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(self._shard, shard, plans[shard.name]) for shard in shards]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _shard(self, planned: PlannedShard, plan: str) -> _Part:
        note = self.folder / WRITING / f"{planned.name}.json"
        part = self._known(note, plan)
        if part is not None:
            with self.lock:
                self.kept += 1
            self._report(len(planned.videos))
            return part
        rows: list[ShardRow] = []
        failures: list[Failure] = []
        path = self.folder / planned.name
        with replacing(path) as file:
            tar = _Digested(file)
            for video in planned.videos:
                if self.stop.is_set():
                    raise DatasetError(f"{path}: was stopped")
                try:
                    rows += self._video(tar, video)
                except TenclipError as err:
                    failures += [Failure.of(sample, err) for sample in video.samples]
                self._report(1)
            finish_tar(tar)  # type: ignore[arg-type]  # what is used of it
            shard = Shard(name=planned.name, num_bytes=tar.tell(), sha256=tar.sha256(), plan=plan)
        part = _Part(shard=shard, rows=tuple(rows), failures=tuple(failures))
        write_text(note, part.to_json())
        return part

    def _known(self, note: Path, plan: str) -> _Part | None:
        """The part that an earlier write has finished; None where there is none, or where its tar is not as it was."""
        try:
            part = _Part.from_json(note.read_text(encoding="utf-8"))
            size = (self.folder / part.shard.name).stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return part if part.shard.plan == plan and size == part.shard.num_bytes else None

    def _video(self, tar: _Digested, video: PlannedVideo) -> list[ShardRow]:
        """Write the members of a video. Raises VideoError, with nothing written."""
        begin = tar.mark()
        if not video.num_bytes and video.path.is_file():
            raise EmptyVideo(f"{video.name}: is empty (0 bytes)", source=video.name)
        try:
            with video.path.open("rb") as content:
                for suffix, text in self._annotations(video):
                    data = text.encode()
                    append_member(tar, f"{video.key}.{suffix}", io.BytesIO(data), len(data))  # type: ignore[arg-type]
                stored = append_member(tar, f"{video.key}.{_suffix(video)}", content, video.num_bytes)  # type: ignore[arg-type]
        except (FileNotFoundError, NotADirectoryError) as err:
            raise VideoNotFound(f"{video.name}: no such file", source=video.name) from err
        except ShortFile as err:
            tar.go_back(begin)
            raise VideoNotReadable(f"{video.name}: {err}: it changed while it was copied", source=video.name) from err
        except (OSError, ValueError) as err:
            if tar.failed:  # the disk is full, say: that is no fault of the video's
                raise
            tar.go_back(begin)
            raise VideoNotReadable(f"{video.name}: {getattr(err, 'strerror', None) or err}", source=video.name) from err
        return [_row(video, i, stored) for i in range(len(video.samples))]

    def _annotations(self, video: PlannedVideo) -> Iterable[tuple[str, str]]:
        """(suffix, text) of the members before the video: .cls where it has one class, and .json."""
        samples = video.samples
        if len(samples) == 1 and len(samples[0].labels) == 1:
            yield "cls", str(self.numbers[_utf8(samples[0].labels[0])])
        about: dict[str, Any] = {"name": video.name, "split": samples[0].split}
        if len(samples) == 1:
            about |= sample_values(samples[0])
        else:
            about["parts"] = [sample_values(sample) for sample in samples]
        yield "json", json.dumps(about, default=str)

    def _report(self, videos: int) -> None:
        with self.lock:
            self.done += videos
            if self.progress is not None:
                self.progress(self.done, self.total)


class _Digested:
    """A file that is written from its beginning, with the SHA-256 of all of it. failed: whether writing raised."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest, self.failed = file, hashlib.sha256(), False

    def write(self, data: bytes) -> int:
        try:
            written = self._file.write(data)
        except OSError:
            self.failed = True
            raise
        self._digest.update(data)
        return written

    def tell(self) -> int:
        return self._file.tell()

    def mark(self) -> tuple[int, Any]:
        return self._file.tell(), self._digest.copy()

    def go_back(self, mark: tuple[int, Any]) -> None:
        """Forget what was written since the mark."""
        self._file.seek(mark[0])
        self._file.truncate()
        self._digest = mark[1]

    def sha256(self) -> str:
        return self._digest.hexdigest()


def _row(video: PlannedVideo, number: int, stored: Stored) -> ShardRow:
    sample = video.samples[number]
    extra = json.loads(json.dumps(dict(sample.extra), default=str))
    return ShardRow(
        key=video.key,
        name=_utf8(video.name),
        labels=tuple(map(_utf8, sample.labels)),
        split=_utf8(sample.split),
        shard=0,
        offset=stored.offset,
        num_bytes=stored.num_bytes,
        sha256=stored.sha256,
        start_seconds=sample.start_seconds,
        end_seconds=sample.end_seconds,
        extra=extra,
    )


def _suffix(video: PlannedVideo) -> str:
    suffix = video.path.suffix.lower()
    return suffix[1:] if suffix in VIDEO_SUFFIXES else "video"


def _utf8(text: str) -> str:
    """The text, without the bytes of file names that are no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return printable_name(text)
    return text


def _finished(folder: Path, plans: Mapping[str, str]) -> ShardIndex | None:
    """The index of the folder where it holds just these shards. Raises DatasetError where it holds others."""
    path = folder / INDEX_NAME
    if not path.exists() or (folder / WRITING / JOB_NAME).exists():
        return None
    index = read_index(path, name=str(path))
    if {s.name: s.plan for s in index.shards} != dict(plans):
        raise DatasetError(
            f"{folder}: holds shards of other videos, labels or options; name another folder, or remove this one"
        )
    return index


def _begin(folder: Path, plans: Mapping[str, str]) -> None:
    """Make the folder, or take up the write that was begun in it. Raises DatasetError where it holds anything else."""
    job = folder / WRITING / JOB_NAME
    text = json.dumps(plans, indent=1) + "\n"
    if job.exists():
        if job.read_text(encoding="utf-8") != text:
            raise DatasetError(
                f"{folder}: holds a write that was begun with other videos, labels or options (or whose files have "
                "changed since); name another folder, or remove this one"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(entry.name != WRITING for entry in folder.iterdir())):
        raise DatasetError(f"{folder}: is not an empty folder; name another one for the shards")
    job.parent.mkdir(parents=True, exist_ok=True)
    write_text(job, text)


def _read_failures(folder: Path) -> tuple[Failure, ...]:
    try:
        lines = (folder / FAILURES_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    return tuple(Failure(**json.loads(line)) for line in lines)
