"""Every error that tenclip raises on purpose: one tree for the library, the server and the client.

A server raises them, one interceptor sends `reason` and the message over gRPC under `grpc_status`, and the client
raises the same class again, so `except EmptyVideo` works alike on a local file and on a remote prediction.

::

    TenclipError                     INTERNAL             anything of ours; also ValueError where the caller is at fault
    |-- VideoError                   INVALID_ARGUMENT     something about one video (`.source` names it)
    |   |-- VideoNotFound            NOT_FOUND            no such file
    |   |-- NotAFile                 INVALID_ARGUMENT     a directory, a socket, a device
    |   |-- VideoNotReadable         PERMISSION_DENIED    the operating system refuses to read it
    |   |-- EmptyVideo               INVALID_ARGUMENT     zero bytes
    |   |-- NotAVideo                INVALID_ARGUMENT     no container or codec that we accept
    |   |-- NoVideoStream            INVALID_ARGUMENT     audio only
    |   |-- NoFrames                 INVALID_ARGUMENT     a video stream that holds no frames (zero duration)
    |   |-- UndecodableVideo         INVALID_ARGUMENT     frames are there, none of them decodes
    |   |-- TruncatedVideo           INVALID_ARGUMENT     cut off before its first frame can be decoded
    |   |-- NotAnImage               INVALID_ARGUMENT     no image in a format that we accept
    |   |-- UndecodableImage         INVALID_ARGUMENT     an image that is damaged or cut off
    |   |-- VideoTooLarge            INVALID_ARGUMENT     more bytes, pixels, frames or seconds than allowed
    |   |-- VideoChanged             FAILED_PRECONDITION  other bytes than an index of videos says
    |   `-- FetchFailed              FAILED_PRECONDITION  what a URI names could not be had from its host
    |-- PathNotAllowed               PERMISSION_DENIED    outside the roots that the server may read
    |-- UriNotAllowed                PERMISSION_DENIED    a scheme, host or address that the server does not fetch from
    |-- InvalidRequest               INVALID_ARGUMENT     a field that is missing, contradictory or out of range
    |-- ModelError                   FAILED_PRECONDITION
    |   |-- ModelNotFound            NOT_FOUND            no such model
    |   |-- VersionNotFound          NOT_FOUND            the model is there, the version is not
    |   |-- NoClassifier             FAILED_PRECONDITION  a prediction of a model that has features only
    |   |-- BundleError              FAILED_PRECONDITION  a bundle that is incomplete, inconsistent or corrupt
    |   |-- ParityError              FAILED_PRECONDITION  golden outputs drift beyond the bundle's tolerance
    |   `-- CheckpointError          FAILED_PRECONDITION  a checkpoint that cannot be loaded whole
    |-- DatasetError                 INVALID_ARGUMENT     a manifest or folder of videos that cannot be used
    |-- IndexNotFound                NOT_FOUND            no index of neighbours, or none of this name
    |-- IndexMismatch                FAILED_PRECONDITION  features of one model, an index of another
    |-- TrainingDiverged             INTERNAL             a loss or gradient of a training run is not finite
    |-- MissingDependency            FAILED_PRECONDITION  names the extra to install
    |-- MessageTooLarge              RESOURCE_EXHAUSTED   a message beyond the server's limit
    |-- Overloaded                   RESOURCE_EXHAUSTED   refused for now; `.retry_after_seconds` says till when
    |   `-- DeviceMemoryFull         RESOURCE_EXHAUSTED   not even one clip fits into the GPU's memory now
    |-- DeadlineExceeded             DEADLINE_EXCEEDED
    |-- Cancelled                    CANCELLED
    |-- Unauthenticated              UNAUTHENTICATED      no token, or none that the server knows
    |-- PermissionDenied             PERMISSION_DENIED    this server, or the caller's token, is not for this
    |-- ServerUnavailable            UNAVAILABLE          no server there, or it is going away
    |-- DecodeWorkerDied             UNAVAILABLE          the process that decoded this video crashed or ran too long
    |-- WorkerEnded                  UNAVAILABLE          a process of a batch ended at this video, without a word
    `-- ServerError                  INTERNAL             a fault of the server's; `.request_id` finds it in its log
"""

from __future__ import annotations

import re
from typing import ClassVar


class TenclipError(Exception):
    """Base of everything in this tree.

    `reason` is the stable name on the wire (the class name in SCREAMING_SNAKE_CASE), `grpc_status` the name of the
    gRPC status code that carries it. The text may be given as `message`, too, as it can be read.
    """

    grpc_status: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "TENCLIP_ERROR"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # A word begins where a capital follows a small letter, or precedes one: NotAVideo -> NOT_A_VIDEO.
        cls.reason = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).upper()

    def __init__(self, *args: object, message: str | None = None) -> None:
        # torch raises an error of a DataLoader's process again with `message=`, where its class has that attribute.
        super().__init__(*args, *(() if message is None else (message,)))

    @property
    def message(self) -> str:
        """The text of the error; the name of its class where it has none."""
        return str(self.args[0]) if self.args else type(self).__name__


class VideoError(TenclipError, ValueError):
    """One video could not be used. `source` names it as the caller did (a path, or `<bytes>`)."""

    grpc_status = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, source: str = "") -> None:
        super().__init__(message)
        self.source = source

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields do not survive pickling by default, and these errors cross process borders.
        return (_rebuild_video_error, (type(self), self.message, self.source))


def _rebuild_video_error(cls: type[VideoError], message: str, source: str) -> VideoError:
    return cls(message, source=source)


