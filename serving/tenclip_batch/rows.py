"""What is known of a video when it has been worked on, before it is in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tenclip_api.errors import TenclipError
from tenclip_features.rows import VideoFailure
from tenclip_features.stamps import VideoStamp
from tenclip_serving.requests import Recognition, RecognizedClip
from tenclip_video.aggregate import top_classes

# What `--show` says of a video: JSON values.
Facts: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoResult:
    """One video. failure: why there is nothing else. stamp: the state of its file; None where there is no file.

    features: float32 [N,D]; scores: float32 [K] of the video and clip_scores float32 [N,K], with predictions only.
    file: where its features are, below the dataset, where not in a table.
    """

    name: str
    stamp: VideoStamp | None = None
    failure: VideoFailure | None = None
    clips: Sequence[RecognizedClip] = ()
    features: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    scores: NDArray[np.float32] | None = None
    clip_scores: NDArray[np.float32] | None = None
    duration_seconds: float | None = None
    num_frames: int | None = None
    frames_per_second: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    frames_corrupt: int = 0
    frames_substituted: int = 0
    file: str | None = None

    @property
    def num_clips(self) -> int:
        return len(self.clips)


def result_of(name: str, stamp: VideoStamp | None, found: Recognition, *, predict: bool) -> VideoResult:
    """The result of a video that was recognised."""
    info, report = found.info, found.report
    return VideoResult(
        name=name,
        stamp=stamp,
        clips=found.clips,
        features=found.clip_features,
        scores=found.probabilities if predict else None,
        clip_scores=found.clip_probabilities if predict else None,
        duration_seconds=info.duration_seconds,
        num_frames=info.num_frames,
        frames_per_second=info.frames_per_second,
        width=info.width,
        height=info.height,
        codec=info.codec,
        frames_corrupt=report.frames_corrupt,
        frames_substituted=report.frames_substituted,
    )


def failed(name: str, stamp: VideoStamp | None, err: TenclipError) -> VideoResult:
    """The result of a video of which nothing came but an error."""
    return VideoResult(name=name, stamp=stamp, failure=VideoFailure(name, err.reason, err.message))


def facts_of(result: VideoResult, labels: Sequence[str], top_k: int) -> Facts:
    """What came of one video: its error, its `top_k` best classes, or the shape and range of its features."""
    if result.failure is not None:
        return written_facts(result.name, 0, result.failure)
    facts = written_facts(result.name, result.num_clips, None)
    if result.scores is not None:
        top = top_classes(result.scores, labels, top_k)
        return {**facts, "top": [{"label": c.label, "score": c.score} for c in top]}
    values = result.features
    statistics = {n: round(float(getattr(np, n)(values)), 6) for n in ("min", "max", "mean", "std")}
    return {**facts, "shape": list(values.shape), **statistics}


def written_facts(name: str, clips: int, failure: VideoFailure | None) -> Facts:
    """The same of a video of which only the ledger is at hand."""
    if failure is not None:
        return {"video": name, "error": failure.reason, "message": failure.message}
    return {"video": name, "clips": clips}
