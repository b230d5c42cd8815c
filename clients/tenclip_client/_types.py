"""The results of calls, as frozen dataclasses, and the types of their arguments.

K: clips. D: length of a feature vector. Times are seconds from the video's first frame; intervals are half open.
Vectors are `array.array("f")` (float32): `numpy.asarray(vector)` or `torch.frombuffer(vector)` view them in place.
"""

from __future__ import annotations

import base64
import dataclasses
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ClipMode = Literal["uniform", "center", "windows", "salient"]


@dataclass(frozen=True)
class ServerPath:
    """A video that the server opens itself: a path on its machine, below one of the roots it was started with."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class ServerUri:
    """A video that the server fetches itself: `https://...`, `s3://...`, `file:/...`, whichever of these it allows."""

    uri: str

    def __str__(self) -> str:
        return self.uri


class UseClientDefault:
    """The type of USE_CLIENT_DEFAULT: the timeout of the client, since None already means no deadline."""

    def __repr__(self) -> str:
        return "USE_CLIENT_DEFAULT"


USE_CLIENT_DEFAULT = UseClientDefault()
# A deadline in seconds, None for none, or the client's own.
Timeout: TypeAlias = "float | UseClientDefault | None"


class _Result:
    """Base of all results."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: dicts, lists, numbers and strings (of bytes, their base64)."""
        plain: dict[str, Any] = _plain(self)
        return plain


@dataclass(frozen=True, kw_only=True)
class ClassScore(_Result):
    """A class and its probability. `label` is the class number where nobody published the names.

    `calibrated`: the probability after temperature scaling; None for scores of clips, and where the model holds no
    calibration of what ran.
    """

    index: int
    label: str
    score: float
    calibrated: float | None = None


@dataclass(frozen=True, kw_only=True)
class ClipInfo(_Result):
    """One clip: T frames that the network saw at once. `looped`: it reached beyond the end and began again.

    `index`: its place among the clips that were planned; an adaptive prediction that stopped early leaves some out.
    """

    index: int
    start_seconds: float
    end_seconds: float
    frame_indices: tuple[int, ...] = field(repr=False)
    looped: bool


@dataclass(frozen=True, kw_only=True)
class ClipPrediction(_Result):
    """The best classes of one clip, best first."""

    clip: ClipInfo
    top: tuple[ClassScore, ...]


@dataclass(frozen=True, kw_only=True)
class ClipUpdate(_Result):
    """One clip as soon as it is done. `top`: the video so far, averaged over the `num_done` clips of `num_clips`."""

    clip: ClipPrediction
    top: tuple[ClassScore, ...]
    num_done: int
    num_clips: int


@dataclass(frozen=True, kw_only=True)
class ClipFeatures(_Result):
    """The input of the classifier's last layer for one clip: float32 [D]."""

    clip: ClipInfo
    values: array[float] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Features(_Result):
    """Feature vectors of every clip, and their mean over the video: [D] float32."""

    clips: tuple[ClipFeatures, ...]
    mean: array[float] = field(repr=False)

    @property
    def dim(self) -> int:
        """D, the length of a feature vector."""
        return len(self.mean)

    def numpy(self) -> NDArray[np.float32]:
        """The clips' vectors as one array: float32 [K,D]. Needs numpy, which the client itself does not."""
        import numpy as np

        flat = b"".join(c.values.tobytes() for c in self.clips)
        return np.frombuffer(bytearray(flat), np.float32).reshape(len(self.clips), self.dim)


@dataclass(frozen=True, kw_only=True)
class TimelinePoint(_Result):
    """The salience of one window, comparable within one video and one scorer. `selected`: it was classified."""

    start_seconds: float
    end_seconds: float
    score: float
    selected: bool


