"""What the sampler sees of every candidate window of many videos, in Parquet: each video is read once.

Inputs of type float32 are kept as float16: colours and shares of a picture, for which that is exact enough.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, StoreFailure, VideoStore
from tenclip_training.omni.score_store import Decoding
from tenclip_training.sampler.windows import WindowGrid, read_inputs
from tenclip_video.salience.sampler_spec import SamplerSpec
from tenclip_video.spec import ClipSpec

Inputs = NDArray[Any]  # uint8 or float16
# A file of the store holds about so much.
_MAX_BYTES = 256 << 20
# Videos that are kept before they are written, and that wait for each decoder: a video's inputs are some megabytes.
_BATCH, _AHEAD = 32, 2


class InputStore(VideoStore):
    """Inputs [M,T,H,W,C] of the windows of videos for samplers of one kind and size."""

    def __init__(self, folder: Path, spec: SamplerSpec, model_spec: ClipSpec, grid: WindowGrid) -> None:
        self._read_video = functools.partial(read_inputs, spec=spec, model_spec=model_spec, grid=grid)
        self._shape = spec.input_shape
        self._dtype = np.uint8 if spec.kind in ("rgb", "keyframes") else np.float16
        values = {
            "input": [spec.kind, *spec.input_shape],
            "clips": [model_spec.num_frames, model_spec.frame_stride, model_spec.target_fps],
            "windows": [grid.step, grid.max_windows],
        }
        recipe = json.dumps(values, sort_keys=True)
        name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        super().__init__(
            folder / f"inputs-{name}",
            noun="window-inputs",
            columns=[("inputs", pa.large_binary()), ("notes", pa.list_(pa.string()))],
            recipe=recipe,
            max_bytes=_MAX_BYTES,
            batch=_BATCH,
        )

    def update(self, videos: Sequence[SetVideo], decoding: Decoding, progress: Progress | None = None) -> int:
        """Read the videos that were not read or have changed; returns how many those were."""
        return self.fill(
            videos,
            self._read_video,
            self._columns_of,
            workers=decoding.workers,
            timeout_seconds=decoding.timeout_seconds,
            ahead=_AHEAD,
            progress=progress,
        )

    def read(self, videos: Sequence[SetVideo]) -> tuple[dict[str, Inputs], list[StoreFailure]]:
        """The inputs by the names of the videos; and the videos that have none."""
        found = {}
        for rows, places in self.batches_of(videos, ["inputs"]):
            for i, place in enumerate(places):
                flat = np.frombuffer(rows["inputs"][i].as_buffer(), self._dtype)
                found[videos[place].name] = flat.reshape(-1, *self._shape)
        return found, self.failures_of(videos)

    def notes(self, videos: Sequence[SetVideo]) -> Counter[str]:
        """Fallbacks of the reader, in words, with the numbers of videos: codecs without motion vectors, for one."""
        found: Counter[str] = Counter()
        for rows, _ in self.batches_of(videos, ["notes"]):
            found.update(note for notes in rows["notes"].to_pylist() for note in notes or ())
        return found

    def _columns_of(self, video: SetVideo, found: tuple[NDArray[Any], tuple[str, ...]]) -> dict[str, Any]:
        inputs, notes = found
        return {"inputs": np.ascontiguousarray(inputs, self._dtype).tobytes(), "notes": list(notes)}
