"""Tasks on labelled videos that are there already."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tenclip_api.errors import DatasetError
from tenclip_data.manifest import read_manifest
from tenclip_data.samples import Manifest, Sample
from tenclip_findings.lab.tasks import CLIPS, MANIFEST, TABLE, Found, clip_spec
from tenclip_training.curation.budgets import ranked
from tenclip_training.curation.manifests import write_manifest
from tenclip_training.data.failures import Failure
from tenclip_training.evaluation.evaluate import decoded_videos
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import ClipSelection, SelectionMode
from tenclip_video.spec import ClipSpec, Resize


def part(
    folder: Path, manifest: str, digest: str, classes: Sequence[str], split: str, tests: int | None = None
) -> Found:
    """A manifest of the videos of some classes in a split, all in split train. digest: of the data, which nothing but
    the name of the job needs. tests: they are to be tested on, at most so many at random; those that cannot be decoded
    are left out and counted, so that every arm is judged on the same.
    """
    wanted = set(classes)
    read = read_manifest(Path(manifest), leaks="warn")
    chosen = [s for s in read.samples if s.split == split and wanted.issuperset(s.labels)]
    broken: list[str] = []
    if tests is not None:
        kept = set(ranked([s.key for s in chosen], 0)[:tests])
        chosen, broken = decodable(dataclasses.replace(read, samples=tuple(s for s in chosen if s.key in kept)))
    write_manifest(folder / MANIFEST, [dataclasses.replace(s, split="train") for s in chosen])
    classes = sorted({label for s in chosen for label in s.labels})
    return {"videos": len(chosen), "classes": len(classes), "broken": broken}


def decodable(manifest: Manifest) -> tuple[list[Sample], list[str]]:
    """(those that can be decoded from beginning to end, what is wrong with the others). Raises DatasetError where none
    can.
    """
    spec = ClipSpec(num_frames=8, target_fps=15.0, resize=Resize(height=32, width=32), crop=32)
    whole = Protocol(selection=ClipSelection(mode="salient", num_clips=1))
    found, broken = [], []
    for index, video in decoded_videos(manifest, range(len(manifest.samples)), spec, whole, 1):
        if isinstance(video, Failure):
            broken.append(video.message)
        else:
            found.append(manifest.samples[index])
    if not found:
        first = broken[0] if broken else "there are none"
        raise DatasetError(f"{manifest.source}: none of {len(broken)} videos can be decoded: {first}")
    return found, broken


def clips(
    folder: Path, manifest: str, spec: Mapping[str, Any], mode: SelectionMode = "center", num_clips: int = 1
) -> Found:
    """As `tasks.clips`; videos that cannot be decoded are left out and counted, as in training. A video with fewer
    salient windows than are wanted has them again, in their order.

    Raises DatasetError where none can be decoded.
    """
    read = read_manifest(Path(manifest), leaks="allow")
    protocol = Protocol(selection=ClipSelection(mode=mode, num_clips=num_clips))
    found, table, broken = [], [], []
    for index, video in decoded_videos(read, range(len(read.samples)), clip_spec(spec), protocol, 1):
        sample = read.samples[index]
        if isinstance(video, Failure):
            broken.append(video.message)
            continue
        found.append(np.take(video.clips, range(num_clips), axis=0, mode="wrap"))
        table.append({"key": sample.key, "label": sample.labels[0]})
    if not found:
        raise DatasetError(f"{manifest}: none of {len(read.samples)} videos can be decoded: {broken[0]}")
    np.save(folder / CLIPS, np.stack(found))
    (folder / TABLE).write_text(json.dumps(table) + "\n", encoding="utf-8")
    return {"videos": len(table), "broken": broken}
