"""Videos without labels: a folder of them, or any list; what labels there are, nobody looks at."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.formats import read_source, videos_root
from tenclip_data.samples import Manifest, Missing, Sample, split_name
from tenclip_data.scan import printable_name, scan_folder
from tenclip_data.source import ReadOptions
from tenclip_training.data.shards.places import find_index
from tenclip_training.data.shards.read import CacheOptions, read_videos
from tenclip_training.runs.setup import is_test_split


def read_unlabelled(
    source: Path | str,
    *,
    heads: Sequence[str] = (),
    videos: Path | str | None = None,
    split: str = "",
    missing: Missing = "error",
    cache: CacheOptions | None = None,
) -> Manifest:
    """The videos of `source`, each once, without labels or splits; the manifest's label space is `heads`.

    source: a folder, in which every video counts at any depth; or a list or table in any form that `tenclip train`
    reads, without labels too, or with one path a line; or shards (cache: of those behind a URL). split: the one to
    take; "": all but those for tests. Raises DatasetError.
    """
    if find_index(source) is not None:
        shards = read_videos(source, missing=missing, held_out=None, leaks="allow", cache=cache)
        stored, notes = _of_split(shards.source, shards.samples, split)
        every = (*shards.warnings, *notes)
        return Manifest(source=shards.source, samples=tuple(stored), labels=tuple(heads), warnings=every)
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source}: no such folder or list of videos")
    if source.is_dir():
        scan = scan_folder(source)
        names = ((printable_name(path.relative_to(source).as_posix()), path) for path in scan.videos)
        samples = [Sample(path=path, name=name, labels=()) for name, path in names]
        warnings = scan.notes(source)
    else:
        options = ReadOptions(root=videos_root(source, videos), need_labels=False, keep_missing=missing == "keep")
        samples, warnings = _of_split(source, read_source(source, options).samples, split)
    if not samples:
        raise DatasetError("; ".join([f"{source}: holds no videos", *warnings]))
    if missing == "error" and (lost := next((s for s in samples if not s.path.is_file()), None)) is not None:
        raise DatasetError(
            f"{source}: no such file {lost.path}; paths start from the list's folder unless --videos names one, and "
            "--keep-missing counts such videos as unreadable"
        )
    once = {sample.key: sample for sample in samples}
    if len(once) < len(samples):
        warnings.append(f"{source}: {len(samples) - len(once)} videos are listed more than once and count once")
    return Manifest(source=source, samples=tuple(once.values()), labels=tuple(heads), warnings=tuple(warnings))


def _of_split(source: Path, samples: Sequence[Sample], split: str) -> tuple[list[Sample], list[str]]:
    if split:
        found = [s for s in samples if s.split in (split, split_name(split))]
        if not found:
            known = ", ".join(repr(name) for name in dict.fromkeys(s.split for s in samples))
            raise DatasetError(f"{source}: no video in split {split!r}; its splits are {known}")
    else:
        found = [s for s in samples if not is_test_split(s.split)]
    left_out = len(samples) - len(found)
    notes = [] if split or not left_out else [f"{source}: {left_out} videos of splits for tests are left out"]
    return [dataclasses.replace(s, labels=(), split="") for s in found], notes
