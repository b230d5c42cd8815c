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
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


# A clip of eight small frames takes milliseconds to learn from, of which opening this file would be a tenth.
@functools.lru_cache(maxsize=4096)
def _beside_frames(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64], float, dict[str, int] | None]:
    """(indices, times, duration, damage) of a stored video; its name says that they never change."""
    with np.load(path, allow_pickle=False) as rest:
        indices, times = rest["indices"], rest["times"]
        indices.flags.writeable = times.flags.writeable = False
        return indices, times, float(rest["duration"]), json.loads(str(rest["damage"]))


@dataclass(frozen=True)
class StoredVideo:
    """A video of a store. path: of its frames."""

    path: Path

    def load(self, sample: Sample) -> CachedVideo:
        """Of the sample that it was found for; its frames are a map of the file.

        Raises DatasetError where somebody has removed or damaged it.
        """
        try:
            indices, times, duration, damage = _beside_frames(self.path.with_suffix(".npz"))
            return CachedVideo(
                np.load(self.path, mmap_mode="r"),
                indices,
                times,
                duration,
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
