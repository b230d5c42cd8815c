"""Requests and results of the core: plain dataclasses and arrays, no protobuf.

Letters: N clips of a video, K classes, D features.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tenclip_api.uris import without_secrets
from tenclip_video.filmstrip import Thumbnail
from tenclip_video.salience import SalienceTimeline
from tenclip_video.sampling import SelectionMode
from tenclip_video.video import DecodeReport, VideoInfo

if TYPE_CHECKING:
    from tenclip_serving.intake.open_video import VideoFile
    from tenclip_serving.intake.spool import SpoolFile

# What an upload without a name is called.
UPLOAD = "<upload>"
SpatialMode = Literal["pooled", "fully_convolutional"]


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """The clips that a caller asks for, unchecked. None and 0 leave it to the model's protocol.

    adaptive: stop when the classes are settled, by the stopping rule with this error_bound (a share; 0: the model's
    default). sampler: what scores the windows: "" (the model's own, where it has
    one), "motion-energy", or "NAME" or "NAME/VERSION" of another model.
    `resolve_protocol` and `resolve_salience` check them.
    """

    mode: SelectionMode | None = None
    num_clips: int = 0
    window_step: int = 0
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    adaptive: bool = False
    error_bound: float = 0.0
    sampler: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Upload:
    """An encoded file that comes in chunks. num_bytes: the size of the whole file, 0 where it is not known yet."""

    chunks: AsyncIterator[bytes]
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class RecognitionRequest:
    """One video to recognise, and how.

    The video is one of `data` (the encoded file itself), `path`, `uri`, `upload`, `spooled` (an upload that is here
    already, see `Engine.receive`) and `file` (open in this process, and its caller's to close); `Intake.open` opens
    each of them.
    """

    data: bytes | None = None
    path: str | None = None
    uri: str | None = None
    upload: Upload | None = None
    spooled: SpoolFile | None = None
    file: VideoFile | None = None
    name: str = ""
    model: str = ""
    version: str = ""
    clips: ClipRequest = field(default_factory=ClipRequest)
    spatial_mode: SpatialMode | None = None
    protocol: str = ""
    timeline: bool = False
    thumbnails: int = 0

    @property
    def source(self) -> str:
        """The name of the video in messages and logs."""
        if self.path is not None:
            return self.path
        if self.uri is not None:
            return without_secrets(self.uri)
        return self.name or ("<bytes>" if self.upload is None and self.spooled is None else UPLOAD)


@dataclass(frozen=True, kw_only=True)
class RecognizedClip:
    """The part of the video that one clip shows: a half-open interval of seconds.

    index: its place among all clips that were planned, in order of time.
    frames: indices of the video's frames, one for each input frame of the network.
    """

    index: int
    start_seconds: float
    end_seconds: float
    frames: tuple[int, ...]
    looped: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipResult:
    """Scores of one clip, averaged over its views, and of the video so far.

    index: the clip's place among the `num_clips` clips that are planned.
    probabilities: float32 [K]; features: float32 [D].
    video_probabilities: float32 [K], from the `num_done` clips that are done.
    """

    index: int
    clip: RecognizedClip
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    video_probabilities: NDArray[np.float32]
    labels: tuple[str, ...]
    num_done: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class AdaptiveReport:
    """How far an adaptive prediction went: clips that were planned, and those of them that ran.

    settled: the stopping rule ended it before the last clip. error_bound, confidence: of the rule, see `StoppingRule`.
    """

    clips_planned: int
    clips_used: int
    settled: bool
    error_bound: float
    confidence: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Recognition:
    """Everything that one decode and one pass of the network give.

    probabilities: float32 [K] of the video; clip_probabilities: float32 [N,K]; clip_features: float32 [N,D];
    features: float32 [D], their mean. Views of a clip are averaged. timings: seconds by stage.
    N counts the clips that ran. calibrated: float32 [K], `probabilities` after temperature scaling, where the bundle
    holds a calibration of what ran. adaptive: set where that was asked for.
    """

    model: str
    version: str
    runtime: str
    protocol: str
    labels: tuple[str, ...]
    clips: tuple[RecognizedClip, ...]
    probabilities: NDArray[np.float32]
    clip_probabilities: NDArray[np.float32]
    clip_features: NDArray[np.float32]
    features: NDArray[np.float32]
    timeline: SalienceTimeline | None
    info: VideoInfo
    report: DecodeReport
    timings: dict[str, float]
    thumbnails: tuple[Thumbnail, ...] = ()
    calibrated: NDArray[np.float32] | None = None
    adaptive: AdaptiveReport | None = None

    @property
    def num_points(self) -> int:
        """Of the timeline; 0 without one."""
        return 0 if self.timeline is None else len(self.timeline.scores)