class VideoNotFound(VideoError):
    """There is no such file."""

    grpc_status = "NOT_FOUND"


class NotAFile(VideoError):
    """The path is a directory, a socket or a device."""


class VideoNotReadable(VideoError):
    """The operating system refuses to read the file, or to list the folder."""

    grpc_status = "PERMISSION_DENIED"


class EmptyVideo(VideoError):
    """The file has no bytes."""


class NotAVideo(VideoError):
    """The file is no container or codec that tenclip accepts."""


class NoVideoStream(VideoError):
    """The file has no video stream, only audio for example."""


class NoFrames(VideoError):
    """The file has a video stream without frames."""


class UndecodableVideo(VideoError):
    """The file has frames, and none of them can be decoded."""


class TruncatedVideo(VideoError):
    """The file ends before its first frame can be decoded."""


class NotAnImage(VideoError):
    """The file, listed as an image, is none in a format that tenclip accepts."""


class UndecodableImage(VideoError):
    """The image is damaged, or ends before its last row."""


class VideoTooLarge(VideoError):
    """The video has more bytes, pixels, frames or seconds than allowed."""


class VideoChanged(VideoError):
    """The bytes of the video are not those that an index was made of."""

    grpc_status = "FAILED_PRECONDITION"


class FetchFailed(VideoError):
    """The server could not fetch what a URI names from its host."""

    grpc_status = "FAILED_PRECONDITION"


class UriNotAllowed(TenclipError):
    """The server does not fetch from this scheme, host or address."""

    grpc_status = "PERMISSION_DENIED"


class PathNotAllowed(TenclipError):
    """The path is outside the folders that the server may read."""

    grpc_status = "PERMISSION_DENIED"


class InvalidRequest(TenclipError, ValueError):
    """An argument or option is missing, contradictory or out of range."""

    grpc_status = "INVALID_ARGUMENT"


class ModelError(TenclipError):
    """A model could not be loaded or used."""

    grpc_status = "FAILED_PRECONDITION"


class ModelNotFound(ModelError):
    """There is no model of this name."""

    grpc_status = "NOT_FOUND"


class VersionNotFound(ModelError):
    """There is a model of this name, but not this version of it."""

    grpc_status = "NOT_FOUND"


class NoClassifier(ModelError):
    """The model was exported without a classifier: it answers features and no predictions."""


class BundleError(ModelError):
    """A bundle is incomplete, inconsistent or corrupt."""


class ParityError(ModelError):
    """A model's outputs on its golden clips differ by more than the bundle's tolerance."""


class CheckpointError(ModelError):
    """A checkpoint cannot be loaded whole."""


class DatasetError(TenclipError, ValueError):
    """A manifest, a folder of videos or a table of features cannot be used."""

    grpc_status = "INVALID_ARGUMENT"


class IndexNotFound(TenclipError):
    """There is no index of neighbours, or none of this name."""

    grpc_status = "NOT_FOUND"


class IndexMismatch(TenclipError, ValueError):
    """The features are of one model, and the index of neighbours is of another."""

    grpc_status = "FAILED_PRECONDITION"


class TrainingDiverged(TenclipError):
    """A loss or a gradient of a training run is not finite, so that nothing more can be learned from it."""


class MissingDependency(TenclipError):
    """A package is not installed; the message names the extra that brings it."""

    grpc_status = "FAILED_PRECONDITION"


class MessageTooLarge(TenclipError):
    """A message is larger than the server's limit."""

    grpc_status = "RESOURCE_EXHAUSTED"


class Overloaded(TenclipError):
    """The server refuses the request for now. `retry_after_seconds`: when to try again, where it says so."""

    grpc_status = "RESOURCE_EXHAUSTED"
    retry_after_seconds: float | None = None


class DeviceMemoryFull(Overloaded):
    """Not even one clip fits into the memory of the server's GPU, beside what is there already."""

    grpc_status = "RESOURCE_EXHAUSTED"
    retry_after_seconds = 1.0


class DeadlineExceeded(TenclipError):
    """There was no answer before the call's deadline."""

    grpc_status = "DEADLINE_EXCEEDED"


class Cancelled(TenclipError):
    """The call was cancelled, by the caller or by closing the client."""

    grpc_status = "CANCELLED"


class Unauthenticated(TenclipError):
    """The request has no token, or none that the server knows."""

    grpc_status = "UNAUTHENTICATED"


class PermissionDenied(TenclipError):
    """The server, or the permissions of the caller's token, do not allow this call."""

    grpc_status = "PERMISSION_DENIED"


class ServerUnavailable(TenclipError):
    """No server answers, or it is shutting down, or the connection broke."""

    grpc_status = "UNAVAILABLE"


class DecodeWorkerDied(TenclipError):
    """The process that decoded the video crashed or took too long."""

    grpc_status = "UNAVAILABLE"


class WorkerEnded(TenclipError):
    """The process of a batch that worked on the video ended without a word, as often as a video may do that."""

    grpc_status = "UNAVAILABLE"


class ServerError(TenclipError):
    """A fault of the server. `request_id` finds it in the server's log."""

    request_id: str = ""


def error_classes() -> dict[str, type[TenclipError]]:
    """Every class of the tree by its `reason`, e.g. `{"EMPTY_VIDEO": EmptyVideo, ...}`."""
    found: dict[str, type[TenclipError]] = {TenclipError.reason: TenclipError}
    pending = list(TenclipError.__subclasses__())
    while pending:
        cls = pending.pop()
        found[cls.reason] = cls
        pending.extend(cls.__subclasses__())
    return found
