"""Labelled videos as they stand in a source, and a manifest of some of them that reads back as it was meant."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing, write_text
from tenclip_data.checks import check_samples
from tenclip_data.formats import read_source, videos_root
from tenclip_data.labels import label_space, read_class_names
from tenclip_data.leaks import file_facts
from tenclip_data.samples import SPLIT_NAMES, Manifest, Missing, Sample
from tenclip_data.scan import printable_name, scan_folder
from tenclip_data.source import ReadOptions

PARQUET_SUFFIXES = (".parquet", ".pq")
_OWN_COLUMNS = ("path", "label", "split", "start_seconds", "end_seconds")


def read_labelled(
    source: Path | str,
    *,
    labels: Path | str | None = None,
    videos: Path | str | None = None,
    label_column: str | None = None,
    missing: Missing = "error",
    images: bool = False,
) -> Manifest:
    """Read any source that `read_manifest` reads; where it names no splits, there are none: nothing is held out.

    The options are those of `read_manifest`. Raises DatasetError.
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source}: no such manifest or folder")
    classes = read_class_names(labels) if labels is not None else None
    options = ReadOptions(
        root=videos_root(source, videos),
        label_column=label_column,
        known_labels=frozenset(classes.names) if classes else frozenset(),
        keep_missing=missing == "keep",
        images=images,
    )
    rows = read_source(source, options)
    if not rows.samples:
        raise DatasetError(f"{source}: lists no videos")
    check_samples(source, rows.samples, file_facts(rows.samples), missing, images=images)
    samples, space, warnings = label_space(classes, rows.labels, rows.samples, source=source, fill=rows.fill_numbers)
    manifest = Manifest(source=source, samples=tuple(samples), labels=(), warnings=(*rows.warnings, *warnings))
    return manifest.with_labels(space)


