"""Features as one NumPy file a video, for `--format npy` and `npz`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np

from tenclip_batch.dataset import FILES
from tenclip_batch.disk import not_written
from tenclip_batch.options import OutputFormat
from tenclip_batch.rows import VideoResult
from tenclip_data.atomic import replacing

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# What file systems of other machines refuse.
_REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]')
# Of a name of a folder or file: hashes, a suffix and what makes a draft of it are added, and file systems take 255.
_MOST_BYTES = 190


def file_names(names: Iterable[str], kind: OutputFormat, held: Mapping[str, str]) -> dict[str, str]:
    """Name of a video -> where its features go, below the dataset: its path without the suffix; no two in one place.

    Videos that differ in the suffix alone keep it. Where that is not enough, the SHA-256 of the name makes it one.
    held: the file of every video that has one. It keeps it, whatever else is named, and no other video gets it.

    >>> file_names(["clips/a.mp4", "clips/b.mp4", "clips/b.avi"], "npy", {})["clips/a.mp4"]
    'files/clips/a.npy'
    """
    paths = {name: _relative(name, kind) for name in names}
    stems = Counter(_stem(path) for path in paths.values())
    found = {n: f"{FILES}/{_stem(p) if stems[_stem(p)] == 1 else p}.{kind}" for n, p in paths.items()}
    for digits in (8, 16):
        # What is held counts where its own video would go, too: that must not hang on what is done already.
        places = Counter(_place(file) for file in found.values())
        places.update({_place(file) for name, file in held.items() if found.get(name) != file})
        found = {n: f if places[_place(f)] == 1 else _with_hash(f, n, digits) for n, f in found.items()}
    return {name: held.get(name, file) for name, file in found.items()}


def twice_held(held: Mapping[str, str]) -> set[str]:
    """Videos whose file is also that of another one, so that nobody knows whose features it has."""
    counts = Counter(held.values())
    return {name for name, file in held.items() if counts[file] > 1}


def write_features(folder: Path, file: str, result: VideoResult) -> None:
    """npy: float32 [N,D]. npz: `features`, and clip_index, start_seconds and end_seconds [N]. Raises DatasetError."""
    path = folder / file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as opened:
            if path.suffix == ".npy":
                np.save(opened, result.features)
                return
            np.savez(
                opened,
                features=result.features,
                clip_index=np.array([c.index for c in result.clips], np.int64),
                start_seconds=np.array([c.start_seconds for c in result.clips]),
                end_seconds=np.array([c.end_seconds for c in result.clips]),
            )
    except OSError as err:
        raise not_written(path, err) from err


def _relative(name: str, kind: OutputFormat) -> str:
    """Without what leads out of the folder. No folder is called as a file may be."""
    parts = [part for part in _SCHEME.sub("", name).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    *folders, last = [_short(_REFUSED.sub("_", part)) for part in parts] or ["_"]
    return "/".join([*(f"{f}_" if f.lower().endswith(f".{kind}") else f for f in folders), last])


def _short(part: str) -> str:
    """Signed addresses, for example, are longer than the name of a file may be."""
    data = part.encode("utf-8", "surrogateescape")
    return part if len(data) <= _MOST_BYTES else f"{data[:_MOST_BYTES].decode('utf-8', 'ignore')}-{_hash(part)}"


def _hash(name: str, digits: int = 8) -> str:
    return sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:digits]


def _place(file: str) -> str:
    """What file systems of other machines take for the same name."""
    return unicodedata.normalize("NFC", file).casefold()


def _with_hash(file: str, name: str, digits: int) -> str:
    path = PurePosixPath(file)
    return str(path.with_stem(f"{path.stem}-{_hash(name, digits)}"))


def _stem(path: str) -> str:
    whole = PurePosixPath(path)
    return str(whole.with_suffix("")) if whole.suffix else path