@dataclass(frozen=True, kw_only=True)
class Timeline(_Result):
    """The salience of every window of a video, in order of time.

    `scorer`: "motion-energy", or the name of a learned sampler. `flat`: all scores are equal, and say nothing of where
    the action is. `notes`: what the scorer could not use, or took instead.
    """

    scorer: str
    points: tuple[TimelinePoint, ...]
    flat: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AdaptiveReport(_Result):
    """How far an adaptive prediction went: clips that were planned, and those of them that the network saw.

    `settled`: the stopping rule ended it before the last clip. Of videos like those that the rule was calibrated on,
    at most the share `error_bound` has another class than all clips would give, with the probability `confidence`.
    """

    clips_planned: int
    clips_used: int
    settled: bool
    error_bound: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Thumbnail(_Result):
    """A small picture of a video, upright: a JPEG file of `width` x `height` pixels."""

    seconds: float
    jpeg: bytes = field(repr=False)
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class VideoInfo(_Result):
    """The properties of a video file, as the server found them.

    Width and height are as shown: the frames are turned `rotation` degrees clockwise, then mirrored left to right if
    `mirrored`.

    `num_frames` is counted; `declared_frames` is what the header says, 0 when it says nothing.
    """

    container: str
    codec: str
    width: int
    height: int
    rotation: int
    frames_per_second: float
    num_frames: int
    declared_frames: int
    duration_seconds: float
    has_audio: bool
    variable_frame_rate: bool
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class DecodeReport(_Result):
    """Frames that could not be decoded, and warnings.

    A substituted frame repeats its nearest decoded neighbour. A corrupt frame is used as the decoder repaired it.
    """

    frames_requested: int
    frames_decoded: int
    frames_substituted: int
    warnings: tuple[str, ...]
    frames_corrupt: int = 0


@dataclass(frozen=True, kw_only=True)
class Provenance(_Result):
    """Model, protocol and runtime of an answer. `timings`: seconds by stage, on the server."""

    model: str
    version: str
    protocol: str
    runtime: str
    server_version: str
    request_id: str
    timings: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Prediction(_Result):
    """The answer to `predict`. `top`: the best classes of the whole video, best first.

    `clips` and `thumbnails` are empty, `features` and `timeline` are None, unless they were asked for (a salient
    selection always has a timeline; a server older than thumbnails sends none). `adaptive` is set where the prediction
    was to be adaptive.
    """

    top: tuple[ClassScore, ...]
    clips: tuple[ClipPrediction, ...]
    features: Features | None
    timeline: Timeline | None
    video: VideoInfo
    report: DecodeReport
    provenance: Provenance
    thumbnails: tuple[Thumbnail, ...] = ()
    adaptive: AdaptiveReport | None = None

    @property
    def label(self) -> str:
        """The best class."""
        return self.top[0].label

    @property
    def score(self) -> float:
        """Its probability."""
        return self.top[0].score


@dataclass(frozen=True, kw_only=True)
class VideoFeatures(_Result):
    """The answer to `extract_features`. `timeline` is None unless it was asked for, or the selection was salient.

    `adaptive` is set where the clips were to be chosen adaptively.
    """

    features: Features
    video: VideoInfo
    report: DecodeReport
    provenance: Provenance
    timeline: Timeline | None = None
    thumbnails: tuple[Thumbnail, ...] = ()
    adaptive: AdaptiveReport | None = None


@dataclass(frozen=True, kw_only=True)
class Neighbour(_Result):
    """A clip of an index, and how near it is to a video that was asked about.

    `score`: the cosine of its features and those of `query_clip`, the nearest clip of that video; from -1 to 1.
    `video`: as the table of features names it, which need not be a path on the server or on this machine.
    """

    score: float
    video: str
    clip_index: int
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    source: str
    query_clip: ClipInfo


@dataclass(frozen=True, kw_only=True)
class IndexInfo(_Result):
    """An index that a server searches. `model`, `version`, `weights`: whose features it has ("" for unknown weights).

    `kind`: "exact-fp16" and "exact-float32" look at every clip, "ivf-sq8" at the nearest lists of clips.
    `recall_at_10`: the share of the ten nearest clips that a search finds; None where it was not measured.
    `protocols`: what its clips were chosen by. `labels`: how many its clips have.
    """

    name: str
    model: str
    version: str
    weights: str
    kind: str
    dimension: int
    clips: int
    videos: int
    recall_at_10: float | None
    sources: tuple[str, ...]
    protocols: tuple[str, ...]
    labels: int


