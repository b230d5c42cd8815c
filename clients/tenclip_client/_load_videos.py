"""The videos that a benchmark sends, with their weights, from the arguments of `tenclip bench`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tenclip_api.errors import InvalidRequest
from tenclip_client._inputs import expand_inputs
from tenclip_client._load import LoadVideo
from tenclip_client._types import ServerPath, ServerUri
from tenclip_client._video import VideoPayload, VideoSource, load_video

# All videos are held in memory, so that no disk is measured.
_MAX_BYTES = 2**31


def weighted_videos(arguments: Sequence[str], *, server_path: bool = False) -> list[LoadVideo]:
    """Read the videos of every argument. The videos of one argument share its weight.

    Raises the error of the first video that cannot be read, and InvalidRequest for a weight that is not positive.
    """
    found: list[LoadVideo] = []
    num_bytes = 0
    for argument in arguments:
        pattern, weight = split_weight(argument, server_path=server_path)
        inputs = expand_inputs([pattern], server_paths=server_path)
        for video in inputs:
            if video.error is not None:
                raise video.error
            payload = load_video(video.source, video.name)
            num_bytes += len(payload.data) if payload.pieces is None else payload.pieces.size
            _check_size(num_bytes)
            data = _whole(video.source, payload)
            found.append(LoadVideo(name=payload.name, data=data, group=argument, weight=weight / len(inputs)))
    return found


def _whole(source: VideoSource, payload: VideoPayload) -> bytes | ServerPath | ServerUri:
    if isinstance(source, ServerPath | ServerUri):
        return source
    return payload.data if payload.pieces is None else b"".join(payload.pieces.read())


def split_weight(argument: str, *, server_path: bool = False) -> tuple[str, float]:
    """`clips/@3` -> (`clips/`, 3). A file whose whole name is the argument has weight 1. Raises InvalidRequest."""
    name, at, text = argument.rpartition("@")
    if not at or not name or (not server_path and Path(argument).exists()):
        return argument, 1.0
    try:
        weight = float(text)
    except ValueError:
        return argument, 1.0  # an @ in the name; if that is no file, the error will say so
    if not (math.isfinite(weight) and weight > 0):
        raise InvalidRequest(f"{argument}: a weight must be positive, got {text}")
    return name, weight


def _check_size(num_bytes: int) -> None:
    if num_bytes > _MAX_BYTES:
        raise InvalidRequest(
            f"the videos take more than {_MAX_BYTES >> 30} GiB, and bench holds them all in memory; name fewer, or "
            "let the server read them (--server-path)"
        )
