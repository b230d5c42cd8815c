"""Results for callers: one `ClipResult` for each clip of a video, and the `Recognition` at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tenclip_serving.models.repository import ServedModel
from tenclip_serving.requests import AdaptiveReport, ClipResult, Recognition, RecognizedClip
from tenclip_serving.runtimes import Outputs
from tenclip_video.aggregate import Aggregate, ClipAssembler, RunningAverage
from tenclip_video.bundle import ScoreCalibration
from tenclip_video.clips import VideoClips
from tenclip_video.protocols import Averaging, Protocol


class ClipEmitter:
    """Calls `on_clip` with each clip of a video, in whatever order clips are done, and with the scores so far.

    clips: all that may run. num_planned: how many were planned, which is more where an adaptive answer comes again.
    """

    def __init__(
        self,
        on_clip: Callable[[ClipResult], None],
        clips: tuple[RecognizedClip, ...],
        labels: tuple[str, ...],
        averaging: Averaging,
        *,
        num_planned: int,
    ) -> None:
        self._on_clip, self._clips, self._labels, self._averaging = on_clip, clips, labels, averaging
        self._num_planned = num_planned
        self._average = RunningAverage(averaging)
        self._num_done = 0

    def emit(self, place: int, probabilities: NDArray[np.float32], features: NDArray[np.float32]) -> None:
        """Tell of the clip at `place`: its scores, float32 [K], and features, float32 [D]."""
        self._num_done += 1
        self._on_clip(
            ClipResult(
                index=self._clips[place].index,
                clip=self._clips[place],
                probabilities=probabilities,
                features=features,
                video_probabilities=self._average.add(probabilities),
                labels=self._labels,
                num_done=self._num_done,
                num_clips=self._num_planned,
            )
        )

    def on_outputs(self, views: int) -> Callable[[int, Outputs], None]:
        """For a scheduler: emits each clip as soon as the outputs of all of its views are there."""

        def on_clip(place: int, clip: Aggregate) -> None:
            self.emit(place, clip.clip_probabilities[0], clip.clip_features[0])

        return ClipAssembler(self._averaging, views=views, on_clip=on_clip).add


def recognized_clips(video: VideoClips) -> tuple[RecognizedClip, ...]:
    """The clips of a plan, without their pixels."""
    return tuple(
        RecognizedClip(index=index, start_seconds=start, end_seconds=end, frames=clip.frames, looped=clip.looped)
        for index, (clip, (start, end)) in enumerate(zip(video.plan, video.seconds, strict=True))
    )


def recognition(
    model: ServedModel,
    protocol: Protocol,
    video: VideoClips,
    clips: tuple[RecognizedClip, ...],
    scores: Aggregate,
    timings: dict[str, float],
    *,
    calibration: ScoreCalibration | None = None,
    adaptive: AdaptiveReport | None = None,
) -> Recognition:
    """All that is known of a video whose clips have run. clips: those. timings: seconds by stage."""
    return Recognition(
        model=model.name,
        version=model.version,
        runtime=model.runtime.name,
        protocol=protocol.name,
        labels=model.bundle.labels,
        clips=clips,
        probabilities=scores.probabilities,
        clip_probabilities=scores.clip_probabilities,
        clip_features=scores.clip_features,
        features=scores.features,
        timeline=video.timeline,
        info=video.info,
        report=video.report,
        timings=timings,
        thumbnails=video.thumbnails,
        calibrated=None if calibration is None else calibration.apply(scores.probabilities),
        adaptive=adaptive,
    )
