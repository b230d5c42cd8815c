"""Results for callers: one `ClipResult` for each clip of a video, and the `Recognition` at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.models.repository import ServedModel
from tenclip_serving.requests import ClipResult, Recognition, RecognizedClip
from tenclip_serving.runtimes import Outputs
from tenclip_video.aggregate import Aggregate, ClipAssembler, RunningAverage
from tenclip_video.clips import VideoClips
from tenclip_video.protocols import Averaging, Protocol


class ClipEmitter:
    """Calls `on_clip` with each clip of a video, in whatever order clips are done, and with the scores so far."""

    def __init__(
        self,
        on_clip: Callable[[ClipResult], None],
        clips: tuple[RecognizedClip, ...],
        labels: tuple[str, ...],
        averaging: Averaging,
    ) -> None:
        self._on_clip, self._clips, self._labels, self._averaging = on_clip, clips, labels, averaging
        self._average = RunningAverage(averaging)
        self._num_done = 0

    def emit(self, index: int, probabilities: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """Tell of the clip at `index`: its scores, float32 [K], and features, float32 [D]."""
        self._num_done += 1
        self._on_clip(
            ClipResult(
                index=index,
                clip=self._clips[index],
                probabilities=probabilities,
                features=features,
                video_probabilities=self._average.add(probabilities),
                labels=self._labels,
                num_done=self._num_done,
                num_clips=len(self._clips),
            )
        )

    def on_outputs(self, views: int) -> Callable[[int, Outputs], None]:
        """For a scheduler: emits each clip as soon as the outputs of all of its views are there."""

        def on_clip(index: int, clip: Aggregate) -> None:
            self.emit(index, clip.clip_probabilities[0], clip.clip_features[0])

        return ClipAssembler(self._averaging, views=views, on_clip=on_clip).add


def recognized_clips(video: VideoClips) -> tuple[RecognizedClip, ...]:
    """The clips of a plan, without their pixels."""
    return tuple(
        RecognizedClip(start_seconds=start, end_seconds=end, frames=clip.frames, looped=clip.looped)
        for clip, (start, end) in zip(video.plan, video.seconds, strict=True)
    )


def recognition(
    model: ServedModel, protocol: Protocol, video: VideoClips, scores: Aggregate, timings: dict[str, float]
) -> Recognition:
    """All that is known of a video whose clips have run. timings: seconds by stage."""
    return Recognition(
        model=model.name,
        version=model.version,
        runtime=model.runtime.name,
        protocol=protocol.name,
        labels=model.bundle.labels,
        clips=recognized_clips(video),
        probabilities=scores.probabilities,
        clip_probabilities=scores.clip_probabilities,
        clip_features=scores.clip_features,
        features=scores.features,
        timeline=video.timeline,
        info=video.info,
        report=video.report,
        timings=timings,
        thumbnails=video.thumbnails,
    )