def read_plain(source: Path | str, *, videos: Path | str | None = None, missing: Missing = "error") -> Manifest:
    """The videos of a source whose labels are not needed: of a folder at any depth, or of a list or table.

    In a folder the splits are its sub-folders, where all videos are in those called train, val, test and the like. What
    labels there are stay with the samples, and the manifest has none. Raises DatasetError.
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source}: no such manifest or folder")
    if source.is_dir():
        scan = scan_folder(source)
        samples, warnings = [_plain(source, path) for path in scan.videos], tuple(scan.notes(source))
        if not all(s.split for s in samples):
            samples = [dataclasses.replace(s, split="") for s in samples]
    else:
        options = ReadOptions(root=videos_root(source, videos), need_labels=False, keep_missing=missing == "keep")
        rows = read_source(source, options)
        samples, warnings = list(rows.samples), rows.warnings
    if not samples:
        raise DatasetError("; ".join([f"{source}: holds no videos", *warnings]))
    labelled = [dataclasses.replace(s, labels=s.labels or ("none",)) for s in samples]  # which none needs here
    check_samples(source, labelled, file_facts(samples), missing)
    return Manifest(source=source, samples=tuple(samples), labels=(), warnings=warnings)


def _plain(folder: Path, path: Path) -> Sample:
    parts = path.relative_to(folder).parts
    split = SPLIT_NAMES.get(parts[0].lower(), "") if len(parts) > 1 else ""
    return Sample(path=path, name=printable_name("/".join(parts)), labels=(), split=split)


def write_manifest(path: Path | str, samples: Sequence[Sample]) -> None:
    """Write samples to a CSV or Parquet file that `read_manifest` reads as the same videos, parts, labels and splits.

    Other columns are kept. Videos below the file's folder are written as seen from there, others with their whole path.
    Raises DatasetError where there are no samples, where a label or a name does not survive (labels with `;` or `|`
    need Parquet, where a list holds one label an element), and OSError.
    """
    path = Path(path)
    if not samples:
        raise DatasetError(f"{path}: there is no video to write")
    if path.suffix.lower() not in (*PARQUET_SUFFIXES, ".csv"):
        raise DatasetError(f"{path}: a manifest is written as .csv or .parquet, not as {path.suffix or 'no suffix'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    used = [
        name for name in _OWN_COLUMNS if name in ("path", "label") or any(_own(s, name) is not None for s in samples)
    ]
    extra = dict.fromkeys(name for s in samples for name in s.extra)
    columns = {name: _free_name(name) for name in extra}
    if path.suffix.lower() == ".csv":
        _write_csv(path, samples, used, columns)
    else:
        _write_parquet(path, samples, used, columns)
    _check_written(path, samples)


def _own(sample: Sample, column: str) -> Any:
    value = getattr(sample, column)
    return value if column != "split" else value or None


def _free_name(name: str) -> str:
    """A name for a column that came with the data, where ours has the same: after `--label-column`, for one."""
    return f"{name}_given" if name.lower() in _OWN_COLUMNS else name


def _write_csv(path: Path, samples: Sequence[Sample], used: Sequence[str], extra: Mapping[str, str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*used, *extra.values()])
    for sample in samples:
        own = {
            "path": _written_path(path, sample),
            "label": ";".join(sample.labels),
            "split": sample.split,
            "start_seconds": sample.start_seconds,
            "end_seconds": sample.end_seconds,
        }
        cells = [*(own[name] for name in used), *(sample.extra.get(name) for name in extra)]
        writer.writerow(["" if cell is None else cell for cell in cells])
    try:
        write_text(path, text.getvalue())
    except UnicodeEncodeError as err:
        raise DatasetError(f"{path}: a value is no valid text and cannot be written: {err.object[:60]!r}") from err


def _write_parquet(path: Path, samples: Sequence[Sample], used: Sequence[str], extra: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays: dict[str, Any] = {
        "path": pa.array([_written_path(path, s) for s in samples], pa.string()),
        "label": pa.array([list(s.labels) for s in samples], pa.list_(pa.string())),
    }
    if "split" in used:
        arrays["split"] = pa.array([s.split for s in samples], pa.string())
    for name in ("start_seconds", "end_seconds"):
        if name in used:
            arrays[name] = pa.array([getattr(s, name) for s in samples], pa.float64())
    for name, column in extra.items():
        values = [s.extra.get(name) for s in samples]
        try:
            arrays[column] = pa.array(values)
        except (pa.ArrowException, OverflowError):  # several types in one column
            arrays[column] = pa.array([None if v is None else str(v) for v in values], pa.string())
    with replacing(path) as file:
        pq.write_table(pa.table(arrays), file)


def _written_path(manifest: Path, sample: Sample) -> str:
    folder, video = os.path.abspath(manifest.parent), os.path.abspath(sample.path)
    if os.path.commonpath([folder, video]) == folder:
        video = os.path.relpath(video, folder)
    try:
        video.encode()
    except UnicodeEncodeError:
        raise DatasetError(
            f"{printable_name(video)}: its name is not valid UTF-8 and cannot stand in a manifest; rename the file"
        ) from None
    return video


def _check_written(path: Path, samples: Sequence[Sample]) -> None:
    """Read the manifest again; remove it and raise where anything is not what it was."""
    try:
        rows = read_source(path, ReadOptions(root=path.parent, keep_missing=True)).samples
        for was, now in zip(samples, rows, strict=True):
            _compare(path, was, now)
    except (DatasetError, ValueError) as err:
        path.unlink(missing_ok=True)
        raise DatasetError(f"{path}: cannot be written so that it reads back: {err}") from err


def _compare(path: Path, was: Sample, now: Sample) -> None:
    if now.labels != was.labels:
        hint = "; write a .parquet file, where labels may have any sign" if path.suffix.lower() == ".csv" else ""
        raise DatasetError(f"labels {list(was.labels)} of {was.name} would be read as {list(now.labels)}{hint}")
    if os.path.abspath(now.path) != os.path.abspath(was.path):
        raise DatasetError(f"the path {was.path} would be read as {now.path}; rename the file")
    if (now.split, now.start_seconds, now.end_seconds) != (was.split, was.start_seconds, was.end_seconds):
        raise DatasetError(f"split, start or end of {was.name} would be read as {now.split!r}, {now.start_seconds}")
