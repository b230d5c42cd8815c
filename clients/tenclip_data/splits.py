"""Splits: which videos are held out where nothing says so."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from tenclip_api.errors import DatasetError
from tenclip_data.samples import Manifest

DEFAULT_HELD_OUT = 0.2


def stratified_split(
    manifest: Manifest,
    *,
    held_out: float = DEFAULT_HELD_OUT,
    seed: int = 0,
    same_video: Mapping[str, str] | None = None,
) -> Manifest:
    """Give every sample split "train" or "val": `held_out` of each class, rounded, and at least one of two.

    All parts of one video go to the same side, and so do copies of it: `same_video` maps the name of each copy to the
    name that stands for all of them (`leaks.same_videos` finds them). The choice depends on the seed and on the names
    alone, not on the order of the files, so it is the same on every machine, and adding a class moves no video of
    another one. Raises DatasetError when that leaves nothing to hold out.
    """
    if not 0 < held_out < 1:
        raise DatasetError(f"held_out must lie between 0 and 1, got {held_out}")
    same_video = same_video or {}
    names = {s.name: same_video.get(s.name, s.name) for s in manifest.samples}
    names_of_class: dict[str, set[str]] = {}  # a sample of several labels counts for its first
    for sample in manifest.samples:
        names_of_class.setdefault(sample.labels[0], set()).add(names[sample.name])
    val: set[str] = set()
    for members in names_of_class.values():
        ranked = sorted(members, key=lambda name: seeded_rank(seed, name))
        val.update(ranked[: max(round(len(ranked) * held_out), 1 if len(ranked) > 1 else 0)])
    if not val:
        copies = " (copies of one video count as one)" if len(set(names.values())) < len(names) else ""
        raise DatasetError(
            f"{manifest.source}: every class has a single video{copies}, so none can be held out; add videos or a "
            "split column"
        )
    samples = tuple(dataclasses.replace(s, split="val" if names[s.name] in val else "train") for s in manifest.samples)
    return dataclasses.replace(manifest, samples=samples)


def seeded_rank(seed: int, name: str) -> bytes:
    """A number that orders names at random, the same on every machine and whatever other names there are.

    >>> sorted("abcd", key=lambda name: seeded_rank(0, name))
    ['d', 'a', 'c', 'b']
    """
    # Names from JSON and Parquet may hold halves of surrogate pairs.
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogatepass")).digest()