@dataclass(frozen=True, kw_only=True)
class SimilarVideos(_Result):
    """The answer to `similar`: neighbours of a video, the nearest first. `features` is None unless it was asked for."""

    neighbours: tuple[Neighbour, ...]
    index: IndexInfo
    video: VideoInfo
    report: DecodeReport
    provenance: Provenance
    features: Features | None = None
    thumbnails: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoppingRule(_Result):
    """When an adaptive prediction stops: the best class leads the second by `threshold`, after at least `min_clips`.

    `error_bound` and `confidence` are as in `AdaptiveReport`; `mean_clips` is what the `num_videos` videos of the
    calibration used of `max_clips`.
    """

    threshold: float
    min_clips: int
    max_clips: int
    error_bound: float
    confidence: float
    num_videos: int
    mean_clips: float


@dataclass(frozen=True, kw_only=True)
class SamplerInfo(_Result):
    """The learned sampler of a model, which scores windows for a salient selection.

    `kind`: what it looks at ("compressed", "keyframes", "rgb", "audio"). `loss`: what it was trained with ("ac" or
    "rank"). `clip_span`, `window_step`: frames of a window and from one to the next, at `target_fps` (None: the video's
    own). `audio_clips`: how many clips a second network chooses by sound. `stopping`: the rule of adaptive predictions
    that name no error bound, None where there is none; `other_stopping`: those of other bounds, the strictest first.
    """

    name: str
    kind: str
    loss: str
    clip_span: int
    window_step: int
    target_fps: float | None
    teacher: str
    audio_clips: int
    stopping: StoppingRule | None
    other_stopping: tuple[StoppingRule, ...] = ()

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """All stopping rules, the strictest bound first; none where the model cannot predict adaptively."""
        rules = (*(() if self.stopping is None else (self.stopping,)), *self.other_stopping)
        return tuple(sorted(rules, key=lambda rule: rule.error_bound))


@dataclass(frozen=True, kw_only=True)
class ModelInfo(_Result):
    """A model that the server holds. `labels` and `bundle` (bundle.json) are filled by `get_model` only.

    `state` is "READY", or why it is not. `label_source`: "file" for real names, "index" where the class numbers stand
    for names that nobody published, "none" where the model has no classifier (`num_classes` 0) and gives features only.
    `sampler` is None where salient clips are found by motion energy. `variant`: the one that runs.
    """

    name: str
    version: str
    is_default_version: bool
    architecture: str
    family: str
    num_classes: int
    feature_dim: int
    runtime: str
    runtime_reason: str
    default_protocol: str
    protocols: tuple[str, ...]
    clip_spec: Mapping[str, Any] = field(repr=False)
    state: str
    label_source: str
    labels: tuple[str, ...] = field(repr=False)
    bundle: Mapping[str, Any] = field(repr=False)
    sampler: SamplerInfo | None = None
    variant: str = ""

    @property
    def ref(self) -> str:
        """`name:version`, as the `model` argument of every call takes it."""
        return f"{self.name}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class FailedModel(_Result):
    """A directory that looks like a bundle and could not be loaded.

    version: "" where the server cannot even list the versions.
    """

    name: str
    version: str
    error: str

    @property
    def ref(self) -> str:
        """`name:version`, or `name`."""
        return f"{self.name}:{self.version}" if self.version else self.name


@dataclass(frozen=True, kw_only=True)
class ModelList(_Result):
    """The answer to `list_models`; iterating it gives the models."""

    models: tuple[ModelInfo, ...]
    failed: tuple[FailedModel, ...]

    def __iter__(self) -> Iterator[ModelInfo]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)


@dataclass(frozen=True, kw_only=True)
class ModelChanges(_Result):
    """The effect of a change of the server's models. `loaded` and `unloaded`: `name:version`.

    `failed` could not be loaded; where an older copy was served, it still is.
    """

    loaded: tuple[str, ...]
    unloaded: tuple[str, ...]
    failed: tuple[FailedModel, ...]


def _plain(value: Any) -> Any:
    if isinstance(value, _Result):
        # Every result is a dataclass; _Result itself is never made.
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}  # type: ignore[arg-type]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list | array):
        return [_plain(v) for v in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value
