"""Manifests: which videos a dataset has, what they show, and which split each belongs to.

::

    read_manifest(source)
      |-- DIR/                     class-named sub-folders, or train/ and val/ that hold them      (folders)
      |-- DIR/                     train.csv, val.csv, test.csv: lists named by their splits       (SlowFast)
      |-- FILE with a header       CSV with commas, semicolons or tabs: columns path and label; optional start_seconds,
      |                            end_seconds, split; others are kept                             (tables)
      |-- FILE.parquet             the same columns
      |-- FILE.csv                 Kinetics' own columns: label, youtube_id, time_start, time_end, split
      |-- FILE.csv                 EPIC-KITCHENS-100: video_id, start_timestamp, stop_timestamp, verb, noun, ...
      |-- FILE without a header    `path label` or `path start end label`: MMAction2's video lists, SlowFast's CSVs,
      |                            pytorchvideo's LabeledVideoDataset                              (lists)
      |-- FILE.json, FILE.jsonl    Something-Something, Kinetics, tables                           (json_lists)
      |-- trainlist01.txt          UCF-101: `Class/v_x.avi 1`; the other list and classInd.txt are found beside it
      `-- wave_test_split1.txt     HMDB-51: `x.avi 0|1|2`; the other classes' files are found beside it

The content decides, not the suffix. Everything that cannot be used raises DatasetError, which names the file and the
line; what is used but should be known is in `Manifest.warnings`, and logged.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import DatasetError
from tenclip_data.checks import check_samples
from tenclip_data.formats import read_source, split_of_file, videos_root
from tenclip_data.heads import check_heads, head_space
from tenclip_data.labels import ClassNames, label_space, read_class_names, read_labels
from tenclip_data.leaks import check_leaks, file_facts, same_videos
from tenclip_data.samples import Leaks, Manifest, Missing, Sample
from tenclip_data.scan import VIDEO_SUFFIXES
from tenclip_data.source import ReadOptions
from tenclip_data.splits import DEFAULT_HELD_OUT, stratified_split

__all__ = [
    "DEFAULT_HELD_OUT",
    "VIDEO_SUFFIXES",
    "Leaks",
    "Manifest",
    "Missing",
    "Sample",
    "read_labels",
    "read_manifest",
    "stratified_split",
]

_log = logging.getLogger(__name__)


def read_manifest(
    source: Path | str,
    *,
    labels: Sequence[str] | Path | str | None = None,
    videos: Path | str | None = None,
    label_column: str | None = None,
    heads: Sequence[str] = (),
    whole_videos: bool = False,
    missing: Missing = "error",
    held_out: float | None = DEFAULT_HELD_OUT,
    seed: int = 0,
    leaks: Leaks = "error",
    images: bool = False,
) -> Manifest:
    """Read any of the formats above.

    labels: the label space, or a file of class names (see `read_labels`), which numbers count; None takes it from the
    data (sorted, or the class file that comes with UCF-101 and Something-Something).
    videos: the folder that relative paths start from; None: the manifest's own. Environment variables in paths
    (`$VIDEO_ROOT/a.mp4`) are replaced.
    label_column: the column of a table to take labels from, where `label` is not what is wanted.
    heads: several columns of a table, each the labels of a classifier of its own, such as EPIC-KITCHENS' verb and noun.
    A sample then has one label of each, "verb:cut" and "noun:tomato"; the label space is by heads, in this order.
    whole_videos: forget start and end, so that a video of which they mark a small part is used untrimmed.
    held_out, seed: where nothing says what is held out, that part of every class becomes split "val", see
    `stratified_split`; None leaves such samples without a split. A list whose file is named for a split
    (`val_list.txt`) is that split.
    leaks: what to do about a video in two splits, see `leaks`: "error", "warn", or "allow" (not looked for).
    images: still images are samples, too (`Sample.is_image`); else they are refused.
    Raises DatasetError.

    ::

        manifest = read_manifest("kinetics_val_list.txt", labels="label_map_k400.txt", videos="/data/k400")
        for sample in manifest.split("val").samples:
            print(sample.path, sample.labels, manifest.targets(sample))
    """
    source = Path(source)
    if not source.exists():
        raise DatasetError(f"{source}: no such manifest or folder")
    heads = tuple(heads)
    if heads:
        check_heads(heads, label_column)
    classes = _class_names(labels)
    known = frozenset(classes.names) if classes else frozenset[str]()
    options = ReadOptions(
        root=videos_root(source, videos),
        label_column=label_column,
        heads=heads,
        known_labels=known,
        keep_missing=missing == "keep",
        images=images,
    )
    rows = read_source(source, options)
    samples: Sequence[Sample] = rows.samples
    if not samples:
        raise DatasetError(f"{source}: lists no videos")
    if whole_videos:
        samples = [dataclasses.replace(s, start_seconds=None, end_seconds=None) for s in samples]
    facts = file_facts(samples)
    check_samples(source, samples, facts, missing, images=images)
    own = head_space(source, samples, heads) if heads else rows.labels
    samples, space, warnings = label_space(classes, own, samples, source=source, fill=rows.fill_numbers)
    manifest = Manifest(source=source, samples=tuple(samples), labels=()).with_labels(space)
    warnings = (*rows.warnings, *warnings)
    if any(s.split for s in samples):
        warnings += check_leaks(source, manifest.samples, facts, leaks)
    elif held_out is not None:
        copies = same_videos(manifest.samples, facts, content=leaks != "allow")
        manifest = stratified_split(manifest, held_out=held_out, seed=seed, same_video=copies)
        warnings += check_leaks(source, manifest.samples, facts, leaks)
        warnings += _held_out_warning(manifest)
    for warning in warnings:
        _log.warning("%s", warning)
    return dataclasses.replace(manifest, warnings=warnings)


def _class_names(labels: Sequence[str] | Path | str | None) -> ClassNames | None:
    if isinstance(labels, str | Path):
        return read_class_names(labels)
    return None if labels is None else ClassNames(tuple(labels))


def _held_out_warning(manifest: Manifest) -> tuple[str, ...]:
    """A list that is named for a split, and says nothing of splits, may be meant whole."""
    split = split_of_file(manifest.source) if manifest.source.is_file() else ""
    if not split:
        return ()
    count = sum(s.split == "val" for s in manifest.samples)
    return (
        f"{manifest.source}: is named for split {split!r} and says no splits, so {count} of its "
        f"{len(manifest.samples)} videos are held out as 'val'; to use several lists, give the folder that holds them "
        "(train.csv, val.csv), or add a column 'split'",
    )
