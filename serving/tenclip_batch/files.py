"""Features as one NumPy file a video, for `--format npy` and `npz`."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from tenclip_api.errors import DatasetError
from tenclip_batch.dataset import FILES
from tenclip_batch.options import OutputFormat
from tenclip_batch.rows import VideoResult
from tenclip_data.atomic import replacing

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
# What file systems of other machines refuse.
_REFUSED = re.compile(r'[<>:"|?*\x00-\x1f]')


def file_names(names: Iterable[str], kind: OutputFormat) -> dict[str, str]:
    """Name of a video -> where its features go, below the dataset: its path without the suffix.

    Videos that differ in the suffix alone keep it.

    >>> file_names(["clips/a.mp4", "clips/b.mp4", "clips/b.avi"], "npy")["clips/a.mp4"]
    'files/clips/a.npy'
    """
    paths = {name: _relative(name) for name in names}
    taken = Counter(_stem(path) for path in paths.values())
    return {n: f"{FILES}/{_stem(p) if taken[_stem(p)] == 1 else p}.{kind}" for n, p in paths.items()}


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
        why = "the name is too long" if err.errno == errno.ENAMETOOLONG else err.strerror or err
        raise DatasetError(f"{path}: cannot be written: {why}; the same command goes on from what is there") from err


def _relative(name: str) -> str:
    """Without what leads out of the folder."""
    parts = [part for part in _SCHEME.sub("", name).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(_REFUSED.sub("_", part) for part in parts) or "_"


def _stem(path: str) -> str:
    whole = PurePosixPath(path)
    return str(whole.with_suffix("")) if whole.suffix else path
