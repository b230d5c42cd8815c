"""What a heavy network says of every candidate window of many videos, in Parquet: each video is scored once.

The network runs here (`local_teacher`) or is any model of a running server (`served_teacher`). M windows, K classes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tenclip_api.errors import DatasetError, TenclipError
from tenclip_training.curation.video_sets import SetVideo
from tenclip_training.curation.video_store import Progress, StoreFailure, VideoStore
from tenclip_training.omni.score_store import Decoding
from tenclip_training.sampler.windows import WindowGrid
from tenclip_video.protocols import Activation
from tenclip_video.spec import ClipSpec

# Videos whose clips wait for the network, for each decoder: all windows of a video are up to hundreds of megabytes.
_AHEAD = 2


@dataclass(frozen=True, eq=False)
class TeacherWindows:
    """seconds: float64 [M,2], (start, end) of each window. scores: float32 [M,K]."""

    seconds: NDArray[np.float64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowTeacher:
    """name: as it was asked for. identity: "ARCHITECTURE HASH" of the weights, the same here and on a server.

    spec: of its clips. labels: its K classes in order. activation: how it makes scores of logits.
    reader(grid): a function for processes of their own, which does of a video what can be done there. judge: what is
    done here with its value; raises ModelError.
    """

    name: str
    identity: str
    spec: ClipSpec
    labels: tuple[str, ...]
    activation: Activation
    reader: Callable[[WindowGrid], Callable[[SetVideo], Any]]
    judge: Callable[[SetVideo, Any], TeacherWindows]

    def recipe(self, grid: WindowGrid) -> str:
        """All that its scores follow from."""
        values = {"spec": self.spec.to_dict(), "labels": self.labels, "step": grid.step, "most": grid.max_windows}
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.identity}, windows of {self.spec.span} every {grid.step}, {digest} v1"


class TeacherFailed(Exception):
    """Raised by a reader for what is not the video's fault: it ends the run. args[0]: the error."""


class TeacherStore(VideoStore):
    """Scores [M,K] of the windows of videos by one teacher."""

    def __init__(self, folder: Path, teacher: WindowTeacher, grid: WindowGrid) -> None:
        self._teacher, self._grid = teacher, grid
        recipe = teacher.recipe(grid)
        columns = [("seconds", pa.large_list(pa.float64())), ("scores", pa.large_list(pa.float32()))]
        name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        super().__init__(folder / f"scores-{name}", noun="window-scores", columns=columns, recipe=recipe)

    def update(self, videos: Sequence[SetVideo], decoding: Decoding, progress: Progress | None = None) -> int:
        """Score the videos that have no scores or have changed; returns how many those were.

        Raises ModelError, and what a server answers that does not depend on the video.
        """
        try:
            return self.fill(
                videos,
                self._teacher.reader(self._grid),
                self._columns_of,
                workers=decoding.workers,
                timeout_seconds=decoding.timeout_seconds,
                ahead=_AHEAD,
                progress=progress,
            )
        except TeacherFailed as err:
            error: TenclipError = err.args[0]
            raise error from err

    def read(self, videos: Sequence[SetVideo]) -> tuple[dict[str, TeacherWindows], list[StoreFailure]]:
        """The scores by the names of the videos; and the videos that have none."""
        rows, names, failures = self.rows_of(videos)
        found = {}
        for i, name in enumerate(names):
            seconds = np.asarray(rows["seconds"][i].values, np.float64).reshape(-1, 2)
            scores = np.asarray(rows["scores"][i].values, np.float32).reshape(len(seconds), -1)
            if scores.shape[1] != len(self._teacher.labels):
                raise DatasetError(f"{self.folder}: the scores of {name} are of {scores.shape[1]} classes; remove it")
            found[name] = TeacherWindows(seconds, scores)
        return found, failures

    def _columns_of(self, video: SetVideo, value: Any) -> dict[str, Any]:
        found = self._teacher.judge(video, value)
        return {"seconds": found.seconds.ravel(), "scores": found.scores.ravel()}
