"""The tenclip client: predictions and features of video files from a tenclip server.

::

    from tenclip_client import Client

    with Client("127.0.0.1:7411") as client:
        prediction = client.predict("archery.avi", clip_scores=True)
        for score in prediction.top:
            print(f"{score.score:.1%} {score.label}")

`AsyncClient` is the same for asyncio. Every failure is one of `tenclip_api.errors`, re-exported here.
"""

from tenclip_api.errors import (
    BundleError,
    Cancelled,
    DeadlineExceeded,
    DecodeWorkerDied,
    EmptyVideo,
    FetchFailed,
    InvalidRequest,
    MessageTooLarge,
    ModelError,
    ModelNotFound,
    NoClassifier,
    NoFrames,
    NotAFile,
    NotAVideo,
    NoVideoStream,
    Overloaded,
    ParityError,
    PathNotAllowed,
    PermissionDenied,
    ServerError,
    ServerUnavailable,
    TenclipError,
    TruncatedVideo,
    Unauthenticated,
    UndecodableVideo,
    UriNotAllowed,
    VersionNotFound,
    VideoError,
    VideoNotFound,
    VideoNotReadable,
    VideoTooLarge,
)
from tenclip_client._aio import AsyncClient
from tenclip_client._client import Client
from tenclip_client._security import token_from_file
from tenclip_client._types import (
    USE_CLIENT_DEFAULT,
    AdaptiveReport,
    ClassScore,
    ClipFeatures,
    ClipInfo,
    ClipMode,
    ClipPrediction,
    ClipUpdate,
    DecodeReport,
    FailedModel,
    Features,
    ModelChanges,
    ModelInfo,
    ModelList,
    Prediction,
    Provenance,
    ServerPath,
    ServerUri,
    Timeline,
    TimelinePoint,
    VideoFeatures,
    VideoInfo,
)
from tenclip_client._video import VideoSource

__all__ = [
    "Client",
    "AsyncClient",
    "ServerPath",
    "ServerUri",
    "token_from_file",
    "VideoSource",
    "ClipMode",
    "USE_CLIENT_DEFAULT",
    # results
    "Prediction",
    "AdaptiveReport",
    "ClassScore",
    "ClipPrediction",
    "ClipUpdate",
    "ClipInfo",
    "VideoFeatures",
    "Features",
    "ClipFeatures",
    "Timeline",
    "TimelinePoint",
    "VideoInfo",
    "DecodeReport",
    "Provenance",
    "ModelList",
    "ModelInfo",
    "FailedModel",
    "ModelChanges",
    # errors
    "TenclipError",
    "VideoError",
    "VideoNotFound",
    "NotAFile",
    "VideoNotReadable",
    "EmptyVideo",
    "NotAVideo",
    "NoVideoStream",
    "NoFrames",
    "UndecodableVideo",
    "TruncatedVideo",
    "VideoTooLarge",
    "FetchFailed",
    "PathNotAllowed",
    "UriNotAllowed",
    "InvalidRequest",
    "ModelError",
    "ModelNotFound",
    "VersionNotFound",
    "NoClassifier",
    "BundleError",
    "ParityError",
    "MessageTooLarge",
    "Overloaded",
    "DeadlineExceeded",
    "Cancelled",
    "Unauthenticated",
    "PermissionDenied",
    "ServerUnavailable",
    "DecodeWorkerDied",
    "ServerError",
]
