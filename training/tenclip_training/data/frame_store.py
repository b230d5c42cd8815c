"""Decoded videos in a folder, for later runs: a video is decoded once, whoever trains on it and however often.

A video is two files, named by a hash of what decides its frames: the file (path, size, time of change), the part of it,
and how frames are chosen (for segments of judged frames: their times) and resized. Frames are mapped, not read, so that
several runs share one copy in the page cache. Nothing is ever removed: the folder is the user's to delete.

    FOLDER/ab/ab12....npy    uint8 RGB [M,H,W,3]
    FOLDER/ab/ab12....npz    indices, times, duration and damage; written last
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import mmap
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError
from tenclip_data.atomic import replacing
from tenclip_data.samples import Sample, split_name
from tenclip_training.data.damage import Damage
from tenclip_video.spec import ClipSpec

_VERSION = 2


@dataclass(frozen=True, eq=False)
class CachedVideo:
    """frames: uint8 RGB [M,H,W,3], resized: those that any clip can need; indices: [M], their places in the video."""

    frames: NDArray[np.uint8]
    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    duration: float
    damage: Damage | None = None


class _Known(NamedTuple):
    """What is known of a stored video without its frames. shape: of these; offset: of the first one, bytes."""

    shape: tuple[int, ...]
    offset: int
    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    duration: float
    damage: dict[str, int] | None


# A clip of eight small frames takes milliseconds to learn from, of which opening this file would be a tenth.
@functools.lru_cache(maxsize=4096)
def _known(frames: Path) -> _Known:
    """Of the video whose frames are in this file; its name says that it never changes."""
    with frames.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if dtype != np.uint8:
        raise ValueError(f"its frames are {dtype}, not uint8")
    with np.load(frames.with_suffix(".npz"), allow_pickle=False) as rest:
        indices, times = rest["indices"], rest["times"]
        indices.flags.writeable = times.flags.writeable = False
        return _Known(shape, offset, indices, times, float(rest["duration"]), json.loads(str(rest["damage"])))


def _mapped(path: Path, known: _Known) -> NDArray[np.uint8]:
    """The frames, as `np.load(path, mmap_mode="r")` gives them, which reads the header each time."""
    with path.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(whole, np.uint8, math.prod(known.shape), known.offset).reshape(known.shape)


@dataclass(frozen=True)
class StoredVideo:
    """A video of a store. path: of its frames."""

    path: Path

    def load(self, sample: Sample) -> CachedVideo:
        """Of the sample that it was found for; its frames are a map of the file.

        Raises DatasetError where somebody has removed or damaged it.
        """
        try:
            known = _known(self.path)
            damage = known.damage
            return CachedVideo(
                _mapped(self.path, known),
                known.indices,
                known.times,
                known.duration,
                None if damage is None else Damage(video=sample.key, split=split_name(sample.split), **damage),
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as err:
            raise DatasetError(f"{self.path}: a decoded video of the cache folder cannot be read: {err}") from err


@dataclass(frozen=True)
class FrameStore:
    """The folder. Several runs may write into it at once."""

    folder: Path

    def find(self, sample: Sample, spec: ClipSpec, shown: Sequence[float] = ()) -> StoredVideo | None:
        """The video of a sample under a spec, where the folder has it.

        shown: the times in seconds of the frames that are kept, where these are judged ones (`Snippets`).
        """
        stored = self._place(sample, spec, shown)
        return stored if stored is not None and stored.path.with_suffix(".npz").exists() else None

    def add(
        self, sample: Sample, spec: ClipSpec, video: CachedVideo, shown: Sequence[float] = ()
    ) -> StoredVideo | None:
        """Keep a video, see `find`. None where it has no file of its own. Raises DatasetError where it cannot be
        written.
        """
        stored = self._place(sample, spec, shown)
        if stored is None:
            return None
        damage = None
        if video.damage is not None:  # who asks for it may call it by another name
            damage = {
                "frames_corrupt": video.damage.frames_corrupt,
                "frames_substituted": video.damage.frames_substituted,
            }
        try:
            stored.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(stored.path) as file:
                np.save(file, video.frames, allow_pickle=False)
            with replacing(stored.path.with_suffix(".npz")) as file:
                np.savez(
                    file,
                    indices=video.indices,
                    times=video.times,
                    duration=np.float64(video.duration),
                    damage=np.array(json.dumps(damage)),
                )
        except OSError as err:
            raise DatasetError(f"{self.folder}: decoded videos cannot be kept there: {err.strerror or err}") from err
        return stored

    def _place(self, sample: Sample, spec: ClipSpec, shown: Sequence[float]) -> StoredVideo | None:
        source = sample.source()
        if not isinstance(source, Path):
            return None
        try:
            stat = source.stat()
        except OSError:
            return None  # decoding says what is wrong
        what: dict[str, Any] = {
            "version": _VERSION,
            "file": [str(source.resolve()), stat.st_size, stat.st_mtime_ns],
            "part": [sample.start_seconds, sample.end_seconds],
            "clips": [spec.num_frames, spec.frame_stride, spec.target_fps, spec.modality],
            "resize": dataclasses.asdict(spec.resize),
        }
        if len(shown):
            what["shown"] = sorted(map(float, shown))
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return StoredVideo(self.folder / name[:2] / f"{name}.npy")
