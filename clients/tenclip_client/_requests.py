"""One RPC before it is sent (`Call`), and the request messages, made from arguments. Nothing here uses the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, get_args

from tenclip_api.errors import InvalidRequest
from tenclip_api.v1 import tenclip_pb2 as pb
from tenclip_client._types import USE_CLIENT_DEFAULT, ClipMode, Timeout
from tenclip_client._video import Pieces, VideoSource, load_video, pieces_of_bytes

Result = TypeVar("Result")

_MODES = {
    None: pb.CLIP_MODE_UNSPECIFIED,
    "uniform": pb.UNIFORM,
    "center": pb.CENTER,
    "windows": pb.WINDOWS,
    "salient": pb.SALIENT,
}
_SPATIAL_MODES = {None: pb.SPATIAL_MODE_UNSPECIFIED, False: pb.POOLED, True: pb.FULLY_CONVOLUTIONAL}
_UINT32_MAX = 2**32 - 1

# The methods that take a video in one message, with their other form, which takes it in pieces.
_UPLOAD_METHODS = {
    "Predict": "PredictUpload",
    "PredictStream": "PredictUploadStream",
    "ExtractFeatures": "ExtractFeaturesUpload",
    "Similar": "SimilarUpload",
}
_UPLOAD_MESSAGES: dict[str, Any] = {
    "PredictUpload": pb.PredictUploadRequest,
    "PredictUploadStream": pb.PredictUploadRequest,
    "ExtractFeaturesUpload": pb.ExtractFeaturesUploadRequest,
    "SimilarUpload": pb.SimilarUploadRequest,
}


@dataclass(frozen=True, kw_only=True)
class Call(Generic[Result]):
    """One RPC: what is sent, and how the answer is read. `Client` waits for it, `AsyncClient` awaits it.

    method, service: what is called. request: its message. parse: turns each response message into a result.
    timeout: the deadline of this call, in seconds.
    video, name: the video of the call, and what its user calls it; `load` puts it into the request.
    source: the video's name in errors. pieces: the video itself, where it is uploaded in pieces.
    """

    method: str
    request: Any = field(repr=False)
    parse: Callable[[Any], Result] = field(repr=False)
    service: Literal["VideoRecognition", "ModelManagement"] = "VideoRecognition"
    timeout: Timeout = USE_CLIENT_DEFAULT
    video: VideoSource | None = field(default=None, repr=False)
    name: str | None = None
    source: str = ""
    pieces: Pieces | None = field(default=None, repr=False)

    def load(self) -> Call[Result]:
        """The call with its video in it; this reads the disk. Raises what `load_video` raises."""
        if self.video is None:
            return self
        payload = load_video(self.video, self.name)
        self.request.video.name = payload.name
        if payload.pieces is not None:
            return replace(self, method=_UPLOAD_METHODS[self.method], source=payload.name, pieces=payload.pieces)
        if payload.path:
            self.request.video.path = payload.path
        elif payload.uri:
            self.request.video.uri = payload.uri
        else:
            self.request.video.data = payload.data
        return replace(self, source=payload.name)

    def as_upload(self) -> Call[Result] | None:
        """The same call with its video in pieces, for a server with a lower message limit; None without such a form."""
        upload = _UPLOAD_METHODS.get(self.method)
        if upload is None or not self.request.video.data:
            return None
        data = self.request.video.data
        request = type(self.request)()
        request.CopyFrom(self.request)
        request.video.ClearField("data")
        pieces = Pieces(len(data), lambda: pieces_of_bytes(data))
        return replace(self, method=upload, request=request, pieces=pieces)

    def messages(self) -> Iterator[Any]:
        """The messages of an upload: the request, then the video, read piece by piece as gRPC asks for them."""
        assert self.pieces is not None
        message = _UPLOAD_MESSAGES[self.method]
        yield message(request=self.request, num_bytes=self.pieces.size)
        for piece in self.pieces.read():
            yield message(chunk=piece)


def predict_request(
    *,
    model: str,
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    fully_convolutional: bool | None,
    adaptive: bool,
    error_bound: float | None,
    sampler: str | None,
    protocol: str | None,
    top_k: int,
    clip_scores: bool,
    features: bool,
    timeline: bool,
    thumbnails: int = 0,
) -> pb.PredictRequest:
    """Raises InvalidRequest for what no server could accept; what depends on the model, the server judges."""
    return pb.PredictRequest(
        model=model_ref(model),
        clips=clip_selection(
            clips, num_clips, window_step, start, end, adaptive=adaptive, error_bound=error_bound, sampler=sampler
        ),
        spatial_mode=spatial_mode(fully_convolutional),
        protocol=protocol or "",
        top_k=_count("top_k", top_k),
        include_clip_scores=clip_scores,
        include_features=features,
        include_timeline=timeline,
        thumbnails=_thumbnails(thumbnails),
    )


def features_request(
    *,
    model: str,
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    fully_convolutional: bool | None,
    adaptive: bool,
    error_bound: float | None,
    sampler: str | None,
    protocol: str | None,
    timeline: bool,
    thumbnails: int = 0,
) -> pb.ExtractFeaturesRequest:
    """Raises InvalidRequest, as `predict_request`."""
    return pb.ExtractFeaturesRequest(
        model=model_ref(model),
        clips=clip_selection(
            clips, num_clips, window_step, start, end, adaptive=adaptive, error_bound=error_bound, sampler=sampler
        ),
        spatial_mode=spatial_mode(fully_convolutional),
        protocol=protocol or "",
        include_timeline=timeline,
        thumbnails=_thumbnails(thumbnails),
    )


def similar_request(
    *,
    index: str,
    k: int,
    by_video: bool,
    labels: Sequence[str],
    sources: Sequence[str],
    without_videos: Sequence[str],
    model: str,
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    fully_convolutional: bool | None,
    sampler: str | None,
    protocol: str | None,
    features: bool,
    thumbnails: int,
) -> pb.SimilarRequest:
    """Raises InvalidRequest, as `predict_request`."""
    return pb.SimilarRequest(
        index=index,
        k=_count("k", k),
        by_video=by_video,
        labels=_names("labels", labels),
        sources=_names("sources", sources),
        without_videos=_names("without_videos", without_videos),
        model=model_ref(model),
        clips=clip_selection(clips, num_clips, window_step, start, end, sampler=sampler),
        spatial_mode=spatial_mode(fully_convolutional),
        protocol=protocol or "",
        include_features=features,
        thumbnails=_thumbnails(thumbnails),
    )


def model_ref(model: str) -> pb.ModelRef:
    """`""` (the server's only model), `"name"` (its default version) or `"name:version"`. Raises InvalidRequest."""
    name, colon, version = model.partition(":")
    if (colon and not (name and version)) or ":" in version:
        raise InvalidRequest(f"model {model!r}: write NAME or NAME:VERSION")
    return pb.ModelRef(name=name, version=version)


def required_model_ref(model: str) -> pb.ModelRef:
    """`model_ref` where a name is needed. Raises InvalidRequest."""
    if not model:
        raise InvalidRequest("name the model: NAME or NAME:VERSION")
    return model_ref(model)


def clip_selection(
    clips: ClipMode | None,
    num_clips: int | None,
    window_step: int | None,
    start: float | None,
    end: float | None,
    *,
    adaptive: bool = False,
    error_bound: float | None = None,
    sampler: str | None = None,
) -> pb.ClipSelection:
    """Raises InvalidRequest. start, end: seconds from the video's first frame."""
    if clips not in _MODES:
        raise InvalidRequest(f"clips {clips!r} is not one of {', '.join(get_args(ClipMode))}")
    if adaptive and clips not in (None, "salient"):
        raise InvalidRequest(
            f"adaptive prediction runs clips in the order of their salience, which clips={clips!r} do not have; leave "
            "clips out, or name 'salient'"
        )
    if error_bound is not None:
        if not adaptive:
            raise InvalidRequest(f"error_bound {error_bound:g} is of adaptive prediction; ask for that, too")
        if not 0 < error_bound < 1:
            raise InvalidRequest(f"error_bound is a share of videos, between 0 and 1; got {error_bound:g}")
    for what, seconds in (("start", start), ("end", end)):
        if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidRequest(f"{what} must be finite and not negative, in seconds; got {seconds}")
    if end is not None and end <= (start or 0):
        raise InvalidRequest(f"end {end:g} s is not after start {start or 0:g} s")
    return pb.ClipSelection(
        mode=_MODES[clips],
        num_clips=0 if num_clips is None else _count("num_clips", num_clips),
        window_step_frames=0 if window_step is None else _count("window_step", window_step),
        start_seconds=start or 0.0,
        end_seconds=end or 0.0,
        adaptive=bool(adaptive),
        error_bound=error_bound or 0.0,
        sampler=sampler or "",
    )


def spatial_mode(fully_convolutional: bool | None) -> pb.SpatialMode.ValueType:
    return _SPATIAL_MODES[None if fully_convolutional is None else bool(fully_convolutional)]


def _count(what: str, value: int) -> int:
    if not 1 <= value <= _UINT32_MAX:
        raise InvalidRequest(f"{what} must be at least 1, got {value}")
    return value


def _names(what: str, names: Sequence[str]) -> list[str]:
    if isinstance(names, str):
        raise InvalidRequest(f"{what} is a sequence of names, got the text {names!r}")
    return list(names)


def _thumbnails(count: int) -> int:
    if not 0 <= count <= _UINT32_MAX:
        raise InvalidRequest(f"thumbnails must be at least 0, got {count}")
    return count
