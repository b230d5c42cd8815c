"""A batch dataset on disk: a folder with its settings, its lock, its parts, and the ledger that they add up to.

::

    OUT/dataset.json            what the numbers depend on; another model, protocol or format does not go on with it
    OUT/clips/part-*.parquet    a row a clip
    OUT/videos/part-*.parquet   a row a video, done or failed: the ledger
    OUT/files/                  with --format npy and npz, a file a video
    OUT/summary.json            counts, and failures by kind, after the last run
    OUT/.attempts/              videos that are being worked on
    OUT/.shards/                what is in shards at URLs
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tenclip_api.errors import DatasetError
from tenclip_batch.disk import not_written
from tenclip_batch.ledger import (
    check_parts,
    damaged_part,
    num_rows,
    parts_of,
    read_ledger,
    read_table,
    stems_without_clips,
    summarize,
)
from tenclip_batch.locks import LOCK_FILES, locked
from tenclip_batch.parts import (
    CLIPS,
    VIDEOS,
    PartFormat,
    delete_part,
    number_of,
    part_files,
    part_path,
    replaced_by,
    stem_of,
    write_tables,
)
from tenclip_data.atomic import is_draft, remove_drafts, write_text
from tenclip_features.journal import check_same_settings

FORMAT_VERSION = 1
SETTINGS_FILE, SUMMARY_FILE = "dataset.json", "summary.json"
FILES, ATTEMPTS, SHARDS = "files", ".attempts", ".shards"


class Dataset:
    """A dataset that this process may change; made by `open_dataset`.

    ledger: every video that is done or failed, as the parts said when it was opened. Raises DatasetError for parts
    that are damaged or of something else, before any is changed.
    """

    def __init__(self, folder: Path, form: PartFormat) -> None:
        self.folder, self.form = folder, form
        check_parts(folder, VIDEOS, form.videos_schema)
        _clean(folder)
        if form.with_clips:
            check_parts(folder, CLIPS, form.clips_schema)
        self.ledger = read_ledger(folder)
        self._next = 1 + max((number_of(p.stem) or 0 for p in parts_of(folder)), default=-1)

    @property
    def files(self) -> dict[str, str]:
        """The file of every video that has one, below the folder."""
        return {name: entry.file for name, entry in self.ledger.items() if entry.file is not None}

    def lost(self) -> set[str]:
        """Videos that are done, and whose file, or the part with their clips, is not there any more."""
        without_file = {name for name, file in self.files.items() if not (self.folder / file).is_file()}
        stems = stems_without_clips(self.folder) if self.form.with_clips else set()
        return without_file | {name for name, entry in self.ledger.items() if entry.done and entry.stem in stems}

    def new_stem(self) -> str:
        """The name of a part that is not there yet."""
        return stem_of(self.reserve(1))

    def reserve(self, count: int) -> int:
        """The first of `count` numbers of parts that nobody else takes."""
        self._next += count
        return self._next - count

    def drop(self, names: Collection[str]) -> None:
        """Take the rows of these videos out, and what was written for them."""
        gone = [name for name in names if name in self.ledger]
        by_part: dict[str, set[str]] = {}
        for name in gone:
            by_part.setdefault(self.ledger[name].stem, set()).add(name)
        for stem, dropped in sorted(by_part.items()):
            self._rewrite([stem], without=dropped)
        files = {self.ledger.pop(name).file for name in gone} - {entry.file for entry in self.ledger.values()}
        for file in files:
            if file is not None:
                (self.folder / file).unlink(missing_ok=True)

    def join_small_parts(self, *, clips: int, videos: int) -> None:
        """Make parts of up to `clips` and `videos` rows of neighbours that are smaller."""
        batch: list[str] = []
        held = [0, 0]
        for path in parts_of(self.folder):
            size = [num_rows(part_path(self.folder, table, path.stem)) for table in (CLIPS, VIDEOS)]
            fits = held[0] + size[0] <= clips and held[1] + size[1] <= videos
            if batch and not fits:
                self._join(batch)
                batch, held = [], [0, 0]
            batch.append(path.stem)
            held = [held[0] + size[0], held[1] + size[1]]
        self._join(batch)

    def summary(self) -> dict[str, Any]:
        """Counts from the parts as they are now; failures by kind."""
        return summarize(self.folder)

    def finish(self) -> dict[str, Any]:
        """Write `summary.json`, and return what is in it."""
        found = self.summary()
        _write_json(self.folder / SUMMARY_FILE, found)
        return found

    def _join(self, stems: list[str]) -> None:
        if len(stems) > 1:
            self._rewrite(stems)

    def _rewrite(self, stems: list[str], *, without: Collection[str] = ()) -> None:
        videos = self._read(VIDEOS, stems, without)
        clips = self._read(CLIPS, stems, without) if self.form.with_clips else None
        assert videos is not None
        if not videos.num_rows:
            for stem in stems:
                delete_part(self.folder, stem)
            return
        write_tables(self.folder, self.new_stem(), clips, videos, replaces=stems)

    def _read(self, table: str, stems: list[str], without: Collection[str]) -> pa.Table | None:
        schema = self.form.videos_schema if table == VIDEOS else self.form.clips_schema
        found = []
        for stem in stems:
            path = part_path(self.folder, table, stem)
            if table == CLIPS and not path.exists():
                continue
            rows = read_table(path)
            if without:
                rows = rows.filter(pc.invert(pc.is_in(rows["video"], pa.array(sorted(without), pa.string()))))
            found.append(rows.cast(schema))
        return pa.concat_tables(found).combine_chunks() if found else None


@contextmanager
def open_dataset(
    folder: Path, form: PartFormat, settings: Mapping[str, Any], *, overwrite: bool = False
) -> Iterator[Dataset]:
    """The dataset in `folder`, or a new one there, for this process alone until the block ends.

    settings: whatever the rows depend on, JSON values. overwrite: begin again; what else is in the folder stays.
    Raises DatasetError for a folder that another process writes into, one of other settings, and one that is none of
    ours.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder}: is a file; --out is the folder of a dataset")
    if folder.is_dir() and not _may_be_ours(folder):
        raise DatasetError(f"{folder}: is there and holds something else than a batch dataset; name another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            # Not earlier: another run may have begun it until now.
            if (folder / SETTINGS_FILE).is_file() and not overwrite:
                check_same_settings(folder, read_settings(folder), settings)
            else:
                _remove_data(folder)
                begun = {"format": FORMAT_VERSION, "settings": settings, "metadata": dict(form.metadata)}
                _write_json(folder / SETTINGS_FILE, begun)  # before any folder: by it the whole is known as ours
            for name in (CLIPS, VIDEOS, ATTEMPTS, SHARDS):
                (folder / name).mkdir(exist_ok=True)
            yield Dataset(folder, form)
    except OSError as err:
        if err.filename is None or not str(err.filename).startswith(str(folder)):
            raise
        raise DatasetError(f"{err.filename}: cannot be read or written: {err.strerror or err}") from err


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a dataset was begun with. Raises DatasetError."""
    path = folder / SETTINGS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version, settings = found["format"], dict(found["settings"])
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise DatasetError(f"{path}: is damaged ({err}); begin again with --overwrite") from err
    if version != FORMAT_VERSION:
        raise DatasetError(f"{path}: its format is version {version}, this version of tenclip reads {FORMAT_VERSION}")
    return settings


# -- what is on disk ---------------------------------------------------------------------------------------------------


def _may_be_ours(folder: Path) -> bool:
    """Whether the folder is a dataset, or holds nothing but what a run leaves that ended before it had begun one."""
    # The list first: what another run makes after its settings is not seen without them.
    left = [name for name in os.listdir(folder) if name not in LOCK_FILES and not is_draft(name, SETTINGS_FILE)]
    if (folder / SETTINGS_FILE).is_file():
        return _may_be_settings(folder / SETTINGS_FILE)
    begun = [folder / name for name in (CLIPS, VIDEOS, ATTEMPTS, SHARDS)]
    return all(folder / name in begun and (folder / name).is_dir() for name in left) and not any(
        any(path.iterdir()) for path in begun if path.exists()
    )


def _may_be_settings(path: Path) -> bool:
    """False for another program's file of this name: --overwrite must not delete what is beside that."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:  # damaged
        return True
    return isinstance(found, dict) and {"format", "settings"} <= found.keys()


def _remove_data(folder: Path) -> None:
    """All but the settings, by which the folder is known as ours. The ledger first: without it nothing else counts."""
    for name in (VIDEOS, CLIPS, FILES, ATTEMPTS, SHARDS, SUMMARY_FILE):
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    try:
        write_text(path, json.dumps(value, indent=2) + "\n")
    except OSError as err:
        raise not_written(path, err) from err


def _clean(folder: Path) -> None:
    """Remove what a process that was killed left: drafts, parts that were replaced, clips without their videos."""
    for name in (CLIPS, VIDEOS, SHARDS):
        remove_drafts(folder / name)
    remove_drafts(folder / FILES, below=True)
    for name in (SETTINGS_FILE, SUMMARY_FILE):  # what else is beside them is none of ours
        remove_drafts(folder, of=name)
    for path in parts_of(folder):
        for stem in _replaced(path):
            delete_part(folder, stem)
    for path in part_files(folder, CLIPS):
        if not part_path(folder, VIDEOS, path.stem).exists():
            path.unlink()


def _replaced(path: Path) -> list[str]:
    if not path.exists():  # replaced by one before it in this loop
        return []
    try:
        return replaced_by(path)
    except (pa.ArrowException, OSError, ValueError) as err:
        raise damaged_part(path, err) from err
