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
from tenclip_video.salience import SalienceTimeline
from tenclip_video.sampling import SelectionMode
from tenclip_video.video import DecodeReport, VideoInfo

if TYPE_CHECKING:
    from tenclip_serving.decoding.shared_memory import MemoryFile
    from tenclip_serving.intake.spool import SpoolFile

SpatialMode = Literal["pooled", "fully_convolutional"]


@dataclass(frozen=True, kw_only=True)
class ClipRequest:
    """What a caller says of the clips; None and 0 leave it to the model's protocol. Unchecked, see `plans`."""

    mode: SelectionMode | None = None
    num_clips: int = 0
    window_step: int = 0
    start_seconds: float = 0.0
    end_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Upload:
    """An encoded file that comes in pieces. num_bytes: of all of them; 0 where nobody knows yet."""

    chunks: AsyncIterator[bytes]
    num_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class RecognitionRequest:
    """One video to recognise: `data`, the encoded file itself; or `path`, `uri` or `upload`.

    `file`: what came of a URI, an upload or large `data`, when all of it is there.
    """

    data: bytes | None = None
    path: str | None = None
    uri: str | None = None
    upload: Upload | None = None
    file: SpoolFile | MemoryFile | None = None
    name: str = ""
    model: str = ""
    version: str = ""
    clips: ClipRequest = field(default_factory=ClipRequest)
    spatial_mode: SpatialMode | None = None
    protocol: str = ""
    timeline: bool = False

    @property
    def source(self) -> str:
        """What messages and logs call the video."""
        if self.path is not None:
            return self.path
        if self.uri is not None:
            return without_secrets(self.uri)
        if self.file is not None:
            return self.file.name
        return self.name or ("<bytes>" if self.upload is None else "<upload>")


@dataclass(frozen=True, kw_only=True)
class RecognizedClip:
    """`frames`: indices of the video's frames, one for each input frame of the network. Half-open seconds."""

    start_seconds: float
    end_seconds: float
    frames: tuple[int, ...]
    looped: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipResult:
    """One clip of a video, its views averaged. `index`: its place among the clips. [K] and [D], float32.

    video_probabilities: [K] of the video, from the `num_done` clips that are done; `num_clips` there are in all.
    """

    index: int
    clip: RecognizedClip
    probabilities: NDArray[np.float32]
    features: NDArray[np.float32]
    video_probabilities: NDArray[np.float32]
    labels: tuple[str, ...]
    num_done: int
    num_clips: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Recognition:
    """Everything that one decode and one pass give.

    probabilities: float32 [K] of the video; clip_probabilities: float32 [N,K]; clip_features: float32 [N,D];
    features: float32 [D], their mean. Views of a clip are averaged. timings: seconds by stage.
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
