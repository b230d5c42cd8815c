"""Motion energy of every candidate window, the scorer that learns nothing: what a sampler has to be better than."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, VideoStore
from tenclip_training.omni.score_store import Decoding
from tenclip_training.sampler.windows import WindowGrid
from tenclip_video.salience import MotionEnergyScorer
from tenclip_video.spec import ClipSpec
from tenclip_video.video import open_video


class MotionStore(VideoStore):
    """Motion energy [M] of the windows of videos, in Parquet: each video is read once."""

    def __init__(self, folder: Path, model_spec: ClipSpec, grid: WindowGrid) -> None:
        self._read_video = functools.partial(read_motion_energy, model_spec=model_spec, grid=grid)
        values = {
            "scorer": asdict(MotionEnergyScorer()),
            "clips": [model_spec.num_frames, model_spec.frame_stride, model_spec.target_fps],
            "windows": [grid.step, grid.max_windows],
        }
        recipe = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        columns = [("energy", pa.large_list(pa.float32()))]
        super().__init__(folder / f"motion-{name}", noun="motion-energy", columns=columns, recipe=recipe)

    def update(self, videos: Sequence[SetVideo], decoding: Decoding, progress: Progress | None = None) -> int:
        """Read the videos that were not read or have changed; returns how many those were."""
        return self.fill(
            videos,
            self._read_video,
            lambda _, energy: {"energy": energy},
            workers=decoding.workers,
            timeout_seconds=decoding.timeout_seconds,
            progress=progress,
        )

    def read(self, videos: Sequence[SetVideo]) -> dict[str, NDArray[np.float32]]:
        """[M] by the names of the videos that have them."""
        rows, names, _ = self.rows_of(videos)
        return {name: np.asarray(rows["energy"][i].values, np.float32) for i, name in enumerate(names)}


def read_motion_energy(video: SetVideo, *, model_spec: ClipSpec, grid: WindowGrid) -> Any:
    """float32 [M] of the candidate windows of a video. Raises VideoError, InvalidRequest."""
    with open_video(video.path, name=video.name) as opened:
        return MotionEnergyScorer().score(opened, grid.clips(opened, model_spec)).video
