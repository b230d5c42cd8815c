"""A still image as a network's clips: what `read_clips` is for videos, where images are evaluated."""

from __future__ import annotations

import numpy as np

from tenclip_api.errors import InvalidRequest
from tenclip_video.clips import VideoClips
from tenclip_video.images import ImageSource, read_image
from tenclip_video.protocols import Protocol
from tenclip_video.sampling import Clip
from tenclip_video.source import Limits
from tenclip_video.spec import ClipSpec
from tenclip_video.transforms import crop_offsets
from tenclip_video.video import DecodeReport, VideoInfo


def read_image_clips(
    source: ImageSource,
    spec: ClipSpec,
    protocol: Protocol | None = None,
    *,
    name: str | None = None,
    limits: Limits | None = None,
) -> VideoClips:
    """One clip, whose frames are all the image, in the views of `protocol`, however many clips that takes of videos.

    Raises a VideoError for an image that cannot be used, and InvalidRequest for a crop that does not fit and for
    clips of optical flow.
    """
    protocol = protocol or Protocol()
    spec = protocol.apply(spec)
    if spec.modality != "rgb":
        raise InvalidRequest(f"{name or '<bytes>'}: an image does not move, and the network is one of optical flow")
    side = protocol.crop_side(spec)
    pixels = read_image(source, spec.resize, name=name, limits=limits)
    height, width = pixels.shape[:2]
    try:
        offsets = crop_offsets(height, width, side, protocol.crop)
    except ValueError as err:
        raise InvalidRequest(f"{name or '<bytes>'}: {err}") from err
    views = [pixels[top : top + side, left : left + side] for top, left in offsets]
    clips = np.stack([np.repeat(view[None], spec.num_frames, axis=0) for view in views])
    if spec.color_order == "bgr":
        clips = np.ascontiguousarray(clips[..., ::-1])
    info = VideoInfo(
        container="image",
        codec="image",
        width=width,
        height=height,
        coded_width=width,
        coded_height=height,
        rotation=0,
        pixel_format="rgb24",
        sample_aspect_ratio=1.0,
        frames_per_second=0.0,
        num_frames=1,
        declared_frames=1,
        num_keyframes=1,
        duration_seconds=0.0,
        has_audio=False,
        variable_frame_rate=False,
        seekable=False,
    )
    plan = (Clip((0,) * spec.num_frames, looped=spec.num_frames > 1),)
    return VideoClips(clips, plan, ((0.0, 0.0),), protocol.views, info, DecodeReport(frames_requested=1))
